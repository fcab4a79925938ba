"""The playbook's own marks: what it did when."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from evenkeel.chaos.record import run_folder
from evenkeel.errors import EvenkeelError

# What a run goes through, in this order; a note may come anywhere.
NAMES = ("begin", "steady", "inject", "injected", "undo", "undone", "recovered", "end", "note")


class Mark(NamedTuple):
    """Something the playbook did at ``at`` (seconds since the epoch)."""

    at: float
    name: str
    text: str


def add(folder: Path, mark: Mark) -> None:
    """Append a mark to the folder's timeline; raises EvenkeelError."""
    if mark.name not in NAMES:
        raise EvenkeelError(f"There is no mark {mark.name!r}: there are {', '.join(NAMES)}.")
    run_folder.append(run_folder.existing(folder) / run_folder.TIMELINE, mark._asdict())


def read(folder: Path) -> list[Mark]:
    """Return the marks in order of time; raises EvenkeelError."""
    path = folder / run_folder.TIMELINE
    try:
        found = [Mark(float(line["at"]), str(line["name"]), str(line["text"])) for line in run_folder.read_lines(path)]
    except (KeyError, TypeError, ValueError):
        raise EvenkeelError(f"The file {path} has a line that is no mark.") from None
    return sorted(found)


def first(marks: Sequence[Mark], name: str) -> float | None:
    """Return when the first mark of that name was made; None where none was."""
    return next((mark.at for mark in marks if mark.name == name), None)


def last(marks: Sequence[Mark], name: str) -> float | None:
    """Return when the last mark of that name was made; None where none was.

    An undo that failed and ran again (or was repeated by the playbook's ``always``) is over with its last mark.
    """
    return first(marks[::-1], name)
