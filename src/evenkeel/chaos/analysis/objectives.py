"""Each objective held or not, with its figure."""

from __future__ import annotations

import math
from dataclasses import dataclass

from evenkeel.chaos.analysis.metrics import Metrics, Shares
from evenkeel.chaos.record.recording import Recording

HELD, DEVIATED, UNJUDGED = "held", "deviated", "not judged"
# Of fewer answers a share says nothing.
_ENOUGH = 50


@dataclass(frozen=True)
class Objective:
    """One line of the verdict: what was wanted, what came, and ``detail`` where more is to be said."""

    key: str
    title: str
    goal: str
    figure: str
    value: float | None
    status: str
    detail: str = ""


def seconds(value: float | None) -> str:
    """Return a time as people read it."""
    if value is None:
        return "never"
    return f"{value * 1000:.0f} ms" if abs(value) < 0.9995 else f"{value:.2f} s"


def percent(share: float) -> str:
    """Return a share, rounded down: 94.99 % must not read as the 95.0 % it missed."""
    return f"{math.floor(share * 1000 + 1e-9) / 10:.1f} %"


def _count(key: str, title: str, failed: int, sent: int, limit: float, detail: str = "") -> Objective:
    if not sent:
        return Objective(key, title, f"≤ {limit:g}", "-", None, UNJUDGED, "none was sent")
    return _most(key, title, failed, limit, f"{failed} of {sent}", f"≤ {limit:g}", detail)


def _most(key: str, title: str, value: float | None, limit: float, text: str, goal: str, detail: str = "") -> Objective:
    status = HELD if value is not None and value <= limit else DEVIATED
    return Objective(key, title, goal, text, value, status, detail)


def _share(key: str, title: str, shares: Shares | None, wanted: dict[str, float], tolerance: float) -> Objective:
    none = [name for name, share in wanted.items() if not share]
    goal = f"{percent(max(wanted.values()))} ± {percent(tolerance)} each"
    goal += f", none to {', '.join(none)}" if none else ""
    total = sum(shares.counts.values()) if shares else 0
    if shares is None or total < _ENOUGH:
        return Objective(key, title, goal, "-", None, UNJUDGED, f"only {total} answers: too few to tell")
    found = {name: shares.counts.get(name, 0) / total for name in {**wanted, **shares.counts}}
    # A backend that is out gets nothing at all, not a little.
    off = [
        abs(share - wanted.get(name, 0.0)) if wanted.get(name) else math.copysign(math.inf if share else 0.0, 1)
        for name, share in found.items()
    ]
    text = ", ".join(f"{name or '(no name)'} {share:.1%}".replace("%", " %") for name, share in found.items())
    worst = max(off)
    status = HELD if worst <= tolerance else DEVIATED
    detail = f"of {total} answers from {shares.start:+.1f} s to {shares.end:+.1f} s"
    return Objective(key, title, goal, text, worst if math.isfinite(worst) else None, status, detail)


def _rotation(recording: Recording, metrics: Metrics) -> list[Objective]:
    plan, slo = recording.plan, recording.plan.slo
    if plan.takes_out:
        last_in = metrics.rotation.last_in
        seen = f"asked once a second; last seen in at {last_in:+.2f} s" if last_in is not None else ""
        seen += f"; from its last answer while it was struck, at {metrics.held:+.2f} s" if metrics.held else ""
        seen = seen.removeprefix("; ")
        detect = _most(
            "detect",
            "Time to detect",
            metrics.detect,
            slo.detect,
            seconds(metrics.detect),
            f"≤ {seconds(slo.detect)}",
            seen,
        )
    else:
        detect = Objective(
            "detect", "Time to detect", "-", "-", None, UNJUDGED, "this fault leaves its target in rotation"
        )
    since = "the fault" if metrics.recover_base == 0 else "its end"
    it = plan.target if plan.strikes_backend else "all servers"
    recover = _most(
        "recover",
        "Time to recover",
        metrics.recover,
        slo.recover,
        seconds(metrics.recover),
        f"≤ {seconds(slo.recover)}",
        f"from {since} until every balancer has {it} in and it answers",
    )
    return [detect, recover]


def objectives(recording: Recording, metrics: Metrics) -> list[Objective]:
    """Return every objective, judged."""
    slo, plan = recording.plan.slo, recording.plan
    gets, posts = metrics.sent.get("GET", 0), metrics.sent.get("POST", 0)
    failed, failed_post = (sum(metrics.failures.get(method, {}).values()) for method in ("GET", "POST"))
    in_flight = metrics.failed_in_flight.get("POST", 0)
    gap, gap_at = metrics.gap
    floor, anywhere = metrics.floor, metrics.floor_anywhere
    floor_status = HELD if floor and floor[0] >= slo.rps_floor - 1e-9 else DEVIATED
    floor_detail = f"of those due in a second; the worst begins at {floor[1]:+.0f} s" if floor else "no whole second"
    if anywhere:
        floor_detail += f"; wherever a second may begin: {percent(anywhere[0])} at {anywhere[1]:+.2f} s"
    p99 = metrics.latency["during"].p99
    found = [
        _count("failed_get", "Failed GET", failed, gets, slo.failed_get),
        _count(
            "failed_post",
            "Failed POST",
            failed_post - in_flight,
            posts,
            slo.failed_post,
            f"and {in_flight} in flight when the fault struck, which nobody can save",
        ),
        _most(
            "longest_gap",
            "Longest gap",
            gap,
            slo.longest_gap,
            seconds(gap),
            f"≤ {seconds(slo.longest_gap)}",
            f"without a successful answer, from {gap_at:+.2f} s",
        ),
        Objective(
            "rps_floor",
            "RPS floor",
            f"≥ {percent(slo.rps_floor)}",
            percent(floor[0]) if floor else "-",
            floor[0] if floor else None,
            floor_status,
            floor_detail,
        ),
        _most(
            "p99",
            "p99 during the fault",
            p99,
            slo.p99,
            seconds(p99) if p99 is not None else "no answers",
            f"≤ {seconds(slo.p99)}",
            f"of {metrics.latency['during'].count} requests, each from when it was due",
        ),
        *_rotation(recording, metrics),
    ]
    even = {name: 1 / len(plan.backends) for name in plan.backends}
    found.append(_share("share_before", "Shares before", metrics.shares["before"], even, slo.share_tolerance))
    if plan.takes_out and len(plan.backends) > 1:
        rest = {name: 0.0 if name == plan.target else 1 / (len(plan.backends) - 1) for name in plan.backends}
        found.append(
            _share("share_during", "Shares while it is out", metrics.shares["during"], rest, slo.share_tolerance)
        )
    found.append(_share("share_after", "Shares after", metrics.shares["after"], even, slo.share_tolerance))
    return found
