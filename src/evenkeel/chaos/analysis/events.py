"""The timeline in words: the playbook's marks, what the balancers saw, what clients felt."""

from __future__ import annotations

from typing import NamedTuple

from evenkeel.chaos.analysis.detection import by_balancer, states
from evenkeel.chaos.analysis.metrics import Metrics
from evenkeel.chaos.analysis.objectives import seconds
from evenkeel.chaos.record.recording import Recording
from evenkeel.load import analysis

_MARKS = {
    "begin": "The run begins.",
    "steady": "The steady state is checked.",
    "inject": "The fault is injected: {fault} at {target}.",
    "injected": "The fault is in force.",
    "undo": "Undoing the fault.",
    "undone": "The fault is undone.",
    "recovered": "The playbook sees the target back.",
    "end": "The run ends.",
    "note": "Note.",
}


class Event(NamedTuple):
    """Something that happened ``at`` seconds from the fault; ``kind`` is mark, balancer, client or alert."""

    at: float
    kind: str
    text: str


def _balancers(recording: Recording) -> list[Event]:
    found = []
    for balancer, samples in by_balancer(recording.samples).items():
        for server in recording.plan.backends:
            before = ""
            for state in states(samples, server):
                # While the balancer is silent, it is so for all servers: said once, below.
                now = "" if state.up is None else state.status
                if now and before and now != before:
                    found.append(Event(state.seen, "balancer", f"{balancer} has {server} {now} (was {before})."))
                before = now or before
        silent = False
        for sample in samples:
            if bool(sample.error) != silent:
                silent = not silent
                text = f"{balancer} gives no statistics: {sample.error}." if silent else f"{balancer} answers again."
                found.append(Event(sample.seen, "balancer", text))
    return found


def _clients(recording: Recording, metrics: Metrics) -> list[Event]:
    found = [
        Event(recording.start, "client", f"The load begins: {recording.rate:g} requests per second."),
        Event(recording.stop, "client", "The load stops."),
    ]
    failed = sorted(analysis.failed(recording.records), key=lambda each: each.done)
    for number, each in enumerate(failed):
        if number in (0, len(failed) - 1):
            which = "The first" if number == 0 else "The last"
            which = "The only" if len(failed) == 1 else which
            found.append(
                Event(each.done, "client", f"{which} failed request: {each.method} {each.path}, {each.failure}.")
            )
    gap, at = metrics.gap
    if gap > recording.plan.slo.longest_gap:
        found.append(Event(at, "client", f"No successful answer for {seconds(gap)}."))
    if metrics.answered is not None and recording.plan.takes_out and metrics.recover is not None:
        found.append(Event(metrics.answered, "client", f"{recording.plan.target} answers its first request again."))
    return found


def list_events(recording: Recording, metrics: Metrics) -> list[Event]:
    """Return all events in order."""
    plan = recording.plan
    found = [
        Event(
            mark.at,
            "mark",
            f"{_MARKS[mark.name].format(fault=plan.fault, target=plan.target)} {mark.text}".strip()
            if mark.name != "note"
            else mark.text or _MARKS["note"],
        )
        for mark in recording.marks
        if mark.name in _MARKS
    ]
    found += _balancers(recording) + _clients(recording, metrics)
    for name, points in recording.prometheus["alerts"].items():
        if points:
            found.append(Event(points[0][0], "alert", f"Alert {name} fires (until {points[-1][0]:+.0f} s)."))
    return sorted(found, key=lambda event: event.at)
