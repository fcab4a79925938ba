"""How the application stops, and what it bears: a real gunicorn with the image's own settings."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from http.client import HTTPConnection
from pathlib import Path

import pytest

APP = Path(__file__).resolve().parents[2] / "files" / "guide_api"
# Seconds until a test gives up waiting.
BOUND = 120
NEVER = 3600

Start = Callable[[float], "subprocess.Popen[bytes]"]
Ask = Callable[[str], tuple[int, str]]


@pytest.fixture
def ask(tmp_path: Path) -> Ask:
    """Return a function that asks for a path on a connection of its own and returns status and body."""

    def get(path: str) -> tuple[int, str]:
        connection = HTTPConnection("localhost")
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(BOUND)
        connection.sock.connect(str(tmp_path / "socket"))
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()

    return get


@pytest.fixture
def port() -> int:
    """Return a port of this machine that is free."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture
def start(tmp_path: Path, ask: Ask, port: int) -> Iterator[Start]:
    """Return a function that starts gunicorn with a drain of so many seconds and returns once it answers."""
    with ExitStack() as running:

        def begin(drain_seconds: float) -> subprocess.Popen[bytes]:
            gunicorn = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "gunicorn",
                    "--config=gunicorn.conf.py",
                    f"--bind=unix:{tmp_path}/socket",
                    f"--bind=127.0.0.1:{port}",
                    "app:app",
                ],
                cwd=APP,
                env=os.environ
                | {"DRAIN_SECONDS": str(drain_seconds), "DRAIN_FILE": str(tmp_path / "draining")}
                | {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "metrics"), "WORKERS": "2"},
            )
            running.callback(gunicorn.wait)
            # Its workers end by themselves once it is gone.
            running.callback(gunicorn.kill)
            wait_until(lambda: answers(ask))
            return gunicorn

        yield begin


def answers(ask: Ask) -> bool:
    """Tell whether anything answers yet."""
    try:
        return ask("/healthz")[0] == 200
    except OSError:
        return False


def serves(port: int) -> bool:
    """Tell whether a client that says all at once is served."""
    connection = HTTPConnection("127.0.0.1", port, timeout=BOUND)
    try:
        connection.request("GET", "/")
        return connection.getresponse().status == 200
    except ConnectionError:
        return False
    finally:
        connection.close()


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait until ``condition`` holds; fails the test where it never does."""
    deadline = time.monotonic() + BOUND
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_sigterm_makes_the_balancer_look_away_while_everything_is_served(start: Start, ask: Ask) -> None:
    gunicorn = start(NEVER)
    assert ask("/readyz")[0] == 200
    gunicorn.terminate()
    wait_until(lambda: ask("/readyz")[0] == 404)
    # Every worker knows it, whichever answers.
    status, body = ask("/readyz")
    assert status == 404
    assert "This host is about to stop; send new requests elsewhere." in body
    assert [ask(path)[0] for path in ("/healthz", "/", "/factorial/5")] == [200, 200, 200]
    assert gunicorn.poll() is None


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_second_signal_stops_without_the_delay(start: Start, ask: Ask, second: signal.Signals) -> None:
    gunicorn = start(NEVER)
    gunicorn.terminate()
    wait_until(lambda: ask("/readyz")[0] == 404)
    gunicorn.send_signal(second)
    assert gunicorn.wait(BOUND) == 0


def test_running_requests_finish_after_the_drain(start: Start, ask: Ask) -> None:
    gunicorn = start(0.2)
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(ask, "/sleep/5/finished")
        wait_until(lambda: "backend_app_requests_running 2.0" in ask("/metrics")[1])
        gunicorn.terminate()
        assert gunicorn.wait(BOUND) == 0
        status, body = slow.result()
    assert status == 200
    assert "finished" in body


def test_no_drain_is_a_stop_at_once(start: Start) -> None:
    gunicorn = start(0)
    gunicorn.terminate()
    assert gunicorn.wait(BOUND) == 0


def test_drain_of_a_former_process_does_not_count(start: Start, ask: Ask, tmp_path: Path) -> None:
    (tmp_path / "draining").touch()
    start(NEVER)
    assert ask("/readyz")[0] == 200


def test_heads_that_never_end_do_not_keep_its_threads(start: Start, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THREADS", "2")
    monkeypatch.setenv("SILENCE_SECONDS", "1")
    start(0)
    with ExitStack() as clients:
        # More than it has threads, twice over.
        slow = [clients.enter_context(socket.create_connection(("127.0.0.1", port), timeout=BOUND)) for _ in range(8)]
        for client in slow:
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n")
        assert [client.recv(1000) for client in slow] == [b""] * 8
        # Where this test is kept waiting for that second, it is one of the silent too.
        wait_until(lambda: serves(port))
