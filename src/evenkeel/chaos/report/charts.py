"""The report's graphs, as SVG that follows the page's colours and as PNG on white."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes

from evenkeel import graphs
from evenkeel.chaos.analysis.metrics import WARM_UP, phases
from evenkeel.chaos.analysis.verdict import Result
from evenkeel.chaos.report.drawing import AMBER, GREEN, INK, PALETTE, RED, Painter, png_or_svg, svgs
from evenkeel.load.records import Record
from evenkeel.prometheus import Series


@dataclass(frozen=True)
class Graph:
    """One graph: the PNG's name, its title and unit, what it draws, or why there is nothing to draw."""

    name: str
    title: str
    unit: str
    paint: Painter
    absent: str = ""
    note: str = ""


def moments(result: Result) -> list[tuple[float, str, str]]:
    """Return (time, word, colour) of what every graph marks."""
    metrics = result.metrics
    back = None if metrics.recover is None else metrics.recover + metrics.recover_base
    found = [(0.0, "fault", RED)]
    if metrics.rotation.out is not None and result.recording.plan.takes_out:
        found.append((metrics.rotation.out, "detected", AMBER))
    undone = result.recording.at("undone")
    if undone is not None and result.recording.plan.recover_from == "undone":
        found.append((undone, "undone", "#6f7f8c"))
    if back is not None:
        found.append((back, "recovered", GREEN))
    return found


def _mark(axis: Axes, found: Sequence[tuple[float, str, str]], span: float) -> None:
    """Draw the moments, each word on the first line above the graph where it has room."""
    ends: list[float] = []
    room = span * (0.13 if axis.get_window_extent().width > 450 else 0.27)
    for at, word, colour in sorted(found):
        axis.axvline(at, color=colour, linewidth=1.2, linestyle=(0, (4, 2)))
        row = next((row for row, end in enumerate(ends) if at >= end), len(ends))
        ends[row : row + 1] = [at + room]
        axis.annotate(
            word, (at, 1), (2, 3 + 11 * row), xycoords=("data", "axes fraction"), textcoords="offset points",
            color=colour, fontsize=9, fontweight="bold",
        )  # fmt: skip


def _lines(result: Result, series: Series) -> Painter:
    def paint(axis: Axes) -> None:
        graphs.curves(axis, series, 0, graphs.colours({*result.recording.plan.backends, *series}))

    return paint


def _total(result: Result) -> Painter:
    series = result.metrics.series
    middles = [at + 0.5 for at in series.seconds]

    def paint(axis: Axes) -> None:
        axis.plot(middles, series.ok, color=PALETTE[3], linewidth=1.5, label="successful")
        axis.plot(middles, series.due, color=INK, linewidth=1.3, linestyle=":", label="due")
        axis.bar(series.seconds, series.failed, width=1, align="edge", color=RED, label="failed")
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)

    return paint


def time_graphs(result: Result) -> list[Graph]:
    """Return the three graphs over time; requests as the client counted them, CPU as Prometheus did."""
    series = result.metrics.series
    backends = {
        # In the middle of its second: at its beginning, a dip would be drawn before its cause.
        name: [(at + 0.5, float(count)) for at, count in zip(series.seconds, counts, strict=True)]
        for name, counts in series.backends.items()
    }
    cpu = result.recording.prometheus["graphs"].get("CPU per backend", {})
    names = set(result.recording.plan.backends)
    cpu = {name: points for name, points in cpu.items() if points and name in names}
    why = result.recording.prometheus["error"] or "Prometheus had none for this time."
    none = f" Prometheus had none of {', '.join(sorted(names - set(cpu)))}." if names - set(cpu) else ""
    return [
        Graph("cpu", "CPU per backend", "percent", _lines(result, cpu), "" if cpu else f"No CPU figures. {why}",
              f"As each backend's monitor pushed it to Prometheus; a gap is a backend that pushed nothing.{none}"),
        Graph("rps-backends", "RPS per backend", "answers / s", _lines(result, backends), "",
              "Successful answers in each second, as the client counted them by X-Backend."),
        Graph("rps-total", "Total RPS", "answers / s", _total(result), "",
              "Answers in each second, by the client's count, beside those due had each request taken its usual time."),
    ]  # fmt: skip


def _axis_of_time(result: Result, graph: Graph) -> Painter:
    recording = result.recording
    span = recording.stop - recording.start

    def paint(axis: Axes) -> None:
        if graph.absent:
            axis.text(0.5, 0.5, graph.absent, transform=axis.transAxes, ha="center", va="center", wrap=True)
        else:
            graph.paint(axis)
        axis.axvspan(0, min(result.metrics.until, recording.stop), color=RED, alpha=0.06, linewidth=0)
        _mark(axis, moments(result), span)
        axis.set_xlim(recording.start, max(recording.stop, recording.start + 1))
        axis.set_xlabel("seconds from the fault")
        axis.set_ylabel(graph.unit)
        if not graph.absent:
            axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.24), ncols=3, frameon=False, fontsize=9)

    return paint


def time_svgs(result: Result, graph: Graph) -> dict[str, str]:
    """Return a graph over time as SVG."""
    return svgs(graph.name, [_axis_of_time(result, graph)], 2.5)


def write_pngs(result: Result, folder: Path) -> None:
    """Write the three graphs as PNG files."""
    for graph in time_graphs(result):

        def paint(axis: Axes, graph: Graph = graph) -> None:
            _axis_of_time(result, graph)(axis)
            axis.set_title(graph.title, loc="left", pad=28)

        (folder / f"{graph.name}.png").write_bytes(png_or_svg(graph.name, [paint], (10, 3.2), "png"))


def _histogram(
    title: str, records: Sequence[Record], edges: list[float], values: Mapping[str, float | None]
) -> Painter:
    def paint(axis: Axes) -> None:
        times = [each.latency for each in records if each.failure in ("", "timeout")]
        if times:
            axis.hist(times, bins=edges, weights=[100 / len(times)] * len(times), color=PALETTE[0])
        for word, at in values.items():
            if at:
                axis.axvline(at, color=INK, linewidth=1, linestyle=":")
                axis.annotate(
                    word, (at, 0.86), (3, 0), xycoords=("data", "axes fraction"), textcoords="offset points", fontsize=9
                )
        axis.set_xscale("log")
        axis.set_ylabel(f"{title}, %")
        axis.grid(alpha=0.3, axis="y")
        ticks = [at for at in (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30) if edges[0] <= at <= edges[-1]]
        axis.set_xticks(ticks, [f"{at * 1000:g} ms" if at < 1 else f"{at:g} s" for at in ticks])
        axis.set_xticks([], minor=True)

    return paint


def latency_svgs(result: Result) -> dict[str, str]:
    """Return how long answers took before, during and after, one above the other on one scale."""
    recording, metrics = result.recording, result.metrics
    parts = phases(recording.records, recording.start + WARM_UP, metrics.until)
    times = [max(each.latency, 1e-4) for each in recording.records if each.failure in ("", "timeout")] or [0.01, 1]
    low, high = math.log10(min(times) * 0.9), math.log10(max(times) * 1.3)
    edges = [10 ** (low + (high - low) * number / 60) for number in range(61)]
    painters = [
        _histogram(name, parts[name], edges, {"p50": metrics.latency[name].p50, "p99": metrics.latency[name].p99})
        for name in parts
    ]
    return svgs("latency", painters, 4.6)
