"""Did the generator keep its own schedule? If not, its figures are about itself, and the run doesn't count."""

from __future__ import annotations

from dataclasses import dataclass

from evenkeel.load.analysis import percentile
from evenkeel.load.failures import LOCAL
from evenkeel.load.records import Run
from evenkeel.load.schedule import offered


@dataclass(frozen=True)
class ScheduleCheck:
    """How well the schedule was kept.

    Attributes:
        p99_late: seconds, of the requests sent.
        max_late: seconds, of the requests sent and of the generator's own pauses.
        cpu: share of one core that the generator used; None where the run was killed.
        faults: why the run doesn't count, one sentence each; none where it does.
    """

    p99_late: float
    max_late: float
    cpu: float | None
    faults: tuple[str, ...]


def check_schedule(run: Run, start: float, end: float) -> ScheduleCheck:
    """Check the part of a run from ``start`` to ``end``.

    The limit for the worst lateness is ``max_lateness``: at its default, half a second, it is half of the gap of one
    second that a site must stay below, so a gap of the site can't be one of the generator. The limit for the 99th
    percentile is a tenth of that: this much, at most, the reported p99 may owe to the generator.
    """
    limit = run.settings.max_lateness
    inside = [record for record in run.records if start <= record.at < end]
    late = sorted(record.late for record in inside)
    p99 = percentile(late, 99) or 0.0
    # A pause matters where it overlaps the window.
    pauses = [seconds for at, seconds in run.pauses if at < end and at + seconds > start]
    worst = max([*late[-1:], *pauses, 0.0])
    faults = []
    if worst > limit:
        faults.append(f"The generator was up to {worst:.3f} s late; {limit:g} s is the limit.")
    if p99 > limit / 10:
        faults.append(f"One request in a hundred was sent {p99:.3f} s late or more; {limit / 10:g} s is the limit.")
    local = sum(record.failure == LOCAL for record in inside)
    if local:
        faults.append(f"This machine ran out of ports, open files or memory for {local} requests.")
    if not inside:
        faults.append("Nothing was sent.")
    if run.end and not run.settings.serial:
        whole = offered(run.settings.rate, run.end.stopped)
        if len(run.records) < whole:
            faults.append(f"Only {len(run.records)} of {whole} requests were sent.")
    cpu = run.end.cpu / run.end.stopped if run.end and run.end.stopped else None
    return ScheduleCheck(p99, worst, cpu, tuple(faults))
