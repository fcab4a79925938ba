"""What Grafana is shown of a run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from evenkeel.chaos.annotate import annotate, describe
from evenkeel.chaos.errors import ChaosError

JOURNAL = {
    "fault": "poweroff",
    "target": "one",
    "verdict": "held",
    "injected_at": 1000.0,
    "marks": [{"name": "undone", "at": 20.0}, {"name": "undone", "at": 21.5}],
    "times": {"detected": 1.25, "recovered": 30.0},
}


def test_fault_is_a_span_and_what_follows_are_moments() -> None:
    fault, detected, recovered = describe(JOURNAL)
    assert fault == {
        "time": 1_000_000,
        "timeEnd": 1_021_500,
        "tags": ["fault"],
        "text": "Fault: poweroff at one (held)",
    }
    assert (detected["time"], detected["text"]) == (1_001_250, "Detected: poweroff at one")
    assert (recovered["time"], recovered["tags"]) == (1_030_000, ["fault"])


def test_what_never_happened_is_not_shown() -> None:
    never = {**JOURNAL, "marks": [], "times": {"detected": None, "recovered": None}}
    (fault,) = describe(never)
    assert "timeEnd" not in fault


def test_absent_grafana_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "journal.json").write_text(json.dumps(JOURNAL))
    with pytest.raises(ChaosError, match="gives no answer"):
        annotate(tmp_path, "http://127.0.0.1:9", "secret")
