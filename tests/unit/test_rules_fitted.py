"""The role's rules at another pace than a scrape a second."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from prometheus import prometheus_seconds, rules_fitted

FILES = sorted((Path(__file__).resolve().parents[2] / "roles" / "prometheus" / "files" / "rules").glob("*.yml"))
ALL = "\n".join(path.read_text() for path in FILES)


@pytest.mark.parametrize(("text", "seconds"), [("1s", 1), ("500ms", 0.5), ("1m30s", 90), ("", 0)])
def test_times_are_read(text: str, seconds: float) -> None:
    assert prometheus_seconds(text) == seconds


@pytest.mark.parametrize("seconds", [1, 0.5])
def test_at_the_pace_they_are_made_for_they_stay_as_they_are(seconds: float) -> None:
    assert rules_fitted(ALL, seconds, seconds) == ALL


def times(text: str) -> list[int]:
    """Return every window and wait in seconds."""
    return [int(number) for number in re.findall(r"(?:\[|\bfor: )(\d+)s", text)]


def test_windows_waits_and_limits_are_as_many_times_longer() -> None:
    fitted = rules_fitted(ALL, 5)
    assert times(fitted) == [5 * number for number in times(ALL)]
    # No window is left that is written in another way.
    assert len(times(ALL)) == len(re.findall(r"\[\w+\]|\bfor:", ALL))
    assert "avg_over_time(scrape_duration_seconds[50s]) > 2.5 and" in fitted
    assert "count_over_time(up[100s]) < 18" in fitted
    for path in FILES:
        yaml.safe_load(rules_fitted(path.read_text(), 5))


def test_slow_monitors_are_stale_later_and_everything_else_is_as_before() -> None:
    fitted = rules_fitted(ALL, 1, 60)
    changed = [new for old, new in zip(ALL.splitlines(), fitted.splitlines(), strict=True) if old != new]
    assert [line.strip() for line in changed] == [
        'time() - push_time_seconds{job="cpu_usage"} > 300',
        'or time() - push_time_seconds{job="cpu_usage"} < -300',
    ]
    # What is scraped seldom is old too.
    assert 'push_time_seconds{job="cpu_usage"} > 50' in rules_fitted(ALL, 10, 2)
