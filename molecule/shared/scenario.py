"""A scenario's hosts, as operator and as client see them."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
import testinfra
import yaml

PROJECT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Scenario:
    """A scenario's hosts.

    Attributes:
        inventory: the inventory file they are listed in.
        addresses: service address by inventory name.
    """

    inventory: Path
    addresses: dict[str, str]

    @classmethod
    def of(cls, inventory: Path) -> Scenario:
        """Return the hosts of an inventory file."""
        groups = yaml.safe_load(inventory.read_text())["all"]["children"].values()
        addresses = {name: host["service_address"] for group in groups for name, host in group["hosts"].items()}
        return cls(inventory, addresses)

    @property
    def backends(self) -> list[str]:
        """Return the names of the backends of a site."""
        return [name for name in self.addresses if name.startswith("backend-")]

    def container(self, name: str) -> str:
        """Return the name of a host's container; to cut its power: `docker kill`, `docker start`."""
        return f"evenkeel-{self.inventory.parent.name}-{name}"

    def host(self, name: str) -> Any:
        """Return a host, reached by SSH as its unprivileged user; commands run through sudo."""
        return testinfra.get_host(f"ansible://{name}?ansible_inventory={self.inventory}&sudo=True")

    def reboot(self, name: str) -> None:
        """Let a host's own init reboot it."""
        # The session may end before its answer.
        with suppress(RuntimeError):
            self.host(name).run("systemctl --no-block reboot")

    def play(
        self, playbook: str, *arguments: str, inventory: Path | None = None, seconds: float = 600
    ) -> subprocess.CompletedProcess[str]:
        """Run a playbook of the project and return its result, whatever its exit code; it must end in time."""
        return subprocess.run(
            ["ansible-playbook", "-i", str(inventory or self.inventory), playbook, *arguments],
            cwd=PROJECT,
            # molecule forces colours, which would end up in what the tests read.
            env=os.environ | {"ANSIBLE_FORCE_COLOR": "0", "ANSIBLE_NOCOLOR": "1"},
            check=False,
            capture_output=True,
            text=True,
            timeout=seconds,
        )


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 300, *, starting: bool = False) -> None:
    """Wait until ``condition`` holds; fails the test with ``what`` where it never does.

    Args:
        condition: is asked ten times a second.
        what: it is, in words.
        seconds: how long to wait. A host that gives way to others may get little of a busy machine for a minute.
        starting: what is asked has just been started. It refuses connections for a moment, and that is "not yet".
    """
    refused = (requests.ConnectionError,) if starting else ()
    deadline = time.monotonic() + seconds
    while True:
        with suppress(*refused):
            if condition():
                return
        if time.monotonic() > deadline:
            pytest.fail(f"not within {seconds:.0f} s: {what}")
        time.sleep(0.1)


def recap(output: str) -> dict[str, dict[str, int]]:
    """Return the counters of a playbook's recap by host, such as ``{"backend-1": {"ok": 3, "changed": 0, …}}``."""
    lines = output[output.index("PLAY RECAP") :].splitlines()[1:]
    return {
        name.strip(): {key: int(value) for key, value in (pair.split("=") for pair in counters.split())}
        for name, separator, counters in (line.partition(" : ") for line in lines)
        if separator
    }
