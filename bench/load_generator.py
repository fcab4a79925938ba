"""Measures how many requests a second the load generator sends from one core, beside what one serial client gets.

The server is the barest one, in a process of its own: two free cores are needed. From the project's folder::

    PYTHONPATH=src .venv/bin/python bench/load_generator.py

The rate rises until a run doesn't count, that is, until the generator falls behind its schedule; the last good one is
the answer. Its ratio to the serial client of the same minute is what can be compared between machines.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

SECONDS = "3"
FIRST, STEP = 1500, 1.3
ANSWER = b"HTTP/1.1 200 OK\r\nX-Backend: bare\r\nContent-Length: 2\r\n\r\nok"


class Bare(asyncio.Protocol):
    """Answers whatever a request asks for, and leaves the connection to the client."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the connection."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer each request whose end is in ``data``: the generator sends one at a time, in one piece."""
        self._transport.write(ANSWER * data.count(b"\r\n\r\n"))


async def serve() -> None:
    """Serve until killed; the port is printed."""
    server = await asyncio.get_running_loop().create_server(Bare, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def load(url: str, *arguments: str) -> dict[str, Any]:
    """Return the summary of a run of the generator."""
    with tempfile.TemporaryDirectory() as folder:
        summary = Path(folder) / "summary"
        command = [sys.executable, "-m", "evenkeel.load", url, "--quiet", "--duration", SECONDS, "--mix", "GET /=1"]
        done = subprocess.run([*command, "--summary", str(summary), *arguments], stdout=subprocess.DEVNULL, check=False)
        if done.returncode not in (0, 3):
            sys.exit(f"load_generator: the generator ended with {done.returncode}.")
        found: dict[str, Any] = json.loads(summary.read_text())
        return found


def good(url: str, rate: float, fresh: str) -> dict[str, Any] | None:
    """Return a good run's summary; a bad one is tried twice more: it may have been a neighbour's burst of work."""
    for _ in range(3):
        found = load(url, "--rate", str(rate), "--fresh", fresh)
        if found["valid"] and not found["failed"]:
            return found
    return None


def highest(url: str, fresh: str) -> tuple[float, dict[str, Any]]:
    """Return the highest good rate, and its summary."""
    rate, best = float(FIRST), None
    while found := good(url, rate, fresh):
        best = rate, found
        rate *= STEP
    if best is None:
        sys.exit(f"load_generator: not even {FIRST} requests a second went well: is the machine busy?")
    return best


def main() -> None:
    """Measure and print."""
    with subprocess.Popen([sys.executable, __file__, "serve"], stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout
            url = f"http://127.0.0.1:{server.stdout.readline().strip()}"
            print("connections    serial  open loop  ratio       p99  late p99  core")
            for name, fresh in (("kept alive", "0"), ("half fresh", "0.5")):
                serial = load(url, "--serial", "--fresh", fresh)["ok"] / float(SECONDS)
                rate, best = highest(url, fresh)
                p99, late = best["latency"]["GET"]["p99"] * 1000, best["schedule"]["p99_late"] * 1000
                print(
                    f"{name:<11} {serial:>6.0f}/s {rate:>8.0f}/s {rate / serial:>6.1f} {p99:>6.1f} ms {late:>6.1f} ms "
                    f"{best['schedule']['cpu']:>5.0%}"
                )
        finally:
            server.kill()


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        asyncio.run(serve())
    else:
        main()
