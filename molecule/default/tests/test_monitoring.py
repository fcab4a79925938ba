"""The site as Prometheus and the dashboards see it, against what a client counts."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests
from scenario import Scenario, wait_until

from evenkeel.prometheus import DASHBOARD, Panel, panels

BACKENDS = ("backend-1", "backend-2", "backend-3")
PANELS = panels(json.loads(DASHBOARD.read_text()), "5s")
# Seconds until the rates of the queries cover requests only.
SETTLE = 8
# Seconds that the last test may take.
AGO = 270


class Load:
    """A client that asks at a steady rate until it is stopped, and counts who answers."""

    def __init__(self, url: str, rate: float = 60) -> None:
        """Begin to ask ``url``, ``rate`` times a second."""
        self.answers: list[tuple[float, str]] = []
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(20)
        self._thread = threading.Thread(target=self._run, args=(url, 1 / rate))
        self._thread.start()

    def _run(self, url: str, interval: float) -> None:
        due = time.monotonic()
        # Bounded, should nobody stop it.
        end = due + 240
        while not self._stop.is_set() and time.monotonic() < end:
            self._pool.submit(self._ask, url)
            due += interval
            time.sleep(max(0.0, due - time.monotonic()))

    def _ask(self, url: str) -> None:
        answer = requests.get(url, timeout=60)
        self.answers.append((time.time(), answer.headers.get("X-Backend", "nobody")))

    def stop(self) -> None:
        """Stop asking."""
        self._stop.set()
        self._thread.join()
        self._pool.shutdown()

    def rates(self, start: float, end: float) -> dict[str, float]:
        """Return requests per second by backend between two times of the clock."""
        counted = Counter(name for at, name in self.answers if start <= at < end)
        return {name: count / (end - start) for name, count in counted.items()}


def query(scenario: Scenario, expression: str) -> list[dict[str, Any]]:
    """Return an instant query's result."""
    url = f"http://{scenario.addresses['balancer']}:9090/api/v1/query"
    body = requests.get(url, params={"query": expression}, timeout=60).json()
    assert body["status"] == "success", body
    result: list[dict[str, Any]] = body["data"]["result"]
    return result


def value(scenario: Scenario, expression: str) -> float:
    """Return the value of a query with one result; NaN where it has none."""
    result = query(scenario, expression)
    return float(result[0]["value"][1]) if result else float("nan")


def balanced(scenario: Scenario) -> set[str]:
    """Return the backends that HAProxy sends requests to."""
    rows = query(scenario, 'haproxy_server_status{proxy="app",state="UP"} == 1')
    return {row["metric"]["server"] for row in rows}


@pytest.fixture(scope="module")
def load(scenario: Scenario) -> Iterator[Load]:
    running = Load(f"http://{scenario.addresses['balancer']}/")
    time.sleep(SETTLE)
    yield running
    running.stop()


def test_every_target_is_up(scenario: Scenario) -> None:
    def found() -> dict[tuple[str, str], str]:
        rows = query(scenario, "up")
        return {(row["metric"]["job"], row["metric"]["instance"]): row["value"][1] for row in rows}

    wanted = {("haproxy", "balancer"), ("prometheus", "balancer")}
    wanted |= {(job, name) for job in ("backend_app", "pushgateway") for name in BACKENDS}
    wait_until(lambda: found() == dict.fromkeys(wanted, "1"), "every target is up")


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel.title)
@pytest.mark.usefixtures("load")
def test_every_query_of_the_dashboard_returns_data(scenario: Scenario, panel: Panel) -> None:
    assert panel.queries
    for expression, _ in panel.queries:
        rows = query(scenario, expression)
        assert rows, expression
        assert all(row["value"][1] != "NaN" for row in rows), expression


def test_rates_of_the_dashboard_are_what_a_client_counts(scenario: Scenario, load: Load) -> None:
    seconds = 20
    time.sleep(seconds)
    shown = {panel.title: panel.queries[0][0] for panel in PANELS}
    # The dashboard's rate at each second looks back over its own window, on average half of it.
    end = time.time()
    counted = load.rates(end - seconds - 3, end - 3)
    averages = query(scenario, f"avg_over_time(({shown['RPS per backend']})[{seconds}s:1s])")
    rates = {row["metric"]["server"]: float(row["value"][1]) for row in averages}
    assert rates == pytest.approx(counted, rel=0.03)
    total = value(scenario, f"avg_over_time(({shown['Total RPS']})[{seconds}s:1s])")
    assert total == pytest.approx(sum(counted.values()), rel=0.03)


def test_each_backend_pushes_once_a_second(scenario: Scenario) -> None:
    # The Pushgateway's own count between the first and the last sample of the window: the time of the last push, seen
    # once a second, misses a push where two samples straddle one. The test before has run longer than the window.
    pushes = 'sum by (instance) (pushgateway_http_push_duration_seconds_count{job="pushgateway",method="put"})[20s:1s]'
    rows = query(scenario, f"max_over_time({pushes}) - min_over_time({pushes})")
    assert {row["metric"]["instance"] for row in rows} == set(BACKENDS)
    # 19 intervals; a machine that is full may let a second pass.
    assert all(17 <= float(row["value"][1]) <= 20 for row in rows), rows


def test_backend_host_that_is_gone_fires_an_alert_and_leaves_a_gap(scenario: Scenario) -> None:
    container = scenario.container("backend-3")
    cpu = 'cpu_usage{instance="backend-3"}'
    assert query(scenario, cpu)
    subprocess.run(["docker", "kill", container], check=True, capture_output=True)
    gone = time.time()
    try:
        wait_until(lambda: bool(query(scenario, 'ALERTS{alertstate="firing"}')), "an alert fires", seconds=30)
        wait_until(lambda: not query(scenario, cpu), "the CPU of the backend is a gap", seconds=30)
    finally:
        subprocess.run(["docker", "start", container], check=True, capture_output=True)
    wait_until(lambda: bool(query(scenario, cpu)), "its CPU is back", seconds=90)
    wait_until(lambda: not query(scenario, 'ALERTS{alertstate="firing"}'), "no alert fires any more", seconds=90)
    wait_until(lambda: balanced(scenario) == set(BACKENDS), "the balancer sends requests to all again", seconds=90)
    # Only now: every sample of that time is there, whatever instant the queries above fell on.
    first = value(scenario, f'min(min_over_time((timestamp(ALERTS{{alertstate="firing"}}) > {gone:.3f})[{AGO}s:1s]))')
    assert first - gone <= 10, f"the first alert fired after {first - gone:.1f} s"
