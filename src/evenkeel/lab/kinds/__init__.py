"""What the hosts of a lab can be: each kind is a module with the functions of :class:`Kind`."""

from __future__ import annotations

from typing import Protocol

from evenkeel.lab.kinds import containers, vm
from evenkeel.lab.settings import Lab


class Kind(Protocol):
    """A module that makes hosts; :mod:`evenkeel.lab.hosts` has what all of them use."""

    def exist(self, lab: Lab) -> bool:
        """Return whether the lab has such hosts, running or not."""

    def choose_base(self, wanted: str) -> str:
        """Return the image or distribution to be used for ``LAB_BASE``; raises EvenkeelError where it can't be had."""

    def ensure_hosts(self, lab: Lab, base: str) -> None:
        """Start the lab's hosts, whose network exists; those that run are left alone. Raises EvenkeelError."""

    def wait_for_hosts(self, lab: Lab) -> None:
        """Wait until every host has booted, and write their host keys to ``known_hosts``; raises EvenkeelError."""

    def variables(self, lab: Lab) -> dict[str, object]:
        """Return what the inventory says of all hosts: how their power is cut and given back, and what else is so."""

    def remove_hosts(self, lab: Lab) -> None:
        """Remove such hosts, running or not, with all that they wrote."""


# By what KIND= says. VMs have containers beside them, so they are asked first.
KINDS: dict[str, Kind] = {"vm": vm, "container": containers}
DEFAULT_KIND = "container"
