"""A run judged: everything that a report tells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from evenkeel.chaos.analysis.events import Event, list_events
from evenkeel.chaos.analysis.metrics import Metrics, measure
from evenkeel.chaos.analysis.objectives import DEVIATED, HELD, Objective, objectives
from evenkeel.chaos.record import haproxy
from evenkeel.chaos.record.recording import Recording

# What a whole run can come to, beside HELD and DEVIATED: the load generator spoilt it, or it was cut off.
VOID, INCOMPLETE = "void", "incomplete"
EXIT = {HELD: 0, DEVIATED: 1, VOID: 3, INCOMPLETE: 3}


@dataclass(frozen=True)
class Result:
    """A run judged: ``reasons`` say why it doesn't count, where it doesn't."""

    recording: Recording
    metrics: Metrics
    objectives: list[Objective]
    verdict: str
    reasons: tuple[str, ...]
    events: list[Event]
    balancer: Mapping[str, int]


def verdict(recording: Recording, found: list[Objective]) -> tuple[str, tuple[str, ...]]:
    """Return the verdict and the reasons where the run doesn't count."""
    if recording.schedule.faults:
        return VOID, (*recording.schedule.faults, *recording.missing)
    if recording.missing:
        return INCOMPLETE, recording.missing
    return (DEVIATED if any(each.status == DEVIATED for each in found) else HELD), ()


def examine(recording: Recording) -> Result:
    """Judge a run."""
    metrics = measure(recording)
    found = objectives(recording, metrics)
    word, reasons = verdict(recording, found)
    counters = {"retries": "wretr", "redispatches": "wredis", "5xx": "hrsp_5xx"}
    rises = {name: haproxy.rise(recording.samples, column) for name, column in counters.items()}
    return Result(recording, metrics, found, word, reasons, list_events(recording, metrics), rises)
