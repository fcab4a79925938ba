"""report.html and index.html: one file each, with nothing fetched from elsewhere."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from evenkeel.chaos.analysis.objectives import seconds
from evenkeel.chaos.analysis.verdict import Result
from evenkeel.chaos.report import charts
from evenkeel.chaos.report.summary import WORDS
from evenkeel.load import analysis

_EXAMPLES = 10


def render(name: str, **values: Any) -> str:
    """Return a template of this package, filled."""
    folder = Path(__file__).parent / "templates"
    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["seconds"] = seconds
    style = Markup((folder / "style.css").read_text(encoding="utf-8"))  # our own file
    return environment.get_template(name).render(style=style, words=WORDS, **values)


def _rows(values: Any, before: str = "") -> list[tuple[str, str]]:
    """Return nested settings as rows of a path and a value."""
    if isinstance(values, dict):
        return [row for name, value in values.items() for row in _rows(value, f"{before}.{name}" if before else name)]
    text = values if isinstance(values, str) else json.dumps(values)
    return [(before, text)]


def _drawn(drawings: dict[str, str]) -> dict[str, Markup]:
    """Mark SVG as such; texts inside were escaped where it was drawn."""
    return {name: Markup(drawing) for name, drawing in drawings.items()}


def report(result: Result) -> str:
    """Return report.html."""
    recording = result.recording
    graphs = [
        (graph, {} if graph.absent else _drawn(charts.time_svgs(result, graph))) for graph in charts.time_graphs(result)
    ]
    return render(
        "report.html.j2",
        result=result,
        plan=recording.plan,
        when=datetime.fromtimestamp(recording.epoch, UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
        graphs=graphs,
        latency=_drawn(charts.latency_svgs(result)),
        failed=analysis.failed(recording.records)[:_EXAMPLES],
        settings=_rows(dict(recording.plan.given)),
        lengths={"load": recording.stop - recording.start, "before": -recording.start},
    )
