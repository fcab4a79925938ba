"""Filters that name the running playbook's process, and tell which runs have ended for certain."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

_PROC = Path("/proc")


def _fields(process: int, proc: Path) -> list[str]:
    # The second field, the name, is in brackets and may hold anything.
    return (proc / str(process) / "stat").read_text().rpartition(")")[2].split()


def _command(process: int, proc: Path) -> bytes:
    return (proc / str(process) / "cmdline").read_bytes()


def _playbook(process: int, proc: Path) -> int:
    """Return the process that has forked the workers, which have its command line."""
    command = _command(process, proc)
    while (parent := int(_fields(process, proc)[1])) > 0 and _command(parent, proc) == command:
        process = parent
    return process


def _machine(proc: Path) -> str:
    # Containers of one machine share its boot id, and each numbers its processes from 1.
    return f"{(proc / 'sys/kernel/random/boot_id').read_text().strip()} {(proc / 'self/ns/pid').readlink()}"


def this_run(_: object, proc: Path = _PROC) -> str:
    """Return the running playbook's process as ``<boot id> <PID namespace> <PID> <start>``; empty where none is known.

    Args:
        _: nothing; a filter needs an input.
        proc: the kernel's own view of its processes. macOS has none.
    """
    try:
        process = _playbook(os.getpid(), proc)
        return f"{_machine(proc)} {process} {_fields(process, proc)[19]}"
    except (OSError, ValueError, IndexError):
        return ""


def has_ended(process: str, proc: Path = _PROC) -> bool:
    """Return whether a process, as :func:`this_run` names it, has ended for certain.

    A process of another machine, or of this one before its last boot, is not known to have ended.
    """
    try:
        machine, number, start = process.rsplit(" ", 2)
        if machine != _machine(proc):
            return False
        fields = _fields(int(number), proc)
    except FileNotFoundError:
        return True
    except (OSError, ValueError):
        return False
    # Another process may have got its number since. A dead one that nobody has waited for keeps it.
    return len(fields) > 19 and (fields[19] != start or fields[0] in {"Z", "X"})


def ended_runs(held: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the tokens of the runs that hold a lock and have ended for certain.

    Args:
        held: what the locks' files say, each with ``token`` and ``process``.
    """
    return sorted(
        {str(lock["token"]) for lock in held if lock.get("token") and has_ended(str(lock.get("process", "")))}
    )


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {"ended_runs": ended_runs, "this_run": this_run}
