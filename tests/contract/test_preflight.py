"""What an operator reads who runs site.yml with a wrong inventory. Nothing here connects to a host."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
SOUND = """
all:
  children:
    balancers: {hosts: {lb: {ansible_host: 127.0.9.1}}}
    backends: {hosts: {one: {ansible_host: 127.0.9.2}, two: {ansible_host: 127.0.9.3}}}
  vars: {ansible_port: 9}
"""
UNREACHABLE = 4


def site(
    inventory: Path, *arguments: str, project: Path = PROJECT, playbook: str = "site.yml"
) -> subprocess.CompletedProcess[str]:
    """Run a playbook of ``project``; the inventory leads to loopback ports where nobody listens."""
    command = ["ansible-playbook", "-i", str(inventory), playbook, *arguments]
    environment = {name: value for name, value in os.environ.items() if name != "ANSIBLE_CONFIG"}
    return subprocess.run(
        command, cwd=project, env=environment, check=False, capture_output=True, text=True, timeout=120
    )


def refused(run: subprocess.CompletedProcess[str], sentence: str) -> None:
    """Assert that the run failed with the sentence, before it came to any host."""
    words = " ".join((run.stdout + run.stderr).split())
    assert run.returncode != 0, words
    assert sentence in words
    assert "Gathering Facts" not in words


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("127.0.9.3", "127.0.9.2", "one and two share the address 127.0.9.2"),
        ("backends:", "other:", "The inventory has no backend: add at least one host to the group `backends`."),
        ("balancers:", "other:", "The inventory has no balancer: add at least one host to the group `balancers`."),
        ("127.0.9.3", "two.example", "set `service_address` to the address where other hosts reach it."),
        ("127.0.9.3", "127.0.9.3, backend_app_port: http", "backend_app_port of two is 'http': set it to a number"),
    ],
)
def test_wrong_inventory_is_refused_with_one_sentence(tmp_path: Path, old: str, new: str, sentence: str) -> None:
    inventory = tmp_path / "hosts.yml"
    inventory.write_text(SOUND.replace(old, new))
    refused(site(inventory), sentence)


def test_empty_inventory_is_refused(tmp_path: Path) -> None:
    inventory = tmp_path / "hosts.yml"
    inventory.write_text("all: {}\n")
    refused(site(inventory), "The inventory has no backend")


def test_lost_wiring_is_refused(tmp_path: Path) -> None:
    project = tmp_path / "project"
    for name in ("roles", "plugins", "playbooks"):
        shutil.copytree(PROJECT / name, project / name, symlinks=True)
    for name in ("site.yml", "ansible.cfg"):
        shutil.copy(PROJECT / name, project / name)
    inventory = tmp_path / "hosts.yml"
    inventory.write_text(SOUND)
    # The link playbooks/group_vars leads nowhere now.
    refused(site(inventory, project=project), "The project's group_vars were not loaded")


@pytest.mark.parametrize(
    ("playbook", "arguments"), [("site.yml", []), ("site.yml", ["--limit", "lb"]), ("playbooks/site.yml", [])]
)
def test_sound_inventory_reaches_the_hosts(tmp_path: Path, playbook: str, arguments: list[str]) -> None:
    inventory = tmp_path / "hosts.yml"
    inventory.write_text(SOUND)
    run = site(inventory, *arguments, playbook=playbook)
    # Nobody listens there: to be unreachable is to have passed what comes before.
    assert run.returncode == UNREACHABLE, run.stdout
    assert "Gathering Facts" in run.stdout
    assert "failed=1" not in run.stdout
