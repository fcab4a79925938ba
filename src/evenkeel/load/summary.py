"""A run's figures, as one structure for JSON and as text for people."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from evenkeel.load import analysis
from evenkeel.load.analysis import Latency
from evenkeel.load.failures import UNFINISHED
from evenkeel.load.records import Run
from evenkeel.load.schedule import offered
from evenkeel.load.schedule_check import ScheduleCheck, check_schedule


@dataclass(frozen=True)
class Summary:
    """What a run, or a window of it, came to; times in seconds since the start.

    Attributes:
        started: seconds since the epoch at time 0.
        start: the window's beginning.
        end: the window's end.
        complete: the run ended by itself, not by a kill.
        offered: requests the schedule held; those sent in a serial run.
        sent: requests sent.
        answered: requests with an answer, whatever its status.
        ok: requests answered with a status below 400.
        failed: requests failed.
        in_flight_at_end: cut off by a second signal: neither ok nor failed.
        failures: counts by method and kind.
        latency: by method, counted from the intended time of sending.
        longest_gap: the longest time without a successful answer.
        rps_floor: the fewest successful answers in any one second; None where the window is shorter.
        rps_floor_share: the same as a share of what was offered per second.
        backends: successful answers by backend.
        schedule: whether the generator kept its schedule.
        valid: whether the run counts.
    """

    started: float
    start: float
    end: float
    complete: bool
    offered: int
    sent: int
    answered: int
    ok: int
    failed: int
    in_flight_at_end: int
    failures: Mapping[str, Mapping[str, int]]
    latency: Mapping[str, Latency]
    longest_gap: float
    rps_floor: int | None
    rps_floor_share: float | None
    backends: Mapping[str, int]
    schedule: ScheduleCheck
    valid: bool

    def as_json(self) -> str:
        """Return all of it as a JSON object with the attributes' names."""
        return json.dumps(asdict(self), indent=2) + "\n"


def summarise(run: Run, start: float = 0, end: float | None = None) -> Summary:
    """Return the figures of the requests to be sent from ``start`` to ``end`` (default: when sending stopped).

    Requests belong to the window by their intended time; the gap and the floor go by when answers came.
    """
    last = run.end.stopped if run.end else max((record.done for record in run.records), default=0.0)
    end = last if end is None else min(end, last)
    inside = analysis.between(run.records, start, end)
    times = analysis.successes(run.records)
    ok = sum(not record.failure for record in inside)
    floor = analysis.floor(times, start, end)
    settings = run.settings
    due = len(inside) if settings.serial else offered(settings.rate, end) - offered(settings.rate, start)
    methods = sorted({record.method for record in inside})
    schedule = check_schedule(run, start, end)
    return Summary(
        started=run.started,
        start=start,
        end=end,
        complete=run.end is not None,
        offered=due,
        sent=len(inside),
        answered=sum(record.status > 0 for record in inside),
        ok=ok,
        failed=len(analysis.failed(inside)),
        in_flight_at_end=sum(record.failure == UNFINISHED for record in inside),
        failures=analysis.failures_by_method(inside),
        latency={method: analysis.latency(each for each in inside if each.method == method) for method in methods},
        longest_gap=analysis.longest_gap(times, start, end),
        rps_floor=floor,
        # A serial run offers nothing by itself.
        rps_floor_share=None if floor is None or settings.serial else floor / settings.rate,
        backends=analysis.per_backend(inside),
        schedule=schedule,
        valid=not schedule.faults,
    )


def _milliseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1000:.1f} ms"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name or '(no name)'} {count}" for name, count in counts.items()) or "none"


def render(summary: Summary) -> str:
    """Return the figures as lines of text."""
    began = datetime.fromtimestamp(summary.started, UTC).isoformat(timespec="milliseconds")
    killed = "" if summary.complete else "; the run was killed, this is what it had written"
    lines = [
        f"window       {summary.start:.1f} s to {summary.end:.1f} s since {began}{killed}",
        f"requests     {summary.offered} offered, {summary.sent} sent, {summary.answered} answered, {summary.ok} ok, "
        f"{summary.failed} failed, {summary.in_flight_at_end} in flight at the end",
    ]
    lines += [f"failed {method:<5} {_counts(kinds)}" for method, kinds in summary.failures.items()]
    for method, each in summary.latency.items():
        named = {"p50": each.p50, "p90": each.p90, "p99": each.p99, "p99.9": each.p999, "max": each.max}
        lines.append(f"latency {method:<4} " + "  ".join(f"{name} {_milliseconds(at)}" for name, at in named.items()))
    lines.append(f"longest gap  {summary.longest_gap:.3f} s without a successful answer")
    if summary.rps_floor is not None:
        share = "" if summary.rps_floor_share is None else f" ({summary.rps_floor_share:.0%} of those offered)"
        lines.append(f"floor        {summary.rps_floor} successful answers in the worst second{share}")
    lines.append(f"backends     {_counts(summary.backends)}")
    schedule = summary.schedule
    cpu = "" if schedule.cpu is None else f", {schedule.cpu:.0%} of a core used"
    lines.append(
        f"generator    late by p99 {_milliseconds(schedule.p99_late)}, max {_milliseconds(schedule.max_late)}{cpu}"
    )
    lines += [f"THE RUN DOESN'T COUNT: {fault}" for fault in schedule.faults]
    return "\n".join(lines) + "\n"
