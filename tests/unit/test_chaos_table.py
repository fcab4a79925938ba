"""The table over several runs: each event's worst figures, from the runs' journals."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from chaos_runs import Made
from evenkeel.chaos.__main__ import main
from evenkeel.chaos.analysis.verdict import examine
from evenkeel.chaos.record.recording import read_recording
from evenkeel.chaos.report.journal import as_json, journal
from evenkeel.chaos.report.table import table
from evenkeel.load.records import Record


def judged(folder: Path, made: Made, change: Callable[[Record], Record] = lambda record: record) -> Path:
    """Return the folder of a run that has its journal."""
    made.write(folder, change)
    (folder / "journal.json").write_text(as_json(journal(examine(read_recording(folder)))))
    return folder


def lines(*folders: Path) -> list[str]:
    """Return the table's lines below its head."""
    head, rule, *found = table(folders).splitlines()
    assert head.count("|") == rule.count("|")
    return found


def fails(method: str, start: float, end: float) -> Callable[[Record], Record]:
    """Return a change that lets all requests of a method fail that were sent within a time from the fault."""

    def change(record: Record) -> Record:
        hit = record.method == method and start <= record.at < end
        return record._replace(status=503, failure="status") if hit else record

    return change


def test_worst_run_of_each_event_is_shown(tmp_path: Path) -> None:
    good = judged(tmp_path / "good", Made())
    bad = judged(tmp_path / "bad", Made(), fails("GET", 30, 31))
    other = Made()
    other.plan |= {"what": "power | cut"}
    spoilt = judged(tmp_path / "spoilt", Made(late=0.7), fails("GET", 10, 40))
    assert lines(good, bad, judged(tmp_path / "other", other), spoilt) == [
        # 27 GET a second; the three POST of the second between were answered.
        "| reboot at backend-1 | 27 of 2160, 27 NOT in flight | 0 of 240 | 333 ms | 10 ms | 10.0 % | 2 |",
        "| power \\| cut | 0 of 2160 | 0 of 240 | 33 ms | 10 ms | 100.0 % | 1 |",
    ]


@pytest.mark.parametrize(
    ("method", "cells"), [("GET", "27 of 2160, in flight | 0 of 240"), ("POST", "0 of 2160 | 3 of 240, in flight")]
)
def test_what_was_in_flight_is_told_apart(tmp_path: Path, method: str, cells: str) -> None:
    (line,) = lines(judged(tmp_path, Made(), fails(method, 0, 1)))
    assert f"| {cells} |" in line


def test_run_without_a_report_does_not_count(tmp_path: Path) -> None:
    Made().write(tmp_path / "cut-off")
    (tmp_path / "loss-did-not-run").mkdir()
    assert lines(tmp_path / "cut-off", tmp_path / "loss-did-not-run") == [
        "| reboot at backend-1 | no run counts |  |  |  |  | 0 |",
        "| loss-did-not-run | no run counts |  |  |  |  | 0 |",
    ]


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ('"journal": 2', '"journal": 1', "The journal in {0} is of another release: make it anew (report {0})."),
        ('"failed_in_flight"', '"failed"', "The files in {0} are not those of a run."),
    ],
)
def test_journal_that_is_none_of_ours_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, sentence: str
) -> None:
    path = judged(tmp_path, Made()) / "journal.json"
    path.write_text(path.read_text().replace(old, new))
    assert main(["table", str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"chaos: {sentence.format(tmp_path)}\n"
