"""Pure functions over records and times: seconds since the start of the run throughout."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from evenkeel.load.failures import KINDS, TIMEOUT
from evenkeel.load.records import Record

# Below the records' microseconds, above what adding floating-point seconds loses.
_ROUNDING = 1e-7


@dataclass(frozen=True)
class Latency:
    """Percentiles and maximum in seconds, of ``count`` requests; None where there are none."""

    count: int
    p50: float | None
    p90: float | None
    p99: float | None
    p999: float | None
    max: float | None


def between(records: Iterable[Record], start: float, end: float) -> list[Record]:
    """Return the requests that were to be sent at or after ``start`` and before ``end``."""
    return [record for record in records if start <= record.at < end]


def failed(records: Iterable[Record]) -> list[Record]:
    """Return the requests that failed; one that was cut off at the run's end neither failed nor succeeded."""
    return [record for record in records if record.failure in KINDS]


def successes(records: Iterable[Record]) -> list[float]:
    """Return when the successful answers were complete, in order."""
    return sorted(record.done for record in records if not record.failure)


def percentile(ordered: Sequence[float], percent: float) -> float | None:
    """Return the smallest of the ordered values that at least ``percent`` of them don't exceed: one that occurred."""
    if not ordered:
        return None
    # Rounded first: 99.9 % of 1000 is 999, and not the 999.0000000001 of floating point.
    rank = math.ceil(round(len(ordered) * percent / 100, 6))
    return ordered[max(rank, 1) - 1]


def latency(records: Iterable[Record]) -> Latency:
    """Return how long answers took.

    A timeout counts with the time it was waited for, the least that it would have taken. The other failures don't
    count: a refusal within a millisecond is no quick answer.
    """
    ordered = sorted(record.latency for record in records if record.failure in ("", TIMEOUT))
    p50, p90, p99, p999, most = (percentile(ordered, percent) for percent in (50, 90, 99, 99.9, 100))
    return Latency(len(ordered), p50, p90, p99, p999, most)


def longest_gap(times: Sequence[float], start: float, end: float) -> float:
    """Return the longest part of ``start`` to ``end``, in seconds, without any of the ordered times."""
    inside = times[bisect_left(times, start) : bisect_left(times, end)]
    return max(later - earlier for earlier, later in pairwise([start, *inside, max(start, end)]))


def per_second(times: Sequence[float], start: float, end: float) -> list[int]:
    """Return how many of the ordered times fall into each full second from ``start`` on."""
    edges = [start + number for number in range(int(end - start) + 1)]
    return [bisect_left(times, upper) - bisect_left(times, lower) for lower, upper in pairwise(edges)]


def floor(times: Sequence[float], start: float, end: float) -> int | None:
    """Return the fewest of the ordered times in any one second between ``start`` and ``end``; None if it is shorter.

    Any second, not those of the clock: a dip of a second that falls across two of these would be shared between them.
    """
    if end - start < 1:
        return None
    # The emptiest second begins right after one of the times, at the start, or ends at the end.
    fewest = bisect_left(times, start + 1) - bisect_left(times, start)
    fewest = min(fewest, bisect_left(times, end) - bisect_left(times, end - 1))
    last = 0
    for first, begin in enumerate(times):
        if not start <= begin < end - 1:
            continue
        last = max(last, first + 1)
        while last < len(times) and times[last] <= begin + 1 + _ROUNDING:
            last += 1
        fewest = min(fewest, last - first - 1)
    return fewest


def per_backend(records: Iterable[Record]) -> dict[str, int]:
    """Return how many successful answers each backend gave, by its ``X-Backend``."""
    return dict(sorted(Counter(record.backend for record in records if not record.failure).items()))


def failures_by_method(records: Iterable[Record]) -> dict[str, dict[str, int]]:
    """Return how many failed by method and kind, such as ``{"POST": {"reset": 2}}``."""
    counts: dict[str, dict[str, int]] = {}
    for (method, failure), count in sorted(Counter((each.method, each.failure) for each in failed(records)).items()):
        counts.setdefault(method, {})[failure] = count
    return counts
