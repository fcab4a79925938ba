"""Draw the guide's three graphs from a Prometheus, with the very queries of the dashboard.

``python -m evenkeel.graphs --prometheus http://127.0.0.1:9090 --seconds 120 --output site.png`` (``make picture``).
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import requests

mpl.use("Agg")
from matplotlib import pyplot as plt

DASHBOARD = Path(__file__).resolve().parents[2] / "files" / "dashboards" / "site.json"
TITLES = ("CPU per backend", "RPS per backend", "Total RPS")
UNITS = {"CPU per backend": "percent", "RPS per backend": "requests / s", "Total RPS": "requests / s"}
# What Grafana makes of $__rate_interval for a datasource scraped once a second: four scrapes and the step.
RATE_INTERVAL = "5s"
Series = dict[str, list[tuple[float, float]]]


class GraphError(Exception):
    """Something the user can mend, in one sentence."""


@dataclass(frozen=True)
class Panel:
    """One graph: its title and the queries with the label that names a curve (empty: the title does)."""

    title: str
    queries: tuple[tuple[str, str], ...]


def panels(dashboard: Mapping[str, object], titles: Sequence[str] | None = None) -> list[Panel]:
    """Return a dashboard's panels with queries ready to send, in its order.

    Args:
        dashboard: the dashboard's JSON.
        titles: those wanted; all where it is None.

    Raises:
        GraphError: a wanted panel is not there.
    """
    found = {}
    listed = dashboard["panels"]
    assert isinstance(listed, list)
    for panel in listed:
        targets = panel.get("targets", [])
        queries = [
            (target["expr"].replace("$__rate_interval", RATE_INTERVAL), target.get("legendFormat", ""))
            for target in targets
        ]
        found[panel["title"]] = Panel(panel["title"], tuple(queries))
    missing = [title for title in titles or () if title not in found]
    if missing:
        raise GraphError(f"The dashboard has no panel {missing[0]!r}: it has {', '.join(found)}.")
    return [panel for title, panel in found.items() if titles is None or title in titles]


def query_range(prometheus: str, expression: str, start: float, end: float, step: float = 1) -> Series:
    """Return a range query's series by name, each a list of (seconds since the epoch, value).

    The name is the label ``server`` or ``instance``, which both hold the inventory name.

    Raises:
        GraphError: Prometheus can't be reached or refuses the query.
    """
    parameters = {"query": expression, "start": f"{start:.3f}", "end": f"{end:.3f}", "step": f"{step:g}"}
    try:
        answer = requests.get(f"{prometheus}/api/v1/query_range", params=parameters, timeout=30)
        body = answer.json()
    except (requests.RequestException, ValueError) as error:
        raise GraphError(f"Prometheus at {prometheus} gives no answer ({error}): is the lab up (make lab)?") from None
    if body.get("status") != "success":
        raise GraphError(f"Prometheus refuses the query {expression!r}: {body.get('error')}.")
    series: Series = {}
    for result in body["data"]["result"]:
        labels = result["metric"]
        name = labels.get("server") or labels.get("instance") or "all"
        series[name] = [(float(at), float(value)) for at, value in result["values"]]
    return series


def with_gaps(points: Sequence[tuple[float, float]], step: float = 1) -> tuple[list[float], list[float]]:
    """Return times and values with a NaN where points are missing, so that a line breaks there instead of lying."""
    times: list[float] = []
    values: list[float] = []
    for at, value in points:
        if times and at - times[-1] > 1.5 * step:
            times.append(times[-1] + step)
            values.append(float("nan"))
        times.append(at)
        values.append(value)
    return times, values


def draw(graphs: Mapping[str, Series], start: float, output: Path) -> None:
    """Draw one graph above the other into a PNG.

    Args:
        graphs: title to series.
        start: the time, in seconds since the epoch, that the time axis counts from.
        output: the file to write.
    """
    figure, axes = plt.subplots(len(graphs), 1, figsize=(10, 3 * len(graphs)), sharex=True, squeeze=False)
    names = sorted({name for series in graphs.values() for name in series})
    colours = {name: f"C{number}" for number, name in enumerate(names)}
    for axis, (title, series) in zip(axes[:, 0], graphs.items(), strict=True):
        for name in sorted(series):
            times, values = with_gaps(series[name])
            axis.plot([at - start for at in times], values, label=name, color=colours[name], linewidth=1.5)
        axis.set_title(title, loc="left")
        axis.set_ylabel(UNITS.get(title, ""))
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
        if len(series) > 1:
            axis.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    axes[-1, 0].set_xlabel("seconds")
    figure.tight_layout()
    output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output, dpi=110)
    plt.close(figure)


def main(argv: Sequence[str] | None = None) -> int:
    """Draw the last seconds of a Prometheus and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prometheus", default="http://127.0.0.1:9090")
    parser.add_argument("--seconds", type=float, default=120, help="how far back the graphs go")
    parser.add_argument("--output", type=Path, required=True, help="the PNG to write")
    arguments = parser.parse_args(argv)
    end = time.time()
    start = end - arguments.seconds
    try:
        wanted = panels(json.loads(DASHBOARD.read_text()), TITLES)
        graphs = {panel.title: query_range(arguments.prometheus, panel.queries[0][0], start, end) for panel in wanted}
        empty = [title for title, series in graphs.items() if not series]
        if empty:
            raise GraphError(f"Prometheus has no data for {empty[0]!r}: send some requests first.")
    except GraphError as error:
        print(f"graphs: {error}", file=sys.stderr)
        return 1
    draw(graphs, start, arguments.output)
    print(f"graphs: {arguments.output} shows the last {arguments.seconds:g} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
