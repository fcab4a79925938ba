"""The steady-state hypothesis before the fault: of the site as it stands, and of the site under the run's load."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median_high
from typing import Any

import requests

from evenkeel.chaos.analysis.detection import is_up
from evenkeel.chaos.record import haproxy, run_folder
from evenkeel.chaos.record.haproxy import Row, Sample
from evenkeel.chaos.record.plan import Plan, parse_plan, read_plan
from evenkeel.chaos.run.supervisor import is_supervised
from evenkeel.errors import EvenkeelError
from evenkeel.load import analysis, failures
from evenkeel.load.records import Run, read
from evenkeel.load.schedule_check import check_schedule
from evenkeel.web import session

_TIMEOUT = 5.0
_POLL_SECONDS = 0.5
# So long a balancer that the sampler got no answer from may still give the next one: a busy one is late now and then.
_SILENT_SECONDS = 5.0
# On its way down (UP 1/3) is not steady.
_STEADY = ("UP", "no check")


def states_problem(balancer: str, servers: Mapping[str, Row], plan: Plan, most: int) -> str:
    """Return why the fault must not strike now, by what one balancer says of its servers; empty where it may.

    Args:
        balancer: its name.
        servers: name to columns of its statistics.
        plan: the run's.
        most: how many backends may be out at once, the target among them.
    """
    missing = [name for name in plan.backends if name not in servers]
    if missing:
        return f"{balancer} has no server {', '.join(missing)}: run site.yml first."
    off = [name for name in plan.backends if servers[name]["status"] not in _STEADY]
    if plan.target in off:
        return f"{plan.target} is {servers[plan.target]['status']} at {balancer} already: mend it first."
    struck = [plan.target] if plan.strikes_backend else []
    said = ", ".join(f"{name} is {servers[name]['status']}" for name in off)
    if off and len(off) + len(struck) > most:
        return f"{said} at {balancer}, and at most {most} may be out at once (chaos_max_unavailable): mend that first."
    if len(struck) > most:
        return f"At most {most} backends may be out at once (chaos_max_unavailable), so none can be struck."
    if len(off) + len(struck) >= len(plan.backends):
        return f"Without {', '.join([*off, *struck])} no backend would be left: add one to the inventory first."
    return ""


def capacity_problem(samples: Sequence[Sample], plan: Plan) -> str:
    """Return why the backends left could not carry the load that was seen; empty where they can.

    More than half of the samples must say so: a peak of a second waits in HAProxy's queue.
    """
    if not plan.strikes_backend:
        return ""
    over: list[tuple[int, int]] = []
    for sample in samples:
        rows = {name: row for name, row in sample.servers.items() if is_up(str(row["status"]))}
        # HAProxy leaves the column empty where there is no limit.
        limits = [int(row.get("slim", 0)) for name, row in rows.items() if name != plan.target]
        busy = sum(int(row.get("scur", 0)) + int(row.get("qcur", 0)) for row in rows.values())
        if all(limits) and busy > sum(limits):
            over.append((busy, sum(limits)))
    if 2 * len(over) <= len(samples):
        return ""
    busy, limit = median_high(over)
    return (
        f"The site works on {busy} requests at once, and without {plan.target} its backends take {limit}: lower "
        "chaos_rate, or add a backend."
    )


def samples_problem(samples: Sequence[Sample], plan: Plan, most: int) -> str:
    """Return why the balancers, as last seen by the sampler, are not steady; empty where they are.

    Args:
        samples: of all balancers, in order; one that gave no answer when last asked is not steady.
        plan: the run's.
        most: how many backends may be out at once.
    """
    last = {sample.balancer: sample for sample in samples}
    for balancer in plan.balancers:
        if balancer not in last:
            return f"Nobody watches {balancer}: there are no samples of its statistics."
        if last[balancer].error:
            return f"{balancer} gives no statistics: {last[balancer].error}."
        if problem := states_problem(balancer, last[balancer].servers, plan, most):
            return problem
    return ""


def load_problem(run: Run, floor: float) -> str:
    """Return why the load so far is not that of a steady site; empty where it is.

    Args:
        run: as far as it has come.
        floor: the share of the requests due that must be answered.
    """
    end = max((record.at for record in run.records), default=0.0)
    # So short a time says little about one request in a hundred: the whole run is judged by that, afterwards.
    schedule = check_schedule(run, 0, end)
    if not run.records or schedule.max_late > run.settings.max_lateness:
        why = schedule.faults[0]
        return f"This machine can't send {run.settings.rate:.12g} requests per second: {why} Lower chaos_rate."
    failed = analysis.failed(run.records)
    if failed:
        each = failed[0]
        if each.failure == failures.CERTIFICATE:
            return (
                f"This machine trusts no certificate that {run.settings.host} shows: mend that, or set "
                "chaos_verify: false where the issuer is your own."
            )
        return (
            f"Before any fault {len(failed)} of {len(run.records)} requests failed, the first one {each.method} "
            f"{each.path} by {each.failure}{f' {each.status}' if each.status else ''}: mend the site first."
        )
    share = len(run.records) / (run.settings.rate * end) if end else 0.0
    if share < floor:
        return (
            f"Before any fault the site answers {share:.0%} of {run.settings.rate:.12g} requests per second in time, "
            f"less than {floor:.0%} (rps_floor): lower chaos_rate."
        )
    return ""


def _statistics(balancer: str, url: str, service: str) -> dict[str, Row]:
    try:
        answer = session().get(f"{url}/stats;csv", timeout=_TIMEOUT)
        answer.raise_for_status()
        servers, _ = haproxy.parse(answer.text, service)
    except (requests.RequestException, ValueError) as error:
        closed = isinstance(error, requests.ConnectionError)
        mend = " If it runs: name this machine in admin_networks, for the firewall to let it in." if closed else ""
        raise EvenkeelError(f"{balancer} gives no statistics at {url}: {_short(error)}.{mend}") from None
    return servers


def alerts_problem(groups: Sequence[Mapping[str, Any]]) -> str:
    """Return why the alerts do not say that the site is well; empty where they do.

    Args:
        groups: Prometheus' groups of alerting rules, as its API lists them. Where there are none, nothing can fire, and
            where one is not evaluated, it can't.
    """
    rules = [rule for group in groups for rule in group["rules"]]
    if not rules:
        return "it has no alerting rules, so that none of them fires says nothing: run site.yml"
    blind = [rule["name"] for rule in rules if rule["health"] != "ok"]
    if blind:
        return f"it does not evaluate {', '.join(sorted(set(blind)))} (yet)"
    return ""


def firing(groups: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the alerts that fire, each with whom it is about."""
    alerts = [alert for group in groups for rule in group["rules"] for alert in rule["alerts"]]
    labels = [alert["labels"] for alert in alerts if alert["state"] == "firing"]
    return sorted(
        {f"{each['alertname']} of {each.get('server') or each.get('instance') or 'the site'}" for each in labels}
    )


def ask_alerts(url: str) -> list[str]:
    """Return the alerts that fire, as the Prometheus at ``url`` says; raises EvenkeelError where it can't say."""
    try:
        answer = session().get(f"{url}/api/v1/rules", params={"type": "alert"}, timeout=_TIMEOUT).json()
        groups = answer["data"]["groups"]
        problem, found = alerts_problem(groups), firing(groups)
    except (requests.RequestException, KeyError, TypeError, ValueError) as error:
        problem, found = _short(error), []
    if problem:
        raise EvenkeelError(
            f"Prometheus at {url} does not say whether an alert fires: {problem}. To go without: "
            "-e chaos_prometheus_url=''."
        )
    return found


def _short(error: Exception) -> str:
    if isinstance(error, requests.ConnectionError):
        return "no connection"
    if isinstance(error, KeyError | TypeError):
        return "its answer is not that of a Prometheus"
    return str(error).rstrip(".")


def site_problem(values: Mapping[str, Any], *, alerts: bool) -> str:
    """Return why the site as it stands is not steady; empty where it is. Raises EvenkeelError for a plan of no use.

    Args:
        values: the run's plan, as in run.json.
        alerts: whether a firing alert counts.
    """
    plan = parse_plan(values)
    try:
        for balancer in plan.balancers:
            url = values["haproxy"].get(balancer)
            if not url:
                return f"Nobody knows where {balancer} gives its statistics (chaos_statistics), so nobody can ask it."
            problem = states_problem(
                balancer, _statistics(balancer, url, plan.service), plan, int(values["max_unavailable"])
            )
            if problem:
                return problem
        if alerts and values["prometheus"] and (found := ask_alerts(values["prometheus"])):
            return f"An alert is firing ({', '.join(found)}): mend that first."
    except EvenkeelError as error:
        return str(error)
    return ""


def check(values: Mapping[str, Any], seconds: float, *, alerts: bool) -> None:
    """Return once the site is steady; raises EvenkeelError where it is not so within ``seconds``."""
    deadline = time.monotonic() + seconds
    while problem := site_problem(values, alerts=alerts):
        if time.monotonic() >= deadline:
            raise EvenkeelError(problem)
        time.sleep(_POLL_SECONDS)


def samples_answered(
    ask: Callable[[], Sequence[Sample]], seconds: float = _SILENT_SECONDS, poll: float = _POLL_SECONDS
) -> Sequence[Sample]:
    """Return the samples as soon as the last one of each balancer is an answer, or else after some seconds.

    Args:
        ask: returns those there are now.
        seconds: how long to wait.
        poll: how long between two questions.
    """
    deadline = time.monotonic() + seconds
    while True:
        samples = ask()
        last = {sample.balancer: sample for sample in samples}
        if not any(sample.error for sample in last.values()) or time.monotonic() >= deadline:
            return samples
        time.sleep(poll)


def check_load(folder: Path) -> None:
    """Return where the site is steady under the load that runs; raises EvenkeelError where it is not."""
    plan = read_plan(run_folder.existing(folder))
    samples = samples_answered(lambda: haproxy.read(folder) or [])
    run = read(folder / run_folder.LOAD)
    problems = [
        load_problem(run, plan.slo.rps_floor),
        samples_problem(samples, plan, int(plan.given["max_unavailable"])),
        capacity_problem(samples, plan),
        "" if is_supervised(folder) else "Nobody would undo the fault should this playbook die: the supervisor ended.",
    ]
    if problem := next(filter(None, problems), ""):
        raise EvenkeelError(problem)
