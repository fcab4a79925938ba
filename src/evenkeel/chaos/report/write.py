"""Judges a run's folder and writes all of its reports into it."""

from __future__ import annotations

from pathlib import Path

from evenkeel.chaos.analysis.verdict import EXIT, examine
from evenkeel.chaos.record import run_folder
from evenkeel.chaos.record.recording import read_recording
from evenkeel.chaos.report import charts, page, summary
from evenkeel.chaos.report.journal import as_json, journal
from evenkeel.chaos.report.junit import junit
from evenkeel.errors import EvenkeelError


def report(folder: Path) -> int:
    """Write the reports, say the verdict and return its exit code; raises EvenkeelError."""
    result = examine(read_recording(folder))
    # First what machines and a hurried reader need: a drawing that fails must not take it along.
    run_folder.write_text(folder / run_folder.JOURNAL, as_json(journal(result)))
    run_folder.write_text(folder / "junit.xml", junit(result))
    run_folder.write_text(folder / "summary.md", summary.markdown(result))
    try:
        charts.write_pngs(result, folder)
    except OSError as error:
        raise EvenkeelError(f"The graphs can't be written into {folder}: {error.strerror}.") from None
    run_folder.write_text(folder / "report.html", page.report(result))
    print(f"{summary.lines(result)}  {folder / 'report.html'}")
    return EXIT[result.verdict]
