"""The three graphs: which queries they send, and that a gap stays a gap."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest

from evenkeel.errors import EvenkeelError
from evenkeel.graphs import draw, main, with_gaps
from evenkeel.prometheus import DASHBOARD, TITLES, panels


def test_queries_are_the_dashboards_own() -> None:
    found = panels(json.loads(DASHBOARD.read_text()), "21s", TITLES)
    assert [panel.title for panel in found] == list(TITLES)
    assert all(panel.queries for panel in found)
    assert all("[21s]" in panel.queries[0][0] for panel in found if "RPS" in panel.title)
    # No variable of Grafana's is left; $1 is PromQL's.
    assert not re.search(r"\$[^1]", " ".join(query for panel in found for query, _ in panel.queries))


def test_missing_panel_is_one_sentence() -> None:
    with pytest.raises(EvenkeelError, match="has no panel 'Total RPS': it has Other"):
        panels({"panels": [{"title": "Other", "targets": []}]}, "5s", ["Total RPS"])


def test_gap_breaks_the_line() -> None:
    times, values = with_gaps([(1, 5), (2, 6), (6, 7)])
    assert times == [1, 2, 3, 6]
    assert values[:2] == [5, 6]
    assert math.isnan(values[2])
    assert values[3] == 7


def test_drawing_is_a_picture(tmp_path: Path) -> None:
    draw({"CPU per backend": {"backend-1": [(1, 5), (2, 6)]}, "Total RPS": {"all": [(1, 9)]}}, 0, tmp_path / "x.png")
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")


def test_unreachable_prometheus_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--prometheus", "http://127.0.0.1:9", "--output", str(tmp_path / "x.png")]) == 1
    assert "Prometheus at http://127.0.0.1:9 gives no answer" in capsys.readouterr().err
