"""The load generator against servers on the loopback that freeze, reset, refuse, stall and lie."""

from __future__ import annotations

import asyncio
import errno
import resource
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from evenkeel.lab.authority import Authority
from evenkeel.load import failures
from evenkeel.load.client import resolve
from evenkeel.load.generator import Signals, generate
from evenkeel.load.records import Writer, read
from evenkeel.load.settings import Settings, parse_mix
from evenkeel.load.summary import Summary, summarise

Answer = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\nX-Backend: backend-1\r\nX-App-Version: v1\r\nContent-Length: 2\r\n\r\nok"


@asynccontextmanager
async def serving(
    answer: Answer, connections: list[int] | None = None, tls: ssl.SSLContext | None = None
) -> AsyncIterator[str]:
    """Serve every request with ``answer``; each connection is added to ``connections``. Yields the URL."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if connections is not None:
            connections.append(1)
        try:
            while not writer.is_closing():
                await answer(await reader.readuntil(b"\r\n\r\n"), writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=2000, ssl=tls)
    try:
        yield f"{'https' if tls else 'http'}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


async def load(url: str, records: Path, signals: Signals | None = None, **settings: Any) -> Summary:
    """Run the generator and summarise what it wrote."""
    mix = parse_mix([settings.pop("mix", "GET /=1,POST /=1")])
    # Generous, so that a busy machine cuts no schedule short and fails no request; the tests of both set their own.
    chosen = Settings(url, mix, **{"max_lateness": 30, "timeout": 60, **settings})
    await generate(chosen, lambda: Writer(records, time.time(), chosen), signals or Signals())
    return summarise(read(records))


async def ok(_: bytes, writer: asyncio.StreamWriter) -> None:
    writer.write(OK)


async def reset(_: bytes, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


async def hang_up(_: bytes, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def cut_off(_: bytes, writer: asyncio.StreamWriter) -> None:
    writer.write(OK[:-1])
    writer.close()


async def unavailable(_: bytes, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")


async def stall(_: bytes, writer: asyncio.StreamWriter) -> None:
    writer.write(OK[:30])
    await asyncio.sleep(60)


async def lie(_: bytes, writer: asyncio.StreamWriter) -> None:
    writer.write(b"220 mail.example ESMTP\r\n\r\n")


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (reset, "reset"),
        (hang_up, "reset"),
        (cut_off, "reset"),
        (unavailable, "status"),
        (stall, "timeout"),
        (lie, "garbage"),
    ],
)
def test_failure_is_counted_under_its_kind(answer: Answer, kind: str, tmp_path: Path) -> None:
    async def run() -> Summary:
        async with serving(answer) as url:
            timeout = 0.5 if kind == "timeout" else 60
            return await load(url, tmp_path / "r", rate=100, duration=0.2, timeout=timeout)

    found = asyncio.run(run())
    assert found.failures == {"GET": {kind: 10}, "POST": {kind: 10}}
    assert (found.ok, found.failed) == (0, 20)
    if kind == "timeout":
        assert (found.latency["GET"].p50 or 0) > 0.49


def test_every_request_carries_the_headers_that_were_asked_for(tmp_path: Path) -> None:
    heard: list[bytes] = []

    async def answer(asked: bytes, writer: asyncio.StreamWriter) -> None:
        heard.append(asked)
        writer.write(OK)

    async def run() -> None:
        async with serving(answer) as url:
            await load(url, tmp_path / "records", rate=40, duration=0.5, mix="GET /=1", headers=headers)

    headers = (("Host", "shop.example.com"), ("X-Evenkeel-Load", "known"))
    asyncio.run(run())
    assert heard
    assert all(b"\r\nHost: shop.example.com\r\n" in asked and asked.count(b"Host:") == 1 for asked in heard)
    assert all(b"\r\nX-Evenkeel-Load: known\r\n" in asked for asked in heard)
    assert read(tmp_path / "records").settings.headers == headers


def test_refusal_is_counted_as_such(tmp_path: Path) -> None:
    with socket.socket() as taken:
        # Bound but not listening: nobody else can take the port meanwhile.
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        found = asyncio.run(load(url, tmp_path / "r", rate=100, duration=0.2))
    assert found.failures == {"GET": {"connect": 10}, "POST": {"connect": 10}}
    assert found.answered == 0


def test_a_get_is_not_sent_again_where_its_kept_connection_breaks(tmp_path: Path) -> None:
    received, signals = [], Signals()

    async def every_second(asked: bytes, writer: asyncio.StreamWriter) -> None:
        received.append(asked)
        if len(received) == 20:
            signals.raised()
        if len(received) % 2:
            writer.write(OK)
        else:
            writer.close()

    async def run() -> Summary:
        async with serving(every_second) as url:
            return await load(url, tmp_path / "r", signals, mix="GET /=1", serial=True, fresh=0)

    found = asyncio.run(run())
    assert found.failures["GET"]["reset"] == found.sent // 2 == 10
    assert len(received) == found.sent


@pytest.mark.parametrize("fresh", [0, 1])
def test_fresh_and_kept_connections(fresh: float, tmp_path: Path) -> None:
    connections: list[int] = []
    come, signals = count(1), Signals()

    async def ten_times(_: bytes, writer: asyncio.StreamWriter) -> None:
        if next(come) == 10:
            signals.raised()
        writer.write(OK)

    async def run() -> Summary:
        async with serving(ten_times, connections) as url:
            return await load(url, tmp_path / "r", signals, serial=True, fresh=fresh)

    found = asyncio.run(run())
    assert found.ok == found.sent == 10
    assert len(connections) == (found.sent if fresh else 1)
    assert found.backends == {"backend-1": found.ok}


def test_a_freeze_shows_in_the_open_loop_and_hides_in_a_serial_client(tmp_path: Path) -> None:
    """The two clients run side by side and meet the same server, which freezes for 3 s."""
    thawed = asyncio.Event()
    thawed.set()
    served = {"open": 0, "serial": 0}

    async def freezing(asked: bytes, writer: asyncio.StreamWriter) -> None:
        await thawed.wait()
        served["serial" if b" /serial " in asked else "open"] += 1
        writer.write(OK)

    async def freeze(*both: Signals) -> None:
        # One request in hundreds is none that a p99 shows.
        while served["serial"] < 400:  # noqa: ASYNC110 - the server says so by a number
            await asyncio.sleep(0.01)
        thawed.clear()
        await asyncio.sleep(3)
        thawed.set()
        for signals in both:
            signals.raised()

    async def run() -> tuple[Summary, Summary]:
        open_ended, serial_ended = Signals(), Signals()
        async with serving(freezing) as url:
            found, serial, _ = await asyncio.gather(
                load(url, tmp_path / "open", open_ended, rate=100),
                load(url, tmp_path / "serial", serial_ended, serial=True, fresh=0, mix="GET /serial=1"),
                freeze(open_ended, serial_ended),
            )
        return found, serial

    found, serial = asyncio.run(run())
    # 300 requests were to be sent while it was frozen, evenly.
    assert min(found.latency[method].p99 or 0 for method in ("GET", "POST")) > 2.5
    assert found.sent == found.ok == found.offered > 290
    assert found.longest_gap > 2.9
    assert found.rps_floor == 0
    # The one client sent one request into the freeze. Its gap shows it.
    assert (serial.latency["GET"].p99 or 60) < 1
    assert (serial.latency["GET"].max or 0) > 2.9
    assert serial.longest_gap > 2.9


def test_a_blocked_generator_voids_its_run(tmp_path: Path) -> None:
    async def run() -> Summary:
        async with serving(ok) as url:
            # Longer than max_lateness, by which a busy machine may be late at the end and still send all.
            asyncio.get_running_loop().call_later(0.2, time.sleep, 1.7)
            return await load(url, tmp_path / "r", rate=20, duration=2, max_lateness=1.5)

    found = asyncio.run(run())
    assert not found.valid
    assert found.schedule.max_late > 1.5
    assert found.schedule.faults[0].startswith("The generator was up to ")
    # Late as they were, all were sent, and their latency tells it.
    assert found.sent == found.offered == 40
    assert (found.latency["GET"].max or 0) > 1.5


def test_a_blocked_generator_voids_a_serial_run(tmp_path: Path) -> None:
    async def run() -> Summary:
        async with serving(ok) as url:
            asyncio.get_running_loop().call_later(0.2, time.sleep, 0.8)
            return await load(url, tmp_path / "r", serial=True, duration=0.5, max_lateness=0.5)

    assert not asyncio.run(run()).valid


def test_many_requests_run_at_once(tmp_path: Path) -> None:
    """None is answered before all have come: with a limit of connections, none would be in time."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    total = 1500
    come, all_here = count(1), asyncio.Event()

    async def together(_: bytes, writer: asyncio.StreamWriter) -> None:
        if next(come) == total:
            all_here.set()
        await all_here.wait()
        writer.write(OK)

    async def run() -> Summary:
        async with serving(together) as url:
            return await load(url, tmp_path / "r", rate=total, duration=1)

    assert asyncio.run(run()).ok == total


@pytest.mark.parametrize("seconds", [0, 0.0003, 0.0007])
def test_a_signal_between_two_requests_cuts_no_schedule_short(seconds: float, tmp_path: Path) -> None:
    signals, come = Signals(), count(1)

    async def signal_soon(_: bytes, writer: asyncio.StreamWriter) -> None:
        if next(come) == 200:
            asyncio.get_running_loop().call_later(seconds, signals.raised)
        writer.write(OK)

    async def run() -> Summary:
        async with serving(signal_soon) as url:
            return await load(url, tmp_path / "r", signals, rate=2000)

    found = asyncio.run(run())
    assert found.sent == found.ok == found.offered >= 200
    assert found.valid


def test_second_signal_leaves_what_runs_unfinished(tmp_path: Path) -> None:
    signals, come = Signals(), count(1)

    async def raise_twice(_: bytes, __: asyncio.StreamWriter) -> None:
        if next(come) == 5:
            signals.raised()
            signals.raised()
        await asyncio.sleep(60)

    async def run() -> Summary:
        async with serving(raise_twice) as url:
            return await load(url, tmp_path / "r", signals, rate=1000, mix="GET /=1")

    found = asyncio.run(run())
    assert found.in_flight_at_end == found.sent >= 5
    assert found.failed == 0


def test_of_several_addresses_the_one_that_answers_is_taken() -> None:
    async def run() -> tuple[int, str]:
        async with serving(ok) as url:
            return await resolve(url.replace("127.0.0.1", "localhost"))

    assert asyncio.run(run()) == (socket.AF_INET, "127.0.0.1")


def test_what_this_machine_lacks_is_not_the_servers_failure() -> None:
    lacking = OSError(errno.EMFILE, "Too many open files")
    key = aiohttp.client_reqrep.ConnectionKey("x", 80, False, True, None, None, None)
    assert failures.kind(aiohttp.ClientConnectorError(key, lacking)) == "local"
    assert failures.kind(aiohttp.ClientConnectorError(key, OSError(errno.ECONNREFUSED, ""))) == "connect"
    with pytest.raises(KeyError):
        failures.kind(KeyError("a bug"))


@pytest.mark.parametrize("verify", [False, True])
def test_by_https_the_host_is_asked_for_and_verified(tmp_path: Path, verify: bool) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    (tmp_path / "own.pem").write_text(Authority().pem("shop.example.com"))
    tls.load_cert_chain(tmp_path / "own.pem")
    asked: set[str | None] = set()
    tls.sni_callback = lambda _, name, __: asked.add(name)

    async def run() -> Summary:
        async with serving(ok, tls=tls) as url:
            headers = (("Host", "shop.example.com:443"),)
            return await load(url, tmp_path / "r", rate=20, duration=0.5, headers=headers, verify=verify)

    found = asyncio.run(run())
    assert asked == {"shop.example.com"}
    # Nobody trusts the one who has signed it.
    assert found.failures == ({"GET": {"certificate": 5}, "POST": {"certificate": 5}} if verify else {})
