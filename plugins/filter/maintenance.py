"""Filters of maintenance.yml, and of all that meets a service in maintenance."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any


def maintenance_state(state: object) -> str:
    """Return ``on`` or ``off``, whether written so or read by YAML as true or false; empty for all else."""
    if isinstance(state, bool):
        return "on" if state else "off"
    word = str(state).lower()
    return word if word in {"on", "off"} else ""


def maintenance_problem(state: object) -> str:
    """Return what is wrong with ``-e state=``, a sentence; empty where nothing is."""
    if maintenance_state(state):
        return ""
    said = "was not said" if state in (None, "") else f"is `{state}`"
    return f"The state {said}: write -e state=on to put a service into maintenance, or -e state=off to end that."


def maintenance_note(services: Iterable[str], balancers: Sequence[str]) -> str:
    """Return a sentence for each service that is in maintenance at these balancers; empty where none is."""
    return " ".join(
        f"{name} is in maintenance at {', '.join(balancers)}, as an operator has ordered: clients get 503. "
        f"maintenance.yml -e service={name} -e state=off ends that."
        for name in services
    )


def maintenance_notes(balancers: Iterable[str], hostvars: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the notes of all balancers, one for each service.

    Args:
        balancers: their inventory names.
        hostvars: Ansible's ``hostvars``, with what status.yml registered as ``status_maintenance``.
    """
    found: dict[str, list[str]] = {}
    for balancer in balancers:
        for name in (hostvars[balancer].get("status_maintenance") or {}).get("services", []):
            found.setdefault(name, []).append(balancer)
    return [maintenance_note([name], where) for name, where in found.items()]


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {
            "maintenance_note": maintenance_note,
            "maintenance_notes": maintenance_notes,
            "maintenance_problem": maintenance_problem,
            "maintenance_state": maintenance_state,
        }
