"""Filters of the role chaos: what was asked for, what a command said, and when something was done."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible import context


def same_call(command: Sequence[str], playbooks: Sequence[str], playbook: str, other: str) -> list[str]:
    """Return a command line for ``other``, beside ``playbook``, with the same options; empty without ``playbook``.

    Args:
        command: of an ansible-playbook.
        playbooks: the words of it that name playbooks. Those of other names are left out.
        playbook: a file's name.
        other: likewise.
    """
    ours = [word for word in playbooks if Path(word).name == playbook]
    words = [word for word in command if word in ours or word not in playbooks]
    return [str(Path(word).with_name(other)) if word in ours else word for word in words] if ours else []


def chaos_call(other: str, playbook: str) -> dict[str, Any]:
    """Return how to do what ``playbook`` can't any more once its ansible-playbook, this one, is killed.

    Args:
        other: the name of a playbook beside it.
        playbook: its name.

    Returns:
        ``pid`` of this ansible-playbook, its ``directory``, and the ``command`` for the other playbook with the same
        inventory, variables and options, empty where this one was not called for ``playbook``. It may hold secrets.
    """
    # Ansible forks itself for each task.
    parent = multiprocessing.parent_process()
    return {
        "pid": parent.pid if parent else os.getpid(),
        "directory": str(Path.cwd()),
        "command": same_call(sys.orig_argv, context.CLIARGS.get("args", ()), playbook, other),
    }


def chaos_problem(fault: object, target: object, faults: Collection[str], strikes: str, hosts: Collection[str]) -> str:
    """Return why ``fault`` can't strike ``target``, a sentence; empty where it can.

    Args:
        fault: the name that was asked for.
        target: a host's name; empty where one is to be chosen.
        faults: the names in the catalogue.
        strikes: what the fault strikes, ``backend`` or ``balancer``.
        hosts: the names of those in the inventory.
    """
    if fault not in faults:
        return f"There is no fault `{fault}`: set chaos_fault to one of {', '.join(faults)}."
    if target and target not in hosts:
        return (
            f"`{target}` is no {strikes} of this inventory: {fault} strikes one of {', '.join(hosts)} (chaos_target)."
        )
    return ""


def chaos_sentence(result: Mapping[str, Any]) -> str:
    """Return what a command of evenkeel.chaos says on stderr, without its name."""
    lines = [line for line in str(result.get("stderr", "")).splitlines() if line.strip()]
    return lines[-1].removeprefix("chaos: ") if lines else str(result.get("msg", "It said nothing."))


def _host_times(result: Mapping[str, Any]) -> list[float]:
    found: list[float] = []
    for line in result.get("stdout_lines") or []:
        try:
            found.append(float(line))
        except ValueError:
            continue
    return found


def chaos_times(result: Mapping[str, Any], asked: object, now: object) -> list[float]:
    """Return when a task on a host began and ended, in seconds since the epoch, by the times that it printed.

    A host's clock may be wrong. Nothing was before ``asked``, when the task was sent, or after ``now``: two times that
    say so are moved so that it ended ``now``, a single one to the nearer of both. What printed no time, or ended before
    it began, gets ``now``.
    """
    earliest, latest = float(str(asked)), float(str(now))
    found = _host_times(result)
    if not found or found[-1] < found[0]:
        return [latest, latest]
    began, ended = found[0], found[-1]
    if earliest <= began and ended <= latest:
        return [began, ended]
    if len(found) == 1:
        return [min(max(began, earliest), latest)] * 2
    return [max(latest - (ended - began), earliest), latest]


def chaos_clock(result: Mapping[str, Any], asked: object, now: object) -> str:
    """Return a sentence where the times that a task printed were not taken as they are; empty where they were."""
    found = _host_times(result)
    if not found or [found[0], found[-1]] == chaos_times(result, asked, now):
        return ""
    off = float(str(now)) - found[-1]
    word = f"{abs(off):.1f} s {'behind' if off > 0 else 'ahead'}"
    return f"The host's clock is {word}: this is by the clock of the machine that runs Ansible."


def chaos_late(results: Iterable[Mapping[str, Any]], asked: object, now: object, at: object) -> str:
    """Return why not all hosts begin at the same moment, a sentence; empty where they do.

    Args:
        results: of the loop that told them, each with the host's time on its last line.
        asked: when it began, in seconds since the epoch.
        now: when it had ended.
        at: what they were told.
    """
    found = [(str(result.get("item")), _host_times(result)) for result in results]
    silent = [name for name, times in found if not times]
    if silent:
        return f"{', '.join(silent)} can't be reached, so not all backends stall at once."
    off = [name for name, times in found if not float(str(asked)) <= times[-1] <= float(str(now))]
    if off:
        return f"The clock of {', '.join(off)} is wrong, so not all backends stall at once: mend it first."
    if float(str(now)) > float(str(at)):
        return "It took too long to tell all backends when to stall: this machine or its way to them is too slow."
    return ""


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {
            "chaos_call": chaos_call,
            "chaos_clock": chaos_clock,
            "chaos_late": chaos_late,
            "chaos_problem": chaos_problem,
            "chaos_sentence": chaos_sentence,
            "chaos_times": chaos_times,
        }
