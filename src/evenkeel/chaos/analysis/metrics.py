"""A run's metrics, from its recording: pure functions; times in seconds from the fault."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from evenkeel.chaos.analysis.detection import Rotation, observe
from evenkeel.chaos.analysis.throughput import count, due_times, longest_gap, worst_second
from evenkeel.chaos.record.recording import Recording
from evenkeel.load import analysis
from evenkeel.load.analysis import Latency
from evenkeel.load.records import Record

# The load's first seconds: connections open, caches fill. And its last: answers are cut off by its end.
WARM_UP, COOL_DOWN = 2.0, 1.0
# Around inject to injected: a request sent then may have been in flight to the target.
IN_FLIGHT = 2.0
# HAProxy's slowstart: a server that is back gets its share only after it.
SETTLE = 3.0


@dataclass(frozen=True)
class Shares:
    """Which backend gave how many of the successful answers to requests due from ``start`` to ``end``."""

    start: float
    end: float
    counts: Mapping[str, int]


@dataclass(frozen=True)
class Series:
    """Second by second; ``seconds`` are their beginnings.

    Attributes:
        due: answers due, had each request taken as long as its kind did before the fault.
        ok: successful answers that came.
        failed: requests whose failure came.
        backends: successful answers by backend.
    """

    seconds: list[float]
    due: list[int]
    ok: list[int]
    failed: list[int]
    backends: dict[str, list[int]]


@dataclass(frozen=True)
class Metrics:
    """What a run came to.

    Attributes:
        sent: requests by method.
        failures: by method and kind.
        failed_in_flight: of the failures, by method, those that were in flight when the fault struck.
        slowest: seconds that the slowest answer took, by method.
        gap: (seconds, when it began) of the longest time without a successful answer.
        floor: (share of those due, when) of the worst second, counted from the fault.
        floor_anywhere: the same of the worst second wherever it begins.
        latency: by phase, of all requests.
        until: when the fault was over: undone, and the target back.
        held: when the fault took hold, no sooner than the target's last answer while it was struck.
        detect: seconds from then until the target was out.
        recover: seconds from ``recover_base`` until it was in and had answered.
        answered: when the target's first answer came after that.
    """

    sent: Mapping[str, int]
    failures: Mapping[str, Mapping[str, int]]
    failed_in_flight: Mapping[str, int]
    slowest: Mapping[str, float | None]
    gap: tuple[float, float]
    floor: tuple[float, float] | None
    floor_anywhere: tuple[float, float] | None
    latency: Mapping[str, Latency]
    until: float
    held: float
    detect: float | None
    recover: float | None
    recover_base: float
    answered: float | None
    rotation: Rotation
    shares: Mapping[str, Shares | None]
    series: Series


def phases(records: Sequence[Record], start: float, until: float) -> dict[str, list[Record]]:
    """Return the requests before, during and after the fault; those it met in flight are of the fault."""
    return {
        "before": [each for each in records if each.at >= start and each.done < 0],
        "during": [each for each in records if each.done >= 0 and each.at < until],
        "after": [each for each in records if each.at >= until and each.done >= 0],
    }


def series(recording: Recording, due: Sequence[float], ok: Sequence[float]) -> Series:
    """Return the run second by second."""
    seconds = [float(number) for number in range(math.ceil(recording.start), math.floor(recording.stop))]
    failed = sorted(each.done for each in analysis.failed(recording.records))
    names = sorted({*recording.plan.backends, *(each.backend for each in recording.records if each.backend)})
    by_name = {
        name: sorted(each.done for each in recording.records if not each.failure and each.backend == name)
        for name in names
    }
    return Series(
        seconds,
        due=[count(due, at) for at in seconds],
        ok=[count(ok, at) for at in seconds],
        failed=[count(failed, at) for at in seconds],
        backends={name: [count(times, at) for at in seconds] for name, times in by_name.items()},
    )


def _shares(records: Sequence[Record], start: float | None, end: float | None) -> Shares | None:
    if start is None or end is None or end <= start:
        return None
    counts = Counter(each.backend for each in records if not each.failure and start <= each.at < end)
    return Shares(start, end, dict(sorted(counts.items())))


def _held(recording: Recording) -> float:
    """Return when the fault took hold: no sooner than the last answer that the target gave while it was struck.

    A host that reboots is out though it answers, until its end.
    """
    injected = recording.at("injected") or 0.0
    if not recording.plan.takes_out or recording.plan.recover_from != "undone":
        return 0.0
    answers = (each.done for each in recording.records if not each.failure and each.backend == recording.plan.target)
    return max((done for done in answers if 0 < done <= injected), default=0.0)


def _recovery(recording: Recording, rotation: Rotation, base: float) -> tuple[float | None, float | None]:
    """Return (when the target was back, when it first answered); None where it was or did not."""
    plan = recording.plan
    off = base if rotation.last_off is None else max(rotation.last_off, 0.0 if plan.takes_out else base)
    answers = (
        each.done
        for each in recording.records
        if not each.failure and each.at >= off and (not plan.strikes_backend or each.backend == plan.target)
    )
    answered = min(answers, default=None)
    if rotation.back is None or answered is None or (plan.takes_out and rotation.out is None):
        return None, answered
    return max(rotation.back, answered, base), answered


def measure(recording: Recording) -> Metrics:
    """Return the metrics of a run."""
    records, plan = recording.records, recording.plan
    undone = recording.at("undone")
    base = undone if undone is not None and plan.recover_from == "undone" else 0.0
    rotation = observe(recording.samples, plan, 0.0, base)
    back, answered = _recovery(recording, rotation, base)
    until = recording.stop if back is None else max(back, undone or 0.0)
    start = recording.start + WARM_UP
    end = recording.stop - COOL_DOWN
    due, ok = due_times(records), analysis.successes(records)
    injected = recording.at("injected") or 0.0
    in_flight = [each for each in analysis.failed(records) if -IN_FLIGHT <= each.at + each.late <= injected + IN_FLIGHT]
    out = rotation.out if plan.takes_out else None
    held = _held(recording)
    sent = dict(sorted(Counter(each.method for each in records).items()))
    return Metrics(
        sent=sent,
        failures=analysis.failures_by_method(records),
        failed_in_flight={method: sum(each.method == method for each in in_flight) for method in sent},
        slowest={method: analysis.latency(each for each in records if each.method == method).max for method in sent},
        gap=longest_gap(ok, start, recording.stop),
        floor=worst_second(due, ok, start, end, 1.0),
        floor_anywhere=worst_second(due, ok, start, end, 0.05),
        latency={name: analysis.latency(each) for name, each in phases(records, start, until).items()},
        until=until,
        held=held,
        # A balancer may have it out while requests in flight are still answered.
        detect=None if rotation.out is None else max(rotation.out - held, 0.0),
        recover=None if back is None else back - base,
        recover_base=base,
        answered=answered,
        rotation=rotation,
        shares={
            "before": _shares(records, start, 0.0),
            "during": _shares(records, out, rotation.last_out),
            "after": None if back is None else _shares(records, until + SETTLE, recording.stop),
        },
        series=series(recording, due, ok),
    )
