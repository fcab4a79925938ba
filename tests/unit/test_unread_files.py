"""Files that a service has not read, by when its process started."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from unread_files import started_at, unread


@pytest.mark.parametrize(
    ("said", "started"),
    [
        ("MainPID=7\nExecMainStartTimestampMonotonic=90000000\n", 990.0),
        # It ended, was never started, or is none that systemd knows.
        ("MainPID=0\nExecMainStartTimestampMonotonic=90000000\n", None),
        ("MainPID=0\nExecMainStartTimestampMonotonic=0\n", None),
        ("MainPID=7\nExecMainStartTimestampMonotonic=[not set]\n", None),
        ("", None),
    ],
)
def test_start_is_told_by_the_clock_that_nobody_sets(said: str, started: float | None) -> None:
    assert started_at(said, now=1000.0, monotonic=100.0) == started


def test_what_was_written_after_the_start_is_unread(tmp_path: Path) -> None:
    for name, written in {"before": 10, "after": 30}.items():
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (written, written))
    files = [tmp_path / name for name in ("before", "after", "missing")]
    assert unread(files, 20.0) == [str(tmp_path / "after")]
    assert unread(files, 40.0) == []
    # A service that does not run reads them when it starts.
    assert unread(files, None) == []
