"""When the balancers took the target out of rotation, and when it was back: from their own statistics."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from evenkeel.chaos.record.haproxy import Sample
from evenkeel.chaos.record.plan import Plan


class State(NamedTuple):
    """A server at a balancer: ``up`` is None while the balancer doesn't answer; times as in Sample."""

    at: float
    seen: float
    up: bool | None
    status: str


class Rotation(NamedTuple):
    """The target's way out and back, in the samples' own time; None where it didn't happen.

    Attributes:
        last_in: when it was last asked for and in, before it was out.
        out: when every balancer was seen to have taken it out.
        last_out: until when every balancer was sure to have it out.
        back: when every balancer was seen to have it in again, to the end.
        last_off: when a balancer was last seen without it.
    """

    last_in: float | None
    out: float | None
    last_out: float | None
    back: float | None
    last_off: float | None


def is_up(status: str) -> bool:
    """Tell whether requests are sent there: ``UP 1/3`` is on its way down and still gets them, ``no check`` always."""
    return status.split(" ")[0] == "UP" or status == "no check"


def states(samples: Iterable[Sample], server: str) -> list[State]:
    """Return a server's states at one balancer.

    A server that was down and up again between two samples shows in the count of its downs: it gets a state of its own.
    """
    found: list[State] = []
    downs: int | None = None
    for sample in samples:
        row = sample.servers.get(server)
        if sample.error or row is None:
            found.append(State(sample.at, sample.seen, None, sample.error or "unknown"))
            continue
        up = is_up(row["status"])
        now = int(row.get("chkdown", 0))
        if up and downs is not None and now > downs and found and found[-1].up:
            found.append(State(sample.at, sample.seen, False, "DOWN in between"))
        downs = now
        found.append(State(sample.at, sample.seen, up, row["status"]))
    return found


def site_states(samples: Iterable[Sample], servers: Sequence[str]) -> list[State]:
    """Return a balancer's own states: up while it answers and has all servers in."""
    return [
        State(
            sample.at,
            sample.seen,
            None
            if sample.error
            else all(name in sample.servers and is_up(sample.servers[name]["status"]) for name in servers),
            sample.error or "answers",
        )
        for sample in samples
    ]


def _observe(found: Sequence[State], inject: float, base: float) -> Rotation:
    """Return one balancer's view: out from ``inject`` on, back from ``base`` on."""
    since = [state for state in found if state.at >= inject]
    outs = [state for state in since if state.up is False]
    offs = [state for state in since if not state.up]
    ins = [state for state in found if state.up and (not outs or state.at < outs[0].at)]
    # Back for good: up from here to the end.
    ups = [state for state in since if state.up and state.at >= (offs[-1].at if offs else base)]
    if not since or not since[-1].up:
        ups = []
    return Rotation(
        ins[-1].at if outs and ins else None,
        outs[0].seen if outs else None,
        outs[-1].at if outs else None,
        ups[0].seen if ups else None,
        offs[-1].at if offs else None,
    )


def by_balancer(samples: Iterable[Sample]) -> dict[str, list[Sample]]:
    """Return the samples of each balancer."""
    found: dict[str, list[Sample]] = {}
    for sample in samples:
        found.setdefault(sample.balancer, []).append(sample)
    return found


def observe(samples: Sequence[Sample], plan: Plan, inject: float, base: float) -> Rotation:
    """Return what all balancers together saw: each must have noticed, and each must have it back.

    Args:
        samples: of all balancers, in order.
        plan: names the target.
        inject: when the fault struck.
        base: from when it can be back.
    """
    views = []
    for each in by_balancer(samples).values():
        found = states(each, plan.target) if plan.strikes_backend else site_states(each, plan.backends)
        views.append(_observe(found, inject, base))

    def all_of(values: list[float | None]) -> list[float]:
        known = [value for value in values if value is not None]
        return known if len(known) == len(values) else []

    offs = [view.last_off for view in views if view.last_off is not None]
    return Rotation(
        min((view.last_in for view in views if view.last_in is not None), default=None),
        max(all_of([view.out for view in views]), default=None),
        min(all_of([view.last_out for view in views]), default=None),
        max(all_of([view.back for view in views]), default=None),
        max(offs, default=None),
    )
