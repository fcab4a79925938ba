"""Judges a run's folder and writes all of its reports into it."""

from __future__ import annotations

from pathlib import Path

from evenkeel.chaos import charts, page, summary
from evenkeel.chaos import folder as files
from evenkeel.chaos.evidence import read_folder
from evenkeel.chaos.journal import as_json, examine, journal
from evenkeel.chaos.junit import junit
from evenkeel.chaos.objectives import EXIT
from evenkeel.errors import EvenkeelError


def report(folder: Path) -> int:
    """Write the reports, say the verdict and return its exit code; raises EvenkeelError."""
    result = examine(read_folder(folder))
    # First what machines and a hurried reader need: a drawing that fails must not take it along.
    files.write_text(folder / files.JOURNAL, as_json(journal(result)))
    files.write_text(folder / "junit.xml", junit(result))
    files.write_text(folder / "summary.md", summary.markdown(result))
    try:
        charts.write_pngs(result, folder)
    except OSError as error:
        raise EvenkeelError(f"The graphs can't be written into {folder}: {error.strerror}.") from None
    files.write_text(folder / "report.html", page.report(result))
    print(f"{summary.lines(result)}  {folder / 'report.html'}")
    return EXIT[result.verdict]
