"""All of a run's files, read, with every time counted in seconds from the moment the fault was injected."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from evenkeel.chaos.record import haproxy, run_folder, timeline
from evenkeel.chaos.record.haproxy import Sample
from evenkeel.chaos.record.plan import Plan, read_plan
from evenkeel.chaos.record.timeline import Mark
from evenkeel.errors import EvenkeelError
from evenkeel.load.records import Record, read
from evenkeel.load.schedule_check import ScheduleCheck, check_schedule

# Seconds without a sample at the end, from which on nobody knows what was back for good.
_UNWATCHED = 5.0
# Seconds by which the playbook's clock and the generator's may disagree: a busy machine writes its marks late.
_CLOCK = 1.0


@dataclass(frozen=True)
class Recording:
    """What a run left behind; times in seconds from the fault, those before it negative.

    Attributes:
        epoch: seconds since the epoch at time 0.
        marks: the playbook's.
        records: every request.
        start: when the load began.
        stop: when the load stopped; where it was killed, the last it wrote.
        rate: requests per second offered.
        schedule: whether the generator kept its schedule.
        samples: the balancers', of all.
        prometheus: as the sampler wrote it.
        missing: why the run is incomplete, one sentence each.
    """

    plan: Plan
    epoch: float
    marks: list[Mark]
    records: list[Record]
    start: float
    stop: float
    rate: float
    schedule: ScheduleCheck
    samples: list[Sample]
    prometheus: Mapping[str, Any]
    missing: tuple[str, ...]

    def at(self, name: str) -> float | None:
        """Return when the playbook marked something: ``undone`` for the last time, the others for the first."""
        return (timeline.last if name == "undone" else timeline.first)(self.marks, name)


def _prometheus(folder: Path, epoch: float) -> dict[str, Any]:
    """Return the sampler's figures, or why there are none: a report is possible without."""
    try:
        content = run_folder.read_object(folder / run_folder.PROMETHEUS)
        moved = {
            kind: {
                title: {name: [(at - epoch, value) for at, value in points] for name, points in series.items()}
                for title, series in (content["graphs"].items() if kind == "graphs" else [("", content["alerts"])])
            }
            for kind in ("graphs", "alerts")
        }
        return {"graphs": moved["graphs"], "alerts": moved["alerts"][""], "error": str(content["error"])}
    except EvenkeelError as error:
        reason = str(error) if (folder / run_folder.PROMETHEUS).exists() else "The sampler wrote none: it was killed."
    except (AttributeError, KeyError, TypeError, ValueError):
        reason = f"The file {folder / run_folder.PROMETHEUS} is not one that the sampler has written."
    return {"graphs": {}, "alerts": {}, "error": reason}


def read_recording(folder: Path) -> Recording:
    """Return a run's files; raises EvenkeelError where there is nothing to judge."""
    plan = read_plan(run_folder.existing(folder))
    marks = timeline.read(folder)
    epoch = timeline.first(marks, "inject")
    if epoch is None:
        raise EvenkeelError(
            f"The run in {folder} never injected its fault (no mark inject): there is nothing to judge."
        )
    run = read(folder / run_folder.LOAD)
    shift = run.started - epoch
    records = [record._replace(at=record.at + shift) for record in run.records]
    samples = [sample._replace(at=sample.at - epoch, seen=sample.seen - epoch) for sample in haproxy.read(folder) or []]
    stop = run.end.stopped + shift if run.end else max((record.done for record in records), default=shift)
    marks = [mark._replace(at=mark.at - epoch) for mark in marks]
    recording = Recording(
        plan=plan,
        epoch=epoch,
        marks=marks,
        records=records,
        start=shift,
        stop=stop,
        rate=run.settings.rate,
        schedule=check_schedule(run, 0, stop - shift),
        samples=sorted(samples, key=lambda sample: sample.seen),
        prometheus=_prometheus(folder, epoch),
        missing=(),
    )
    return replace(recording, missing=tuple(_missing(recording, ended=run.end is not None)))


def _missing(recording: Recording, *, ended: bool) -> list[str]:
    """Return what the run lacks to be judged as a whole."""
    found = []
    over = recording.at("end")
    if over is None:
        found.append("The run was cut off: its timeline has no end.")
    elif recording.at("injected") is None:
        found.append("The fault was never in force as a whole: the timeline has no injected.")
    if not ended:
        found.append("The load generator was killed: its records have no end.")
    if not recording.records or recording.start >= 0:
        found.append("No load was running when the fault was injected.")
    undone = recording.at("undone") or 0
    if recording.stop < undone:
        found.append("The load ended before the fault was undone.")
    if all(sample.error for sample in recording.samples):
        found.append("No balancer was ever seen: there are no samples of its statistics.")
    elif over is not None and max(sample.seen for sample in recording.samples) < undone:
        found.append("The sampler ended before the fault was undone.")
    else:
        found += [sentence for name in recording.plan.balancers if (sentence := _unwatched(recording, name))]
    # No time is below zero but by a clock that was set.
    if undone < 0 or (over is not None and over < recording.stop - _CLOCK):
        found.append("The clock of the machine that ran this was set back meanwhile: its times say nothing.")
    return found


def _unwatched(recording: Recording, balancer: str) -> str:
    """Return why what is said of a balancer was not seen as a whole; empty where it was."""
    samples = [sample for sample in recording.samples if sample.balancer == balancer]
    if all(sample.error for sample in samples):
        return f"{balancer} was never seen: there are no samples of its statistics."
    last = max(sample.seen for sample in samples)
    if last < recording.stop - _UNWATCHED:
        return f"The sampler ended before the load: it saw {balancer} last at {last:+.1f} s."
    return ""
