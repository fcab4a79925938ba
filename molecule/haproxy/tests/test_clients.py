"""What clients may say of themselves, and how much of HAProxy one of them may take."""

from __future__ import annotations

import contextlib
import csv
import json
import re
import socket
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
import requests
from scenario import Scenario, wait_until

CONVERGE = "molecule/haproxy/converge.yml"
# Answers with the headers that it got, and the port that it was asked from. /hold waits until it is let go. /once hangs
# up on all but the first request of a connection.
SERVER = """
import http.server, json, os, time
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    requests = 0
    def do_GET(self):
        self.requests += 1
        if self.path == "/once" and self.requests > 1:
            self.close_connection = True
            return
        while self.path == "/hold" and not os.path.exists("/run/let-go"):
            time.sleep(0.05)
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = json.dumps(self.headers.items()).encode()
        self.send_response(200)
        self.send_header("X-Port", str(self.client_address[1]))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    do_POST = do_GET
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer.request_queue_size = 128
http.server.ThreadingHTTPServer(("127.0.0.1", 9001), Handler).serve_forever()
"""
# What a client may claim to be, and by which names.
CLAIMS = {
    "Forwarded": "for=203.0.113.7",
    "X-Forwarded-For": "203.0.113.7, 203.0.113.8",
    "X-Forwarded-Host": "evil.example",
    "X-Forwarded-Port": "1",
    "X-Forwarded-Proto": "https",
    "X-Real-IP": "203.0.113.7",
}
DISGUISED = {"X_Forwarded_For": "203.0.113.7", "X-Forwarded_Proto": "https", "X_Real_IP": "203.0.113.7"}
PROXY, CLIENT = "127.0.0.2", "127.0.0.3"
REQUESTS, CONNECTIONS = 5, 20
SETTINGS = {
    "haproxy_trusted_proxies": [f"{PROXY}/32", "203.0.113.8"],
    "haproxy_client_max_requests": REQUESTS,
    "haproxy_client_maxconn": CONNECTIONS,
    # Long enough to open all connections meanwhile, on a busy machine too, and to look on while some are held.
    "haproxy_timeout_http_request": "25s",
    "haproxy_timeout_server": "300s",
}


@pytest.fixture
def host(scenario: Scenario) -> Any:
    return scenario.host("haproxy-1")


@pytest.fixture
def address(scenario: Scenario) -> str:
    return scenario.addresses["haproxy-1"]


@pytest.fixture(scope="module", autouse=True)
def server(scenario: Scenario) -> Iterator[None]:
    host, address = scenario.host("haproxy-1"), scenario.addresses["haproxy-1"]
    host.check_output("systemd-run --unit=echo python3 -c %s", SERVER)
    wait_until(lambda: requests.get(f"http://{address}:8080/", timeout=60).status_code == 200, "it serves")
    yield
    host.check_output("systemctl stop echo")


@pytest.fixture(scope="module")
def strict(scenario: Scenario) -> Iterator[None]:
    """Trust a proxy, and set limits; for the last tests of this file."""
    run = scenario.play(CONVERGE, "-e", json.dumps(SETTINGS))
    assert run.returncode == 0, run.stdout
    # A worker of before the reload counts its connections by itself.
    host = scenario.host("haproxy-1")
    wait_until(lambda: host.check_output("pgrep --count haproxy") == "2", "there is one worker, and its master")
    yield
    run = scenario.play(CONVERGE)
    assert run.returncode == 0, run.stdout


def seen(host: Any, source: str, *options: str, headers: dict[str, str] | None = None) -> list[tuple[str, str]]:
    """Ask on the host itself from one of its own addresses; return the last answer's headers as the server saw them."""
    words = [word for name, value in (headers or {}).items() for word in ("--header", f"{name}: {value}")]
    command = "curl --silent --fail --interface %s " + "%s " * len([*words, *options]) + "http://127.0.0.1:8080/"
    told = json.JSONDecoder().raw_decode(host.check_output(command, source, *words, *options))[0]
    known = {name.lower() for name in (*CLAIMS, *DISGUISED)}
    return sorted((name.lower(), value) for name, value in told if name.lower() in known)


def logged(host: Any, source: str) -> bool:
    """Return whether the last request in HAProxy's log came from an address."""
    lines = host.check_output("journalctl -t haproxy --no-pager -o cat -n 30").splitlines()
    clients = [line.partition(":")[0] for line in lines if '"GET / HTTP/1.1"' in line]
    return bool(clients) and clients[-1] == source


def raw(address: str, head: bytes) -> bytes:
    """Send a head as it is, and return the first of the answer; empty where there is none."""
    with contextlib.suppress(ConnectionError), socket.create_connection((address, 8080), timeout=60) as connection:
        connection.sendall(head)
        return first(connection)
    return b""


def held(address: str) -> int:
    """Return how many connections of clients HAProxy has."""
    lines = requests.get(f"http://{address}:8404/stats;csv", timeout=60).text.lstrip("# ").splitlines()
    return next(
        int(row["scur"]) for row in csv.DictReader(lines) if (row["pxname"], row["svname"]) == ("site", "FRONTEND")
    )


def first(connection: socket.socket) -> bytes:
    with contextlib.suppress(ConnectionError):
        return connection.recv(1000)
    return b""


def test_what_a_client_says_of_itself_is_dropped(host: Any) -> None:
    plain = [("x-forwarded-for", CLIENT), ("x-forwarded-proto", "http")]
    assert seen(host, CLIENT, headers=CLAIMS) == plain
    assert seen(host, CLIENT, headers=DISGUISED) == plain
    assert seen(host, CLIENT) == plain
    wait_until(lambda: logged(host, CLIENT), "the log names the client")


@pytest.mark.parametrize("path", ["/metrics;a=b", "/metrics/;a", "/;a/metrics", "/%6detrics%3ba=b"])
def test_private_paths_with_parameters_are_not_served(address: str, path: str) -> None:
    assert raw(address, f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()).startswith(b"HTTP/1.1 404")


@pytest.mark.parametrize(
    "line",
    [b"GET /x/../metrics", b"GET /./metrics", b"GET /%2e%2e/metrics", b"GET /x/..;a/metrics", b"GET /x/.."],
)
def test_paths_that_mean_another_are_refused(address: str, line: bytes) -> None:
    assert raw(address, line + b" HTTP/1.1\r\nHost: x\r\n\r\n").startswith(b"HTTP/1.1 400")


def test_dots_in_names_are_served(address: str) -> None:
    for path in ("/.well-known/x", "/a..b/...", "/x.y/..z"):
        assert raw(address, f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    "head",
    [
        b"NONSENSE\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nSpace : x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nLong: " + b"x" * 20000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"Many: x\r\n" * 200 + b"\r\n",
    ],
)
def test_malformed_requests_are_refused_here(address: str, head: bytes) -> None:
    assert raw(address, head).startswith((b"HTTP/1.1 400", b"HTTP/1.0 400"))


def ports(address: str, *requested: tuple[str, str]) -> list[str]:
    """Send requests, each a method and a body, on one connection; return the ports that HAProxy sent them from."""
    with requests.Session() as client:
        answers = [
            client.request(method, f"http://{address}:8080/", data=body, timeout=60) for method, body in requested
        ]
    assert [answer.status_code for answer in answers] == [200] * len(requested)
    return [answer.headers["X-Port"] for answer in answers]


def test_only_what_may_be_tried_again_comes_on_a_used_connection(host: Any, address: str) -> None:
    version = re.search(r"version (\d+)", host.check_output("haproxy -v"))
    assert version

    def some_used() -> bool:
        again, own = [], []
        for _ in range(3):
            first, *others = ports(address, ("GET", ""), ("POST", ""), ("POST", "text"), ("GET", "text"))
            again.append(first)
            own.extend(others)
        assert len(set(own)) == len(own)
        assert not set(own) & set(again)
        return len(set(again)) < len(again)

    if int(version[1]) < 3:
        assert not some_used(), "HAProxy can't tell them apart before 3.0"
    else:
        # HAProxy keeps an idle connection for seconds, which a busy machine may need.
        wait_until(some_used, "a connection is used again")


def test_server_that_closes_a_used_connection_costs_nobody_anything(address: str) -> None:
    with requests.Session() as client:
        asked = [client.request(method, f"http://{address}:8080/once", timeout=60) for method in ["GET", "POST"] * 10]
    assert [answer.status_code for answer in asked] == [200] * 20


@pytest.mark.parametrize(("setting", "value"), [("haproxy_retries", 0), ("haproxy_server_maxconn", 1)])
def test_where_none_may_be_used_each_request_has_its_own(
    scenario: Scenario, address: str, setting: str, value: int
) -> None:
    # Nothing is tried again, or the server does one thing at a time.
    run = scenario.play(CONVERGE, "-e", json.dumps({setting: value}))
    assert run.returncode == 0, run.stdout
    try:
        seen = ports(address, *[("GET", "")] * 4)
        assert len(set(seen)) == len(seen)
        upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}
        answer = requests.get(f"http://{address}:8080/", headers=upgrade, timeout=60)
        told = {name.lower(): value.lower() for name, value in answer.json()}
        assert (told.get("connection"), told.get("upgrade")) == ("upgrade", "websocket")
    finally:
        run = scenario.play(CONVERGE)
        assert run.returncode == 0, run.stdout


@pytest.mark.usefixtures("strict")
def test_trusted_proxy_says_who_asks(host: Any) -> None:
    said = {
        "X-Forwarded-For": "203.0.113.7, 203.0.113.8",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "a.example",
    }
    wanted = [("x-forwarded-for", said["X-Forwarded-For"]), ("x-forwarded-for", PROXY)]
    wanted += [("x-forwarded-host", "a.example"), ("x-forwarded-proto", "https")]
    assert seen(host, PROXY, headers=said) == sorted(wanted)
    # The proxy's own proxy is trusted too: the client is before it.
    wait_until(lambda: logged(host, "203.0.113.7"), "the log names the client")
    # And so on the same connection; curl asks twice.
    assert seen(host, PROXY, "http://127.0.0.1:8080/", headers=said) == sorted(wanted)
    assert seen(host, PROXY, headers=DISGUISED) == [("x-forwarded-for", PROXY), ("x-forwarded-proto", "http")]
    assert seen(host, CLIENT, headers=CLAIMS) == [("x-forwarded-for", CLIENT), ("x-forwarded-proto", "http")]


@pytest.mark.usefixtures("strict")
def test_slow_heads_end_and_one_client_has_so_many_connections(host: Any, address: str) -> None:
    with contextlib.ExitStack() as stack:
        slow = []
        for _ in range(CONNECTIONS):
            slow.append(stack.enter_context(socket.create_connection((address, 8080), timeout=180)))
            slow[-1].sendall(b"GET / HTTP/1.1\r\nHost: x\r\n")
        # HAProxy's threads take them in any order, and a later one may be counted before them.
        wait_until(lambda: held(address) == CONNECTIONS, "all are counted")
        # The next is closed without a word. Who has none is served.
        request = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
        assert raw(address, request) == b""
        assert seen(host, CLIENT)
        assert seen(host, PROXY)
        assert {re.match(rb"HTTP/1.1 (\d+)", first(each)).group(1) for each in slow} == {b"408"}  # type: ignore[union-attr]
    wait_until(lambda: raw(address, request).startswith(b"HTTP/1.1 200"), "it is served")


@pytest.mark.usefixtures("strict")
def test_one_client_has_so_many_requests_and_others_are_served(host: Any, address: str) -> None:
    def ask(path: str, **headers: str) -> int:
        return requests.get(f"http://{address}:8080{path}", headers=headers, timeout=300).status_code

    def hold() -> int:
        # The question below may have been quicker, and is one of this client's too.
        while (status := ask("/hold")) == 429:
            pass
        return status

    digest = requests.get(f"http://{address}:8404/digest", timeout=60).text
    with ThreadPoolExecutor(REQUESTS) as pool:
        held: list[Future[int]] = []
        try:
            held = [pool.submit(hold) for _ in range(REQUESTS)]
            wait_until(lambda: ask("/") == 429, "this client has all that one may have")
            answer = requests.get(f"http://{address}:8080/", timeout=60)
            assert (answer.status_code, answer.headers["Retry-After"]) == (429, "1")
            assert seen(host, CLIENT)
            # Behind a trusted proxy each of its clients has a count of its own.
            assert seen(host, PROXY, headers={"X-Forwarded-For": "203.0.113.9"})
            assert ask("/", **{"X-Evenkeel-Load": digest}) == 200
        finally:
            host.check_output("touch /run/let-go")
        assert [each.result() for each in held] == [200] * REQUESTS
    host.check_output("rm /run/let-go")
    wait_until(lambda: ask("/") == 200, "it is served again")


@pytest.mark.usefixtures("strict")
def test_proxy_protocol_is_taken_from_trusted_proxies_alone(scenario: Scenario, host: Any) -> None:
    run = scenario.play(CONVERGE, "-e", json.dumps(SETTINGS | {"haproxy_proxy_protocol": True}))
    assert run.returncode == 0, run.stdout
    # curl says its own address so; a client that says it is not understood.
    assert seen(host, PROXY, "--haproxy-protocol") == [("x-forwarded-for", PROXY), ("x-forwarded-proto", "http")]
    assert host.run("curl --silent --fail --interface %s http://127.0.0.1:8080/", PROXY).rc != 0
    assert host.run("curl -sf --haproxy-protocol --interface %s http://127.0.0.1:8080/", CLIENT).rc != 0
    assert seen(host, CLIENT) == [("x-forwarded-for", CLIENT), ("x-forwarded-proto", "http")]
