"""Asks every balancer once a second until told to stop, and Prometheus for the whole of it afterwards."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp

from evenkeel.chaos.record import haproxy, run_folder
from evenkeel.errors import EvenkeelError
from evenkeel.prometheus import DASHBOARD, TITLES, panels, query_range, rate_interval

INTERVAL = 1.0
# Within the interval: a balancer that hangs must not cost the next sample.
TIMEOUT = 0.8
_ALERTS = 'ALERTS{alertstate="firing"}'


def parse_balancer(text: str) -> tuple[str, str]:
    """Return (name, URL) of ``[NAME=]http://host:port``; without a name, host and port are it. Raises EvenkeelError."""
    before, mark, url = text.partition("=")
    name, url = (before, url) if mark else ("", text)
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        good = False
    if not good or parts.path not in ("", "/") or parts.query or (mark and not name):
        raise EvenkeelError(f"--haproxy must look like NAME=http://host:port or http://host:port, not {text!r}.")
    return name or parts.netloc, f"{parts.scheme}://{parts.netloc}"


async def _ask(session: aiohttp.ClientSession, url: str, service: str) -> dict[str, object]:
    """Return a sample's content; that there is no answer is one as well."""
    try:
        async with session.get(f"{url}/stats;csv") as answer:
            text = await answer.text()
            if answer.status != 200:
                return {"error": f"it answers {answer.status}"}
        servers, totals = haproxy.parse(text, service)
    except TimeoutError:
        return {"error": f"no answer within {TIMEOUT:g} s"}
    except aiohttp.ClientConnectorError:
        return {"error": "no connection"}
    except (aiohttp.ClientError, OSError):
        return {"error": "the connection broke"}
    except ValueError as error:
        return {"error": f"the answer is of no use: {error}"}
    return {"servers": servers, "totals": totals}


async def _sample_one(balancer: tuple[str, str], service: str, path: Path, stop: asyncio.Event) -> None:
    """Append a sample a second on an absolute schedule; a second that passed meanwhile is left out, not made up for."""
    name, url = balancer
    loop = asyncio.get_running_loop()
    start, number = loop.time(), 0
    # A connection for each question: a reload must not tie the sampler to the old process.
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(force_close=True), timeout=aiohttp.ClientTimeout(total=TIMEOUT)
    ) as session:
        while not stop.is_set():
            at, asked = time.time(), loop.time()
            content = await _ask(session, url, service)
            took = round(loop.time() - asked, 4)
            run_folder.append(path, {"at": round(at, 4), "took": took, "balancer": name, **content})
            number = max(number + 1, int((loop.time() - start) / INTERVAL) + 1)
            try:
                await asyncio.wait_for(stop.wait(), start + number * INTERVAL - loop.time())
            except TimeoutError:
                continue


async def _sample_all(balancers: Sequence[tuple[str, str]], service: str, path: Path) -> None:
    stop = asyncio.Event()
    for each in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(each, stop.set)
    async with asyncio.TaskGroup() as group:
        for balancer in balancers:
            group.create_task(_sample_one(balancer, service, path, stop))


def ask_prometheus(url: str, service: str, start: float, end: float) -> dict[str, object]:
    """Return a service's three graphs and the alerts that fired; where there is no Prometheus, the reason instead."""
    content: dict[str, object] = {"start": start, "end": end, "graphs": {}, "alerts": {}, "error": ""}
    if not url:
        return content | {"error": "No Prometheus was asked."}
    try:
        wanted = panels(json.loads(DASHBOARD.read_text(encoding="utf-8")), rate_interval(url, 10), TITLES, service)
        content["graphs"] = {
            panel.title: query_range(url, panel.queries[0][0], start, end, timeout=10) for panel in wanted
        }
        content["alerts"] = query_range(url, _ALERTS, start, end, timeout=10)
    except (EvenkeelError, OSError, ValueError) as error:
        content["error"] = str(error)
    return content


def sample(folder: Path, balancers: Sequence[str], prometheus: str, service: str) -> int:
    """Sample a service until SIGTERM or SIGINT; raises EvenkeelError."""
    asked = [parse_balancer(text) for text in balancers]
    if len({name for name, _ in asked}) < len(asked):
        raise EvenkeelError("--haproxy names a balancer twice.")
    path = run_folder.existing(folder) / run_folder.HAPROXY
    start = time.time()
    try:
        asyncio.run(_sample_all(asked, service, path))
    except BaseExceptionGroup as group:
        found, _ = group.split(EvenkeelError)
        if found is None:
            raise
        raise EvenkeelError(str(next(iter(found.exceptions)))) from None
    content = ask_prometheus(prometheus.rstrip("/"), service, start, time.time())
    run_folder.write_text(folder / run_folder.PROMETHEUS, json.dumps(content) + "\n")
    if content["error"]:
        print(f"chaos: no figures from Prometheus: {content['error']}", file=sys.stderr)
    return 0
