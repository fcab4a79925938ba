"""Own services are asked directly, whatever the operator's surroundings say."""

from __future__ import annotations

import json
import threading
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from evenkeel.chaos.run import steady
from evenkeel.chaos.run.annotate import annotate
from evenkeel.errors import EvenkeelError
from evenkeel.prometheus import query_range, rate_interval


@contextmanager
def serving(content: object) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Answer everything with JSON; yield the address and the list of (path, Authorization) that were asked for."""
    asked: list[tuple[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append((self.path, self.headers.get("Authorization", "")))
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            body = json.dumps(content).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Name a proxy that nobody can reach, and a password that nobody may get."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))


def test_prometheus_is_asked_directly() -> None:
    result = [{"metric": {"instance": "backend-1"}, "values": [[1, "2"]]}]
    with serving({"status": "success", "data": {"result": result}}) as (url, asked):
        assert query_range(url, "up", 0, 1) == {"backend-1": [(1.0, 2.0)]}
    assert [authorization for _, authorization in asked] == [""]


@pytest.mark.parametrize(("interval", "rate"), [("1s", "5000ms"), ("500ms", "3000ms"), ("1m30s", "361000ms")])
def test_rates_are_taken_over_four_scrapes_and_a_step(interval: str, rate: str) -> None:
    told = {"yaml": f"global:\n  scrape_interval: {interval}\n"}
    with serving({"status": "success", "data": told}) as (url, asked):
        assert rate_interval(url) == rate
    assert asked == [("/api/v1/status/config", "")]


@pytest.mark.parametrize("data", [{}, {"yaml": "global: {}"}, {"yaml": "["}, None])
def test_prometheus_that_does_not_say_how_often_it_scrapes_is_one_sentence(data: object) -> None:
    with serving({"status": "success", "data": data}) as (url, _), pytest.raises(EvenkeelError) as error:
        rate_interval(url)
    assert str(error.value) == f"Prometheus at {url} does not say how often it scrapes."


def test_alerts_are_asked_for_directly() -> None:
    rules = [{"name": "A", "health": "ok", "alerts": [{"labels": {"alertname": "A"}, "state": "firing"}]}]
    with serving({"status": "success", "data": {"groups": [{"rules": rules}]}}) as (url, asked):
        assert steady.ask_alerts(url) == ["A of the site"]
    assert asked == [("/api/v1/rules?type=alert", "")]


def test_grafana_is_told_directly(tmp_path: Path) -> None:
    journal = {"injected_at": 1, "fault": "loss", "target": "one", "verdict": "held", "marks": []}
    journal |= {"times": {"detected": None, "recovered": None}}
    (tmp_path / "journal.json").write_text(json.dumps(journal))
    with serving({}) as (url, asked):
        assert annotate(tmp_path, url, "own") == 1
    assert asked == [("/api/annotations", f"Basic {b64encode(b'admin:own').decode()}")]


@pytest.mark.parametrize("content", [[], {}, {"groups": []}, {"data": {"groups": [{"rules": [{}]}]}}])
def test_what_is_no_prometheus_is_one_sentence(content: object) -> None:
    with serving(content) as (url, _):
        with pytest.raises(
            EvenkeelError, match="does not say whether an alert fires: its answer is not that of a Prometheus"
        ):
            steady.ask_alerts(url)
        if "data" not in str(content):
            with pytest.raises(EvenkeelError, match=r"What answers at .* is no Prometheus\."):
                query_range(url, "up", 0, 1)


def test_production_is_not_asked_for_its_lab() -> None:
    with pytest.raises(EvenkeelError) as error:
        query_range("http://127.0.0.1:9", "up", 0, 1)
    assert str(error.value) == "Prometheus at http://127.0.0.1:9 gives no answer to a query: no connection."
