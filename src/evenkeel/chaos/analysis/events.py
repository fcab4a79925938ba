"""The timeline in words: the playbook's marks, what the balancers saw, what clients felt."""

from __future__ import annotations

from typing import NamedTuple

from evenkeel.chaos.analysis.detection import by_balancer, states
from evenkeel.chaos.analysis.metrics import Figures
from evenkeel.chaos.analysis.objectives import seconds
from evenkeel.chaos.record.recording import Evidence
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


def _balancers(evidence: Evidence) -> list[Event]:
    found = []
    for balancer, samples in by_balancer(evidence.samples).items():
        for server in evidence.plan.backends:
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


def _clients(evidence: Evidence, figures: Figures) -> list[Event]:
    found = [
        Event(evidence.start, "client", f"The load begins: {evidence.rate:g} requests per second."),
        Event(evidence.stop, "client", "The load stops."),
    ]
    failed = sorted(analysis.failed(evidence.records), key=lambda each: each.done)
    for number, each in enumerate(failed):
        if number in (0, len(failed) - 1):
            which = "The first" if number == 0 else "The last"
            which = "The only" if len(failed) == 1 else which
            found.append(
                Event(each.done, "client", f"{which} failed request: {each.method} {each.path}, {each.failure}.")
            )
    gap, at = figures.gap
    if gap > evidence.plan.slo.longest_gap:
        found.append(Event(at, "client", f"No successful answer for {seconds(gap)}."))
    if figures.answered is not None and evidence.plan.takes_out and figures.recover is not None:
        found.append(Event(figures.answered, "client", f"{evidence.plan.target} answers its first request again."))
    return found


def tell(evidence: Evidence, figures: Figures) -> list[Event]:
    """Return all events in order."""
    plan = evidence.plan
    found = [
        Event(
            mark.at,
            "mark",
            f"{_MARKS[mark.name].format(fault=plan.fault, target=plan.target)} {mark.text}".strip()
            if mark.name != "note"
            else mark.text or _MARKS["note"],
        )
        for mark in evidence.marks
        if mark.name in _MARKS
    ]
    found += _balancers(evidence) + _clients(evidence, figures)
    for name, points in evidence.prometheus["alerts"].items():
        if points:
            found.append(Event(points[0][0], "alert", f"Alert {name} fires (until {points[-1][0]:+.0f} s)."))
    return sorted(found, key=lambda event: event.at)
