"""What a run was to do: its run.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evenkeel.chaos.record import haproxy, slo
from evenkeel.chaos.record.run_folder import PLAN, read_object
from evenkeel.chaos.record.slo import Slo
from evenkeel.errors import EvenkeelError


@dataclass(frozen=True)
class Plan:
    """One run.

    Attributes:
        fault: its name in the catalogue.
        target: the inventory name of the host it strikes.
        service: whose servers are looked at, and whose load is sent.
        backends: inventory names.
        balancers: inventory names.
        takes_out: whether the target is to leave the rotation.
        recover_from: the mark that the time to recover counts from, ``inject`` or ``undone``.
        slo: what is judged by.
        given: the whole file, for the journal.
    """

    fault: str
    target: str
    service: str
    backends: tuple[str, ...]
    balancers: tuple[str, ...]
    takes_out: bool
    recover_from: str
    slo: Slo
    given: Mapping[str, Any]

    @property
    def title(self) -> str:
        """What was struck, in words; the guide's API needs no name."""
        service = "" if self.service == haproxy.GUIDE else f", service {self.service}"
        return f"{self.fault} at {self.target}{service}"

    @property
    def strikes_backend(self) -> bool:
        """Whether the target is a backend."""
        return self.target in self.backends


def _names(hosts: object, kind: str) -> tuple[str, ...]:
    found = hosts.get(kind) if isinstance(hosts, Mapping) else None
    if not isinstance(found, list) or not found or not all(isinstance(name, str) for name in found):
        raise EvenkeelError(f"run.json must name the {kind} as a list of texts in hosts.{kind}.")
    return tuple(found)


def parse_plan(values: Mapping[str, Any]) -> Plan:
    """Return the plan that run.json holds; raises EvenkeelError."""
    for name in ("fault", "target"):
        if not isinstance(values.get(name), str) or not values[name]:
            raise EvenkeelError(f"run.json must have {name} as a text.")
    fault, target = values["fault"], values["target"]
    backends, balancers = (_names(values.get("hosts"), kind) for kind in ("backends", "balancers"))
    if target not in backends + balancers:
        raise EvenkeelError(f"The target {target!r} of run.json is none of its hosts.")
    takes_out = values.get("takes_out")
    if not isinstance(takes_out, bool):
        raise EvenkeelError(f"takes_out in run.json must be true or false, not {takes_out!r}.")
    if takes_out and target not in backends:
        raise EvenkeelError("takes_out in run.json can't be true: only a backend leaves the rotation.")
    recover_from = values.get("recover_from")
    if recover_from not in ("inject", "undone"):
        raise EvenkeelError(f"recover_from in run.json must be inject or undone, not {recover_from!r}.")
    objectives = slo.parse(values.get("slo") or {})
    service = str(values.get("service") or haproxy.GUIDE)
    return Plan(fault, target, service, backends, balancers, takes_out, recover_from, objectives, values)


def read_plan(folder: Path) -> Plan:
    """Return the plan of a run's folder; raises EvenkeelError."""
    return parse_plan(read_object(folder / PLAN))
