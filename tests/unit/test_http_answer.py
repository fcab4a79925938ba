"""Asking a URL until it answers as wanted, against real servers and a clock of the test's own."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import http_answer
from evenkeel.lab.authority import Authority
from http_answer import ParameterError, run

Serve = Callable[..., str]


class Clock:
    """A clock that goes on only by ticks, one at each look, and while its user sleeps."""

    def __init__(self, tick: float = 0) -> None:
        """Begin at 1000 s."""
        self.now = 1000.0
        self.tick = tick
        self.slept: list[float] = []

    def __call__(self) -> float:
        """Return the time in seconds."""
        self.now += self.tick
        return self.now

    def sleep(self, seconds: float) -> None:
        """Let the seconds pass at once."""
        self.slept.append(seconds)
        self.now += seconds


def page(text: str, status: str = "200 OK", headers: str = "") -> bytes:
    """Return an answer as it goes over the wire."""
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(text.encode())}\r\n{headers}\r\n{text}".encode()


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Return what starts a server: each connection gets the next answer (the last one again and again).

    An answer is bytes, or a function of the connection; None accepts and says nothing.
    """
    listeners: list[socket.socket] = []
    connections: list[socket.socket] = []

    def start(*answers: Any, path: Path | None = None, seen: list[bytes] | None = None) -> str:
        listener = socket.socket(socket.AF_UNIX if path else socket.AF_INET)
        listener.bind(str(path) if path else ("127.0.0.1", 0))
        listener.listen()
        listeners.append(listener)

        def work() -> None:
            turn = 0
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                connections.append(connection)
                answer = answers[min(turn, len(answers) - 1)]
                turn += 1
                threading.Thread(target=talk, args=(connection, answer), daemon=True).start()

        def talk(connection: socket.socket, answer: Any) -> None:
            with contextlib.suppress(OSError):
                request = connection.recv(65536)
                if seen is not None:
                    seen.append(request)
                if answer is None:
                    return
                if callable(answer):
                    answer(connection)
                else:
                    connection.sendall(answer)
                connection.close()

        threading.Thread(target=work, daemon=True).start()
        return "http://localhost/x" if path else f"http://127.0.0.1:{listener.getsockname()[1]}/x"

    yield start
    for each in [*listeners, *connections]:
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
        each.close()


def answer_of(url: str, clock: Clock | None = None, **parameters: Any) -> dict[str, Any]:
    """Run the module with its defaults."""
    clock = clock or Clock()
    return run({"url": url, "seconds": 0.0, "try_seconds": 30.0, **parameters}, clock, clock.sleep)


def test_answer_is_returned(serve: Serve) -> None:
    url = serve(page("yes\n", headers="Date: Wed, 25 Nov 2026 20:00:00 GMT\r\nX-App-Version: 1.0\r\n"))
    result = answer_of(url, headers={"X-App-Version": "1.0"}, content="yes\n")
    assert result["answered"]
    assert (result["status"], result["content"]) == (200, "yes\n")
    assert result["headers"]["x-app-version"] == "1.0"
    assert result["date"] == 1795636800
    assert result["msg"] == f"{url} answered 200."


def test_asks_again_until_it_is_as_wanted(serve: Serve) -> None:
    clock = Clock()
    result = answer_of(serve(page("starting", "503 No"), page("ok")), clock, seconds=30.0)
    assert result["answered"]
    assert clock.slept == [0.25]


def test_deadline_is_a_time_whatever_a_try_takes(serve: Serve) -> None:
    # The clock runs on while the server accepts and says nothing: each try is cut off by the real socket, at once.
    clock = Clock(tick=0.5)
    result = answer_of(serve(None), clock, seconds=10.0, try_seconds=0.01)
    assert not result["answered"]
    assert 1010 <= clock.now < 1013
    assert result["status"] == 0
    assert result["msg"].endswith("did not answer as wanted within 10 s: last no whole answer in 0.01 s.")


def test_try_is_bounded_by_the_deadline(serve: Serve) -> None:
    assert "in 0.05 s" in answer_of(serve(None), seconds=0.05, try_seconds=600.0)["msg"]


@pytest.mark.parametrize(
    ("head", "piece"),
    [
        (b"HTTP/1.1 200 OK\r\nX-Long: ", b"1"),
        (b"HTTP/1.1 200 OK\r\n\r\n", b"1"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n1\r\n"),
    ],
)
def test_answer_that_drips_is_cut_off(serve: Serve, head: bytes, piece: bytes) -> None:
    def drip(connection: socket.socket) -> None:
        connection.sendall(head)
        while True:
            connection.sendall(piece)

    # Five seconds pass from piece to piece, or rather from look to look at the clock.
    clock = Clock(tick=5)
    result = answer_of(serve(drip), clock, try_seconds=40.0)
    assert result["msg"].endswith(": no whole answer in 40 s.")
    assert clock.now < 1080


def test_long_answer_is_not_read_into_memory(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_answer, "_MOST_BYTES", 1000)
    assert answer_of(serve(page("x" * 1000)))["answered"]
    assert answer_of(serve(page("x" * 1001)))["msg"].endswith("its answer is longer than 1000 bytes.")


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (b"", "the connection was closed without an answer"),
        (b"SSH-2.0-x\r\n", "what came is no HTTP (BadStatusLine)"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab", "its answer broke off"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", "its answer broke off"),
    ],
)
def test_broken_answers_are_said(serve: Serve, sent: bytes, said: str) -> None:
    result = answer_of(serve(sent))
    assert not result["answered"]
    assert result["msg"].endswith(f"did not answer as wanted: {said}.")


def test_nobody_there() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        result = answer_of(f"http://127.0.0.1:{unused.getsockname()[1]}/")
    assert result["msg"].endswith("did not answer as wanted: connection refused.")


def test_unix_socket(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    url = serve(page("OK"), path=path)
    assert answer_of(url, unix_socket=str(path))["answered"]
    missing = answer_of(url, unix_socket=str(tmp_path / "none"))
    assert missing["msg"] == f"{url} at {tmp_path}/none did not answer as wanted: no such file or directory."


def test_no_proxy_is_asked(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    proxied: list[bytes] = []
    proxy = serve(page("proxy"), seen=proxied)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, proxy)
    assert answer_of(serve(page("itself")))["content"] == "itself"
    assert not proxied


def test_redirect_is_an_answer_like_others(serve: Serve) -> None:
    elsewhere: list[bytes] = []
    other = serve(page("ok"), seen=elsewhere)
    result = answer_of(serve(page("", "302 Found", f"Location: {other}\r\n")))
    assert result["status"] == 302
    assert not result["answered"]
    assert not elsewhere


@pytest.mark.parametrize(
    ("wanted", "wrong"),
    [
        ({"status": [404]}, 'it said 200 "some text"'),
        ({"content": "other"}, 'it said 200 "some text" instead of "other"'),
        ({"matches": ["^some", "none"]}, 'it said 200 "some text", in which none is not found'),
        ({"matches": "a,b"}, 'it said 200 "some text", in which a,b is not found'),
        ({"headers": {"X-App-Version": "2"}}, "it said 200 with X-App-Version: None instead of 2"),
    ],
)
def test_what_is_not_as_wanted_is_said(serve: Serve, wanted: dict[str, Any], wrong: str) -> None:
    assert answer_of(serve(page("some\ntext")), **wanted)["msg"].endswith(f": {wrong}.")


def test_last_words_survive_a_try_that_the_deadline_cuts_off(serve: Serve) -> None:
    url = serve(page("starting", "503 No"), None)
    assert answer_of(url, seconds=0.3)["msg"].endswith('within 0.3 s: last it said 503 "starting".')


@pytest.mark.parametrize(
    ("told", "answered"),
    [
        ("pushed 1795636795.5", True),
        ("pushed 1795636790", False),
        # The Date is cut to seconds, so what was pushed this very second is younger than it.
        ("pushed 1795636800.9", True),
        ("pushed then", False),
        ("nothing", False),
    ],
)
def test_age_of_what_is_told(serve: Serve, told: str, answered: bool) -> None:
    url = serve(page(told, headers="Date: Wed, 25 Nov 2026 20:00:00 GMT\r\n"))
    assert answer_of(url, time=r"^pushed (\S+)", time_max_age=5.0)["answered"] is answered


def test_what_is_told_is_not_older_than_files(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "configuration"
    path.write_text("")
    url = serve(page("loaded 1.7e9"))
    os.utime(path, (0, 1.7e9 - 1))
    assert answer_of(url, time=r"^loaded (\S+)", time_after=[str(path)])["answered"]
    os.utime(path, (0, 1.7e9 + 1))
    late = answer_of(url, time=r"^loaded (\S+)", time_after=[str(path)])
    assert late["msg"].endswith(f"what it tells is older than {path}.")


def test_password_and_body_are_sent(serve: Serve) -> None:
    seen: list[bytes] = []
    url = serve(page("ok"), seen=seen)
    answer_of(url, method="POST", username="admin", password="p:w", body={"a": 1})
    assert seen[0].startswith(b"POST /x HTTP/1.1\r\n")
    assert b"Authorization: Basic YWRtaW46cDp3\r\n" in seen[0]
    assert b"Content-Type: application/json\r\n" in seen[0]


@pytest.mark.parametrize(
    "parameters",
    [
        {"url": "ftp://127.0.0.1/"},
        {"url": "127.0.0.1:80"},
        {"url": "http://127.0.0.1:99999/"},
        {"url": "http://127.0.0.1/a b"},
        {"url": "http://user:word@127.0.0.1/"},
        {"matches": "("},
        {"time": "no group"},
        {"seconds": -1.0},
        {"try_seconds": 0.0},
    ],
)
def test_what_cannot_be_meant_is_refused(parameters: dict[str, Any]) -> None:
    with pytest.raises(ParameterError):
        answer_of(**{"url": "http://127.0.0.1/", **parameters})


def test_name_that_is_never_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_more: [asked.wait(60)])
    result = answer_of("http://example.test/", try_seconds=0.02)
    asked.set()
    assert result["msg"].endswith("looking up example.test took too long.")


def test_headers_are_sent(serve: Serve) -> None:
    seen: list[bytes] = []
    assert answer_of(serve(page("ok"), seen=seen), send={"X-Evenkeel-Load": "abc"})["answered"]
    assert b"\r\nX-Evenkeel-Load: abc\r\n" in seen[0]


def test_asks_by_tls_for_the_host_and_takes_any_certificate(serve: Serve, tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    (tmp_path / "own.pem").write_text(Authority().pem("shop.example.com"))
    context.load_cert_chain(tmp_path / "own.pem")
    asked: list[str | None] = []
    context.sni_callback = lambda _, name, __: asked.append(name)

    def work(listener: socket.socket) -> None:
        with listener, context.wrap_socket(listener.accept()[0], server_side=True) as own:
            asked.append(own.recv(1000).decode().split("Host: ")[1].split("\r\n")[0])
            own.sendall(page("yes"))

    listener = socket.create_server(("127.0.0.1", 0))
    url = f"https://127.0.0.1:{listener.getsockname()[1]}/x"
    threading.Thread(target=work, args=(listener,), daemon=True).start()
    assert answer_of(url, host="shop.example.com", content="yes")["answered"]
    assert asked == ["shop.example.com", "shop.example.com"]
    # Who speaks no TLS is said to do so.
    refused = answer_of(serve(b"plain text\r\n").replace("http:", "https:"), required=False)
    assert "no TLS came about" in refused["msg"]
