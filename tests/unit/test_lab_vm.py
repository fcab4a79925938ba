"""A lab's VMs, as far as no kernel is needed."""

from __future__ import annotations

import hashlib
import ipaddress
import os
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from evenkeel.errors import EvenkeelError
from evenkeel.lab import engine, hosts, settings
from evenkeel.lab.__main__ import main
from evenkeel.lab.kinds import vm
from evenkeel.lab.providers import qemu, uml
from evenkeel.lab.settings import Host, Lab, host_list, site_names

SUBNET = ipaddress.IPv4Network("10.213.77.0/24")


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Lab, Host, Path]]:
    """Return a lab, a host of it whose kernel is a script that waits, and the host's folder."""
    monkeypatch.setattr(settings, "PROJECT", tmp_path / "a folder")
    kernel = tmp_path / "bin" / "linux.uml"
    kernel.parent.mkdir()
    kernel.write_text("#!/bin/sh\nsleep 100 &\nwait\n")
    kernel.chmod(0o755)
    monkeypatch.setenv("PATH", f"{kernel.parent}:{os.environ['PATH']}")
    lab = Lab("some", SUBNET, host_list(site_names(1), SUBNET, 2200, {}))
    folder = lab.state / "vm" / "backend-1"
    folder.mkdir(parents=True)
    yield lab, lab.hosts[1], folder
    with suppress(FileNotFoundError):
        subprocess.run([folder / "power-off"], check=True, timeout=120)


def running(folder: Path) -> set[str]:
    """Return the processes of the host's session that run."""
    if not (folder / "pid").exists():
        return set()
    found = subprocess.run(
        ["ps", "-o", "pid=", "-s", (folder / "pid").read_text().strip()], check=False, capture_output=True, text=True
    )
    return set(found.stdout.split())


def test_power_is_given_once_and_cut_from_all_processes(host: tuple[Lab, Host, Path]) -> None:
    lab, backend, folder = host
    vm.write_power(lab, backend, uml, Path("/disk"))
    variables = vm.variables(lab)
    off, on = (
        str(variables[f"chaos_power_{state}"]).replace("{{ chaos_host }}", "backend-1") for state in ("off", "on")
    )
    subprocess.run(on, shell=True, check=True, timeout=120)
    while len(first := running(folder)) < 2:
        pass
    subprocess.run(on, shell=True, check=True, timeout=120)
    assert running(folder) == first
    subprocess.run(off, shell=True, check=True, timeout=120)
    assert not any(Path("/proc", process).exists() for process in first)
    # Off is off.
    subprocess.run(off, shell=True, check=True, timeout=120)


@pytest.mark.parametrize(("flags", "library"), [("fpu avx512f", ""), ("fpu amx_tile", "./wide_registers.so")])
def test_kernel_gets_help_only_with_registers_it_does_not_know(
    host: tuple[Lab, Host, Path], monkeypatch: pytest.MonkeyPatch, flags: str, library: str
) -> None:
    lab, backend, folder = host
    programs = settings.PROJECT.parent / "bin"
    (programs / "linux.uml").write_text('#!/bin/sh\necho "with ${LD_PRELOAD:-nothing} for $1"\n')
    (programs / "cc").write_text('#!/bin/sh\nwhile [ "$1" != -o ]; do shift; done\ncp "$3" "$2"\n')
    (programs / "cc").chmod(0o755)
    processor = folder / "cpuinfo"
    processor.write_text(f"flags\t\t: {flags}\n")
    monkeypatch.setattr(uml, "_PROCESSOR", processor)
    vm.write_power(lab, backend, uml, Path("/disk"))
    assert [file.name for file in folder.glob("*.so")] == ([library.removeprefix("./")] if library else [])
    subprocess.run([folder / "power-on"], check=True, timeout=120)
    console = folder / "console.log"
    while not console.exists() or "with" not in console.read_text():
        pass
    assert f"with {library or 'nothing'} for umid=evenkeel-some-backend-1" in console.read_text()


def test_a_panic_is_told_before_its_trace(tmp_path: Path) -> None:
    console = tmp_path / "console.log"
    assert vm.last_words(console) == ""
    console.write_text("mounted\n" * 9 + "set fp regs failed\n")
    assert vm.last_words(console) == "mounted\n" * 4 + "set fp regs failed"
    console.write_text(console.read_text() + "Kernel panic - not syncing: init is dead\n" + " [<60045fda>]\n" * 30)
    assert vm.last_words(console).endswith("set fp regs failed\nKernel panic - not syncing: init is dead")
    # All boots are in one file, and the last one counts.
    console.write_text(console.read_text() + "Linux version 6.1\n" + "still asking for an address\n" * 5)
    assert vm.last_words(console) == "\n".join(["still asking for an address"] * 5)


@pytest.mark.parametrize(("program", "firewall"), [("/usr/bin/linux.uml", False), ("qemu-system-x86_64", True)])
def test_kernel_without_rules_for_it_has_no_firewall(
    host: tuple[Lab, Host, Path], program: str, firewall: bool
) -> None:
    lab, _, folder = host
    (folder / "power-on").write_text(f"setsid {program}\n")
    assert vm.variables(lab)["firewall"] is firewall


def test_somebody_elses_process_is_not_killed(host: tuple[Lab, Host, Path]) -> None:
    lab, backend, folder = host
    vm.write_power(lab, backend, uml, Path("/disk"))
    with subprocess.Popen(["sleep", "100"], start_new_session=True) as other:
        (folder / "pid").write_text(f"{other.pid}\n")
        subprocess.run([folder / "power-off"], check=True, timeout=120)
        assert other.poll() is None
        other.kill()


def test_memory_that_is_not_there_is_told_with_both_numbers(
    host: tuple[Lab, Host, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    lab, _, folder = host
    monkeypatch.setattr(uml, "memory", lambda: ("/dev/shm", 2**21 * 1000))
    with pytest.raises(
        EvenkeelError, match=r"2 VMs need 2\.7 GB of memory, and /dev/shm has 2\.1 GB free: choose fewer"
    ):
        vm.check_memory(lab, uml)
    # One ran before this machine went down; then it runs.
    (folder / "pid").write_text("4194305\n")
    with pytest.raises(EvenkeelError, match=r"2 VMs need"):
        vm.check_memory(lab, uml)
    (folder / "pid").write_text(f"{os.getpid()}\n")
    vm.check_memory(lab, uml)


def test_every_host_has_a_device_and_an_address_of_its_own() -> None:
    hosts = Lab("some", SUBNET, host_list(site_names(200), SUBNET, 2200, {})).hosts
    taps = {vm.tap(host) for host in hosts}
    assert len(taps) == len({vm.mac(host) for host in hosts}) == 201
    assert max(map(len, taps)) <= 15, "Linux takes no longer name"


def test_without_kvm_another_base_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qemu, "works", lambda: False)
    with pytest.raises(EvenkeelError, match=r"LAB_BASE is debian:12, and without KVM a lab's VMs are Debian 13"):
        vm.choose_base("debian:12")


@pytest.mark.parametrize(("flags", "works"), [("fpu vmx sse", True), ("fpu svm", True), ("fpu sse vmxx", False)])
def test_kvm_needs_a_processor_that_can(tmp_path: Path, flags: str, works: bool) -> None:
    processor, device = tmp_path / "cpuinfo", tmp_path / "kvm"
    processor.write_text(f"flags\t\t: {flags}\n")
    assert not qemu.works(device, processor), "there is no device"
    device.touch()
    assert qemu.works(device, processor) is works


def test_memory_of_this_machine_is_counted_in_bytes() -> None:
    assert 2**27 < qemu.memory()[1] < 2**50
    assert 0 <= uml.memory()[1] < 2**50


def test_cloud_image_is_that_of_the_release() -> None:
    ubuntu = "https://cloud-images.ubuntu.com/noble/current"
    assert qemu.source("ubuntu", "noble") == (
        f"{ubuntu}/noble-server-cloudimg-amd64.img",
        f"{ubuntu}/SHA256SUMS",
    )
    debian = "https://cloud.debian.org/images/cloud/trixie/latest"
    assert qemu.source("debian", "trixie") == (f"{debian}/debian-13-genericcloud-amd64.qcow2", f"{debian}/SHA512SUMS")
    for distribution, codename in (("fedora", "forty"), ("debian", "buster")):
        with pytest.raises(EvenkeelError, match=f"LAB_BASE is {distribution} {codename}, and KIND=vm knows no cloud"):
            qemu.source(distribution, codename)


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """Return a folder and the address at which its files are served."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=folder)) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_cloud_image_is_checked_and_kept(mirror: tuple[Path, str], tmp_path: Path, algorithm: str) -> None:
    folder, url = mirror
    (folder / "noble.img").write_bytes(b"a disk")
    (folder / "SUMS").write_text(f"{'0' * 64} *other.img\n{hashlib.new(algorithm, b'a disk').hexdigest()} *noble.img\n")
    path = qemu.image(tmp_path, f"{url}/noble.img", f"{url}/SUMS")
    assert path.read_bytes() == b"a disk"
    (folder / "noble.img").unlink()
    assert qemu.there(tmp_path, f"{url}/noble.img")
    assert qemu.image(tmp_path, f"{url}/noble.img", f"{url}/SUMS") == path
    assert not qemu.there(tmp_path / "mirror", f"{url}/noble.img")


@pytest.mark.parametrize(
    ("sums", "sentence"),
    [(f"{'0' * 64} noble.img", "is not what"), ("", "is not what"), (None, "can't be downloaded: 404")],
)
def test_cloud_image_of_another_checksum_is_not_used(
    mirror: tuple[Path, str], tmp_path: Path, sums: str | None, sentence: str
) -> None:
    folder, url = mirror
    (folder / "noble.img").write_bytes(b"a disk")
    if sums is not None:
        (folder / "SUMS").write_text(sums)
    with pytest.raises(EvenkeelError, match=sentence):
        qemu.image(tmp_path, f"{url}/noble.img", f"{url}/SUMS")
    assert [each for each in tmp_path.iterdir() if each != folder] == []


@pytest.mark.parametrize(("there", "asked"), [("vm", "container"), ("container", "vm")])
def test_hosts_of_another_kind_are_not_removed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str], there: str, asked: str
) -> None:
    monkeypatch.setattr(settings, "PROJECT", tmp_path)
    monkeypatch.setattr(engine, "ensure_engine", lambda: None)
    # VMs have a container beside each.
    monkeypatch.setattr(hosts, "docker", lambda *_: "evenkeel-some-balancer\t0\n")
    # What comes after the refusal would make hosts on this machine.
    monkeypatch.setattr(engine, "check_disk", lambda _: pytest.fail("It went on."))
    disk = tmp_path / ".lab" / "some" / "vm" / "balancer" / "disk.cow"
    if there == "vm":
        disk.parent.mkdir(parents=True)
        disk.touch()
    assert main(["up", "--name", "some", "--kind", asked]) == 1
    sentence = f"The lab `some` is there with KIND={there}: say that, or run make lab-down first."
    assert capsys.readouterr().err == f"lab: {sentence}\n"
    assert disk.exists() is (there == "vm")
