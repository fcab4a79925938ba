"""Draw the guide's three graphs from a Prometheus, with the very queries of the dashboard.

``python -m evenkeel.graphs --prometheus http://127.0.0.1:9090 --seconds 120 --output site.png`` (``make picture``).
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import matplotlib as mpl

from evenkeel.errors import EvenkeelError
from evenkeel.prometheus import DASHBOARD, TITLES, Series, panels, query_range, rate_interval

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

UNITS = {"CPU per backend": "percent", "RPS per backend": "requests / s", "Total RPS": "requests / s"}


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


def colours(names: Iterable[str]) -> dict[str, str]:
    """Return a colour for each name, the same in every graph that has the same names."""
    return {name: f"C{number}" for number, name in enumerate(sorted(names))}


def curves(axis: Axes, series: Series, start: float, colour: Mapping[str, str]) -> None:
    """Draw each series as a curve over the seconds since ``start``, its gaps as gaps."""
    for name in sorted(series):
        times, values = with_gaps(series[name])
        axis.plot([at - start for at in times], values, label=name, color=colour[name], linewidth=1.5)
    axis.set_ylim(bottom=0)
    axis.grid(alpha=0.3)


def draw(graphs: Mapping[str, Series], start: float, output: Path) -> None:
    """Draw one graph above the other into a PNG.

    Args:
        graphs: title to series.
        start: the time, in seconds since the epoch, that the time axis counts from.
        output: the file to write.
    """
    figure, axes = plt.subplots(len(graphs), 1, figsize=(10, 3 * len(graphs)), sharex=True, squeeze=False)
    colour = colours({name for series in graphs.values() for name in series})
    for axis, (title, series) in zip(axes[:, 0], graphs.items(), strict=True):
        curves(axis, series, start, colour)
        axis.set_title(title, loc="left")
        axis.set_ylabel(UNITS.get(title, ""))
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
        rate = rate_interval(arguments.prometheus)
        wanted = panels(json.loads(DASHBOARD.read_text(encoding="utf-8")), rate, TITLES)
        graphs = {panel.title: query_range(arguments.prometheus, panel.queries[0][0], start, end) for panel in wanted}
        empty = [title for title, series in graphs.items() if not series]
        if empty:
            raise EvenkeelError(f"Prometheus has no data for {empty[0]!r}: send some requests first.")
    except EvenkeelError as error:
        print(f"graphs: {error}", file=sys.stderr)
        return 1
    draw(graphs, start, arguments.output)
    print(f"graphs: {arguments.output} shows the last {arguments.seconds:g} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
