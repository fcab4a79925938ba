"""A game day's page: every run's verdict, and the share of hypotheses that held."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evenkeel.chaos.analysis.objectives import DEVIATED, HELD
from evenkeel.chaos.analysis.verdict import EXIT, INCOMPLETE, VOID
from evenkeel.chaos.record import run_folder
from evenkeel.chaos.report import page
from evenkeel.errors import EvenkeelError

_COLUMNS = {"failed_get": "Failed GET", "longest_gap": "Longest gap", "rps_floor": "RPS floor", "detect": "Detect",
            "recover": "Recover"}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One run on the page."""

    name: str
    when: str
    verdict: str
    why: str
    link: str
    figures: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Score:
    """The share of hypotheses that held, of the runs that count against the site or for it."""

    verdict: str
    text: str
    sentence: str


def _row(folder: Path, page_folder: Path) -> Row:
    """Return a run's line; one without a journal ended before its report and has not held."""
    path = run_folder.existing(folder) / run_folder.JOURNAL
    if not path.exists():
        empty = tuple((title, "-") for title in _COLUMNS.values())
        return Row(folder.name, "", INCOMPLETE, "The run has no report.", "", empty)
    content: dict[str, Any] = run_folder.read_object(path)
    try:
        figures = {each["key"]: str(each["figure"]) for each in content["objectives"]}
        wrong = [str(each["title"]) for each in content["objectives"] if each["status"] == DEVIATED]
        verdict = str(content["verdict"])
        why = "; ".join(wrong) if verdict == DEVIATED else " ".join(content["reasons"])
        if verdict not in EXIT:
            raise ValueError
        return Row(
            f"{content['fault']} at {content['target']}",
            str(content["injected"])[:19].replace("T", " ") + " UTC",
            verdict,
            why,
            os.path.relpath(folder / "report.html", page_folder),
            tuple((title, figures.get(key, "-")) for key, title in _COLUMNS.items()),
        )
    except (KeyError, TypeError, ValueError):
        raise EvenkeelError(f"The file {path} is no journal of a run.") from None


def score(verdicts: Sequence[str]) -> Score:
    """Return the score; a run that the generator spoilt counts neither way, one that was cut off has not held."""
    counts = Counter(verdicts)
    judged = len(verdicts) - counts[VOID]
    spoilt = f" {counts[VOID]} did not count: the load generator did not keep its schedule." if counts[VOID] else ""
    if not judged:
        return Score(VOID, "no score", f"No run counts.{spoilt}")
    text = f"{counts[HELD] * 100 // judged} %"
    cut = f" ({counts[INCOMPLETE]} of the others were cut off)" if counts[INCOMPLETE] else ""
    word = HELD if counts[HELD] == judged and not counts[VOID] else DEVIATED if counts[HELD] < judged else VOID
    return Score(word, text, f"{counts[HELD]} of {judged} hypotheses held{cut}.{spoilt}")


def write(folders: Sequence[Path], output: Path) -> int:
    """Write the page, say the score and return 0 where all held, 1 where not, 3 where one does not count."""
    rows = [_row(folder, run_folder.existing(output.parent)) for folder in folders]
    found = score([row.verdict for row in rows])
    run_folder.write_text(output, page.render("index.html.j2", rows=rows, score=found))
    print(f"resilience {found.text}: {found.sentence}\n{output}")
    worst = {row.verdict for row in rows}
    return 1 if worst & {DEVIATED, INCOMPLETE} else 3 if VOID in worst else 0
