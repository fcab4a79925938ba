"""Filters of the role chaos: what was asked for, what a command said, and when something was done."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

# Seconds that a task may take to reach its host.
_ROUND_TRIP = 10


def chaos_problem(
    fault: object,
    target: object,
    faults: Mapping[str, Mapping[str, Any]],
    backends: Iterable[Mapping[str, Any]],
    balancers: Iterable[Mapping[str, Any]],
) -> str:
    """Return why ``fault`` can't strike ``target``, a sentence; empty where it can.

    Args:
        fault: a name of the catalogue.
        target: a host's name; empty where one is to be chosen.
        faults: the catalogue, by name; ``strikes`` is ``backend`` or ``balancer``.
        backends: endpoints, as the filter topology_endpoints returns them.
        balancers: likewise.
    """
    if fault not in faults:
        return f"There is no fault `{fault}`: set chaos_fault to one of {', '.join(faults)}."
    kind = faults[str(fault)]["strikes"]
    names = [str(host["name"]) for host in (backends if kind == "backend" else balancers)]
    if target and target not in names:
        return f"`{target}` is no {kind} of this inventory: {fault} strikes one of {', '.join(names)} (chaos_target)."
    return ""


def chaos_sentence(result: Mapping[str, Any]) -> str:
    """Return what a command of evenkeel.chaos says on stderr, without its name."""
    lines = [line for line in str(result.get("stderr", "")).splitlines() if line.strip()]
    return lines[-1].removeprefix("chaos: ") if lines else str(result.get("msg", "It said nothing."))


def chaos_times(result: Mapping[str, Any], asked: object, now: object) -> list[float]:
    """Return when a task on a host began and ended, in seconds since the epoch, by the times that it printed.

    A host's clock may be wrong: it began at ``asked``, when the task was sent, or at most ten seconds later, and ended
    before ``now``. What printed no time gets ``now``.
    """
    earliest, latest = float(str(asked)), float(str(now))
    found: list[float] = []
    for line in result.get("stdout_lines") or []:
        try:
            found.append(min(max(float(line), earliest), latest if found else min(latest, earliest + _ROUND_TRIP)))
        except ValueError:
            continue
    return [found[0], found[-1]] if found else [latest, latest]


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {
            "chaos_problem": chaos_problem,
            "chaos_sentence": chaos_sentence,
            "chaos_times": chaos_times,
        }
