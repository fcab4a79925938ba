"""Questions to a Prometheus, above all the very queries of the dashboard."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
import yaml

from evenkeel.errors import EvenkeelError
from evenkeel.web import session

DASHBOARD = Path(__file__).resolve().parents[2] / "files" / "dashboards" / "site.json"
TITLES = ("CPU per backend", "RPS per backend", "Total RPS")
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604_800, "y": 31_536_000}
Series = dict[str, list[tuple[float, float]]]


@dataclass(frozen=True)
class Panel:
    """One graph: its title and the queries with the label that names a curve (empty: the title does)."""

    title: str
    queries: tuple[tuple[str, str], ...]


def rate_interval(prometheus: str, timeout: float = 30) -> str:
    """Return what Grafana makes of ``$__rate_interval``: four scrapes of a Prometheus, and a step of one second.

    Raises:
        EvenkeelError: Prometheus can't be reached, or does not say how often it scrapes.
    """
    told = _ask(prometheus, "status/config", {}, timeout)
    try:
        every = str(yaml.safe_load(told["yaml"])["global"]["scrape_interval"])
    except (KeyError, TypeError, yaml.YAMLError):
        raise EvenkeelError(f"Prometheus at {prometheus} does not say how often it scrapes.") from None
    parts = re.findall(r"(\d+)(ms|[smhdwy])", every)
    return f"{round((4 * sum(int(number) * _SECONDS[unit] for number, unit in parts) + 1) * 1000)}ms"


def panels(
    dashboard: Mapping[str, object], rate: str, titles: Sequence[str] | None = None, service: str = ".+"
) -> list[Panel]:
    """Return a dashboard's panels with queries ready to send, in its order.

    Args:
        dashboard: the dashboard's JSON.
        rate: over how long a rate is taken, as :func:`rate_interval` says.
        titles: those wanted; all where it is None.
        service: the dashboard's variable of that name, a regular expression; without it, every service.

    Raises:
        EvenkeelError: a wanted panel is not there.
    """
    found = {}
    listed = dashboard["panels"]
    assert isinstance(listed, list)
    for panel in listed:
        targets = panel.get("targets", [])
        queries = [
            (
                target["expr"].replace("$__rate_interval", rate).replace("$service", service),
                target.get("legendFormat", ""),
            )
            for target in targets
        ]
        found[panel["title"]] = Panel(panel["title"], tuple(queries))
    missing = [title for title in titles or () if title not in found]
    if missing:
        raise EvenkeelError(f"The dashboard has no panel {missing[0]!r}: it has {', '.join(found)}.")
    return [panel for title, panel in found.items() if titles is None or title in titles]


def query_range(
    prometheus: str, expression: str, start: float, end: float, step: float = 1, timeout: float = 30
) -> Series:
    """Return a range query's series by name, each a list of (seconds since the epoch, value).

    The name is the label ``server`` or ``instance``, which both hold the inventory name; an alert has its own first.
    Values that are no numbers (a rate of 0 by 0) are left out, as a gap.

    Raises:
        EvenkeelError: Prometheus can't be reached or refuses the query.
    """
    parameters = {"query": expression, "start": f"{start:.3f}", "end": f"{end:.3f}", "step": f"{step:g}"}
    told = _ask(prometheus, "query_range", parameters, timeout)
    series: Series = {}
    for result in told["result"]:
        labels = result["metric"]
        name = labels.get("server") or labels.get("instance") or "all"
        if "alertname" in labels:
            name = f"{labels['alertname']} {labels.get('instance', '')}".strip()
        points = [(float(at), float(value)) for at, value in result["values"]]
        series[name] = [(at, value) for at, value in points if math.isfinite(value)]
    return series


def _ask(prometheus: str, path: str, parameters: Mapping[str, str], timeout: float) -> Any:
    """Return the data of an answer; raises EvenkeelError."""
    try:
        answer = session().get(f"{prometheus}/api/v1/{path}", params=parameters, timeout=timeout)
        body = answer.json()
    except (requests.RequestException, ValueError) as error:
        why = "no connection" if isinstance(error, requests.ConnectionError) else str(error).rstrip(".")
        raise EvenkeelError(f"Prometheus at {prometheus} gives no answer to a query: {why}.") from None
    if not isinstance(body, dict) or "status" not in body:
        raise EvenkeelError(f"What answers at {prometheus} (status {answer.status_code}) is no Prometheus.")
    if body["status"] != "success":
        raise EvenkeelError(f"Prometheus refuses the query {parameters.get('query', path)!r}: {body.get('error')}.")
    return body["data"]
