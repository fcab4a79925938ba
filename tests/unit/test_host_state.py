"""What the preflight sees on a host, and the sentences that it makes of it."""

from __future__ import annotations

import fcntl
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import host_state as host
from preflight_host import platform_problems


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for folder in ("proc", "run/cloud-init", "var/lib/dpkg/updates"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "proc/meminfo").write_text("MemTotal:         464584 kB\nMemFree: 1 kB\n")
    return tmp_path


def look(root: Path, **more: Any) -> dict[str, Any]:
    given = {name: option["default"] for name, option in host.ARGUMENTS.items()}
    return host.look({**given, "cloud_init": str(root / "cloud-init"), **more}, root)


def test_small_memory_is_named(root: Path) -> None:
    (sentence,) = [each for each in look(root, memory_megabytes=600)["problems"] if "memory" in each]
    assert sentence.startswith("It has 453 MB of memory, and 600 MB are needed: give it more")
    assert not [each for each in look(root, memory_megabytes=453)["problems"] if "memory" in each]


@pytest.mark.parametrize(
    ("about", "wanted"),
    [
        ((9, 500, False, True), "/var has 9 MB of free space, and 500 MB are needed: make room there"),
        ((900, 500, True, True), "/var is mounted read-only"),
        ((900, 500, False, False), "/var has no room for more files (df -i /var)"),
        ((900, 500, False, True), ""),
    ],
)
def test_full_disk_is_named(about: tuple[int, int, bool, bool], wanted: str) -> None:
    found = host.disk_problem("/var", *about)
    assert found.startswith(wanted)
    assert bool(found) == bool(wanted)


def test_disk_of_this_machine_is_measured(root: Path) -> None:
    assert any("free space" in each for each in look(root, disk_megabytes=1 << 40)["problems"])


def test_broken_apt_is_said_in_its_own_words() -> None:
    said = "E: Malformed entry 1 in list file /etc/apt/x.list (Suite)\nE: The list of sources could not be read.\n"
    (found,) = host.apt_problems(said)
    assert found.startswith("apt is broken (Malformed entry 1 in list file /etc/apt/x.list (Suite); The list of")
    (found,) = host.apt_problems("E: Unmet dependencies. Try 'apt --fix-broken install' with no packages.\n")
    assert found.endswith(": apt-get --fix-broken install.")
    # The task apt_package finishes that.
    assert host.apt_problems("E: dpkg was interrupted, you must manually run 'dpkg --configure -a'\n") == []
    assert host.apt_problems("W: Target Packages is configured multiple times\n") == []


def test_apt_reads_its_lists_where_it_has_not_read_them(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []
    monkeypatch.setattr(host, "_run", lambda command, _: asked.append(command))
    lists, cache = root / "var/lib/apt/lists", root / "var/cache/apt"
    assert host.lists_unread(root)
    for folder in (lists, cache):
        folder.mkdir(parents=True, exist_ok=True)
    (lists / "archive_Packages").touch()
    assert host.lists_unread(root)
    (cache / "pkgcache.bin").touch()
    # The list is of today, and the archive says that it is old.
    os.utime(lists / "archive_Packages", (0, 0))
    os.utime(cache / "pkgcache.bin", (time.time() - 60,) * 2)
    assert host.lists_unread(root)
    look(root)
    os.utime(cache / "pkgcache.bin", (time.time() + 60,) * 2)
    assert not host.lists_unread(root)
    look(root)
    left_out = ["Dir::State::lists" in " ".join(command) for command in asked if command[0] == "apt-get"]
    assert left_out == [False, True]


def test_half_installed_packages_are_named_unless_dpkg_goes_on_with_them() -> None:
    said = "The following packages are only half configured:\n lsof   utility to list open files\n"
    (found,) = host.audit_problems(said, pending=False)
    assert "half installed (lsof)" in found
    assert host.audit_problems(said, pending=True) == []
    assert host.audit_problems("", pending=False) == []


def test_who_holds_the_lock_is_named(root: Path) -> None:
    lock = root / "var/lib/dpkg/lock-frontend"
    lock.touch()
    assert host.lock_holder(root) == ""
    program = (
        "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.lockf(f, fcntl.LOCK_EX); print(1, flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout
        holder.stdout.readline()
        (root / "proc" / str(holder.pid)).mkdir()
        (root / "proc" / str(holder.pid) / "comm").write_text("unattended-upgr\n")
        assert host.lock_holder(root) == f"unattended-upgr (process {holder.pid})"
        assert look(root)["waits"] == {"apt": f"unattended-upgr (process {holder.pid})"}
        holder.communicate(b"\n")
    assert host.lock_holder(root) == ""
    # To ask takes no lock.
    with lock.open("w") as file:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.mark.parametrize(
    ("program", "stage"),
    [
        ("echo status: running", "running"),
        ("echo status: not started", "not started"),
        ("echo status: done", ""),
        ("exit 1", ""),
    ],
)
def test_cloud_init_is_asked(root: Path, program: str, stage: str) -> None:
    path = root / "cloud-init"
    path.write_text(f"#!/bin/sh\n{program}\n")
    path.chmod(0o755)
    assert host.booting(root, str(path)) == stage
    # What it leaves when it is done is faster.
    (root / "run/cloud-init/result.json").write_text('{"v1": {"errors": []}}')
    assert host.booting(root, str(path)) == ""


def test_cloud_init_that_failed_is_worth_knowing(root: Path) -> None:
    result = root / "run/cloud-init/result.json"
    result.write_text('{"v1": {"errors": []}}')
    assert look(root)["notes"] == []
    result.write_text('{"v1": {"errors": ["(scripts_user, exit 1)"]}}')
    assert "cloud-init has ended with errors" in look(root)["notes"][0]


def test_places_that_answer_or_refuse_are_reached_and_others_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        paths = [
            {"name": "one", "address": "127.0.0.1", "port": port},
            {"name": "two", "address": "127.0.0.1", "port": 9},
            {"name": "three", "address": "no-such-host.invalid", "port": 80},
            # An address for broadcasts takes no connection.
            {"name": "four", "address": "255.255.255.255", "port": 80},
        ]
        found = host.unreached(paths, 0.5)
    assert {each["name"] for each in found} == {"three", "four"}
    assert all(each["why"] for each in found)


def test_brief_look_asks_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "_run", lambda *_: pytest.fail("a program was run"))
    found = look(root, brief=True, memory_megabytes=1 << 40, disk_megabytes=1 << 40)
    assert found["problems"] == []
    assert found["began"] <= found["ended"]


def test_locale_of_the_host_changes_no_word() -> None:
    said = host._run(["sh", "-c", "echo $LC_ALL"], 5)  # noqa: SLF001
    assert said == ("C\n", "", 0)
    assert host._run([os.devnull], 5) is None  # noqa: SLF001


def test_platform_that_the_roles_are_not_made_for_is_named() -> None:
    facts = {"ansible_distribution": "Debian", "ansible_distribution_version": "13.1"}
    facts |= {"ansible_distribution_major_version": "13", "ansible_architecture": "x86_64"}
    assert platform_problems(facts, {"Debian": ["12", "13"]}, ["x86_64"]) == []
    (found,) = platform_problems(facts, {"Debian": ["11", "12"]}, ["x86_64"])
    assert found == "It runs Debian 13.1, which is not supported: use one of Debian 11 and 12."
    (found,) = platform_problems(facts | {"ansible_architecture": "riscv64"}, {"Debian": ["13"]}, ["x86_64"])
    assert found == "It is riscv64, which is not supported: use one of x86_64."
