"""How many answers came, second by second, beside how many were due."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise

from evenkeel.load import analysis
from evenkeel.load.records import Record


def due_times(records: Sequence[Record]) -> list[float]:
    """Return when each answer was due: a request's own time and the median its kind took before the fault.

    So a request that sleeps for a second by right is due a second later, and no dip is seen where it is none.
    """
    taken: dict[tuple[str, str], list[float]] = {}
    for record in records:
        if not record.failure and record.done < 0:
            taken.setdefault((record.method, record.path), []).append(record.latency)
    usual = {kind: analysis.percentile(sorted(times), 50) or 0.0 for kind, times in taken.items()}
    return sorted(record.at + usual.get((record.method, record.path), 0.0) for record in records)


def count(times: Sequence[float], start: float) -> int:
    """Return how many of the ordered times fall into the second that begins at ``start``."""
    return bisect_left(times, start + 1) - bisect_left(times, start)


def worst_second(
    due: Sequence[float], ok: Sequence[float], start: float, end: float, step: float
) -> tuple[float, float] | None:
    """Return (share, beginning) of the worst of the seconds that begin every ``step`` seconds; None without any.

    They are counted from the fault, in both directions, so that its first second is one of them.
    """
    found = []
    number = math.ceil(start / step)
    while number * step + 1 <= end:
        begin = number * step
        if wanted := count(due, begin):
            found.append((count(ok, begin) / wanted, begin))
        number += 1
    return min(found, default=None)


def longest_gap(ok: Sequence[float], start: float, end: float) -> tuple[float, float]:
    """Return (seconds, beginning) of the longest time without a success."""
    seconds = analysis.longest_gap(ok, start, end)
    edges = [start, *(at for at in ok if start <= at < end), max(start, end)]
    return seconds, next(early for early, late in pairwise(edges) if late - early >= seconds)
