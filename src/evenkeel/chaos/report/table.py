"""What clients saw of several runs, as a table in Markdown: a line for each event, made of the runs' journals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evenkeel.chaos.analysis.objectives import DEVIATED, HELD, percent, seconds
from evenkeel.chaos.record import run_folder
from evenkeel.chaos.report.journal import FORMAT
from evenkeel.chaos.report.summary import row
from evenkeel.errors import EvenkeelError

_TITLES = ("event", "failed GET", "failed POST", "longest gap", "slowest GET", "lowest second", "runs that count")
_COUNTED = (HELD, DEVIATED)


def _journal(folder: Path) -> Mapping[str, Any]:
    """Return a run's journal; one that ended before its report has none, and its run.json says what it was to be."""
    for name in (run_folder.JOURNAL, run_folder.PLAN):
        path = run_folder.existing(folder) / name
        if path.exists():
            found = run_folder.read_object(path)
            if name == run_folder.JOURNAL and found.get("journal") != FORMAT:
                raise EvenkeelError(f"The journal in {folder} is of another release: make it anew (report {folder}).")
            return found
    # A run that was refused before it had a folder of its own (make gameday).
    return {"fault": folder.name, "target": ""}


def _event(journal: Mapping[str, Any]) -> str:
    """Return what happened, in the words of the run where it has some."""
    what = journal.get("run", journal).get("what")
    return str(what or f"{journal['fault']} at {journal['target']}".removesuffix(" at "))


def _failed(journal: Mapping[str, Any], method: str) -> tuple[int, int, int]:
    """Return (failed and not in flight when the fault struck, failed, sent)."""
    figures = journal["figures"]
    failed = sum(figures["failures"].get(method, {}).values())
    return failed - figures["failed_in_flight"].get(method, 0), failed, figures["sent"].get(method, 0)


def _lost(journals: Sequence[Mapping[str, Any]], method: str) -> str:
    """Return how many requests of a method failed in the worst of the runs."""
    later, failed, sent = max(_failed(each, method) for each in journals)
    if not sent:
        return "none was sent"
    return f"{failed} of {sent}" + (f", {later} NOT in flight" if later else ", in flight" if failed else "")


def _line(event: str, journals: Sequence[Mapping[str, Any]]) -> str:
    """Return an event's line: each figure is that of its worst run, of those that count."""
    counted = [each for each in journals if each.get("verdict") in _COUNTED]
    cells = [event, "no run counts", "", "", "", "", "0"]
    if counted:
        figures = [each["figures"] for each in counted]
        slowest = [figure["slowest"]["GET"] for figure in figures if figure["slowest"].get("GET") is not None]
        floors = [figure["floor"][0] for figure in figures if figure["floor"]]
        cells[1:] = [
            _lost(counted, "GET"),
            _lost(counted, "POST"),
            seconds(max(figure["gap"][0] for figure in figures)),
            seconds(max(slowest)) if slowest else "-",
            percent(min(floors)) if floors else "-",
            str(len(counted)),
        ]
    return row(cells)


def table(folders: Sequence[Path]) -> str:
    """Return the table over the runs' folders; raises EvenkeelError."""
    events: dict[str, list[Mapping[str, Any]]] = {}
    for folder in folders:
        journal = _journal(folder)
        try:
            # A damaged journal is told by its folder.
            _line(_event(journal), [journal])
        except (AttributeError, KeyError, TypeError, ValueError):
            raise EvenkeelError(f"The files in {folder} are not those of a run.") from None
        events.setdefault(_event(journal), []).append(journal)
    lines = [_line(event, journals) for event, journals in events.items()]
    return "\n".join([row(_TITLES), "|---" * len(_TITLES) + "|", *lines]) + "\n"
