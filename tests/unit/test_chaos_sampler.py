"""The sampler, against small servers that speak as HAProxy does, or don't speak at all."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from evenkeel.chaos.record.haproxy import parse
from evenkeel.chaos.run import sampler

SRC = Path(__file__).resolve().parents[2] / "src"
CSV = """# pxname,svname,qcur,scur,stot,econ,eresp,wretr,wredis,status,weight,chkdown,lastchg,check_status,hrsp_5xx,
site,FRONTEND,,3,9,,,,,OPEN,,,,,0,
app,backend-1,0,1,5,0,0,1,0,UP,1,0,9,L7OK,0,
app,backend-2,0,0,4,0,0,0,0,DOWN 1/5,1,2,3,L4TOUT,,
app,BACKEND,0,1,9,0,0,1,2,UP,2,0,9,,1,
"""


def test_statistics_are_parsed() -> None:
    servers, totals = parse(CSV, "app")
    assert list(servers) == ["backend-1", "backend-2"]
    assert servers["backend-2"]["status"] == "DOWN 1/5"
    assert servers["backend-2"]["chkdown"] == 2
    assert "hrsp_5xx" not in servers["backend-2"]
    assert (totals["wretr"], totals["wredis"], totals["hrsp_5xx"]) == (1, 2, 1)


def test_servers_are_those_of_one_service() -> None:
    both = CSV + "shop,backend-9,0,1,5,0,0,1,0,UP,1,0,9,L7OK,0,\n"
    assert list(parse(both, "shop")[0]) == ["backend-9"]
    assert list(parse(both, "app")[0]) == ["backend-1", "backend-2"]
    with pytest.raises(ValueError, match="no servers in the section other"):
        parse(both, "other")


@pytest.mark.parametrize("text", ["", "<html>", "# pxname,svname,status\nother,x,UP\n"])
def test_other_text_is_no_statistics(text: str) -> None:
    with pytest.raises(ValueError, match="no"):
        parse(text, "app")


def test_graphs_are_asked_at_the_pace_of_that_prometheus(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def query_range(_: str, query: str, *__: float, **___: float) -> dict[str, object]:
        asked.append(query)
        return {}

    monkeypatch.setattr(sampler, "rate_interval", lambda url, _: {"http://prometheus": "21000ms"}[url])
    monkeypatch.setattr(sampler, "query_range", query_range)
    content = sampler.ask_prometheus("http://prometheus", "app", 0, 9)
    assert (content["error"], len(asked)) == ("", 4)
    assert sum("[21000ms]" in query for query in asked) == 2


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Serve the statistics."""
    asked = await reader.readuntil(b"\r\n\r\n")
    assert asked.startswith(b"GET /stats;csv ")
    writer.write(f"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {len(CSV)}\r\n\r\n{CSV}".encode())
    writer.close()


async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Accept and never answer."""
    await reader.read()
    writer.close()


def read(folder: Path) -> list[dict[str, Any]]:
    path = folder / "haproxy.jsonl"
    return [json.loads(line) for line in path.read_text().split("\n")[:-1]] if path.exists() else []


async def sampled(folder: Path, arguments: Sequence[str], enough: int) -> int | None:
    """Sample until there are so many samples, send SIGTERM and return the exit code."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "evenkeel.chaos",
        "watch",
        str(folder),
        *arguments,
        env={**os.environ, "PYTHONPATH": str(SRC)},
    )
    try:
        async with asyncio.timeout(60):
            # Another process writes it.
            while len(read(folder)) < enough:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
            process.send_signal(signal.SIGTERM)
            return await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def test_sampler_keeps_its_schedule_whatever_a_balancer_does(tmp_path: Path) -> None:
    async def run() -> int | None:
        servers = [await asyncio.start_server(each, "127.0.0.1", 0) for each in (answer, hang)]
        good, bad = (server.sockets[0].getsockname()[1] for server in servers)
        urls = [f"good=http://127.0.0.1:{good}", f"bad=http://127.0.0.1:{bad}", "http://127.0.0.1:9"]
        code = await sampled(tmp_path, [part for url in urls for part in ("--haproxy", url)], 12)
        for server in servers:
            server.close()
        return code

    assert asyncio.run(run()) == 0
    found: dict[str, list[dict[str, Any]]] = {}
    for line in read(tmp_path):
        found.setdefault(line["balancer"], []).append(line)
    assert found.keys() == {"good", "bad", "127.0.0.1:9"}
    assert {line.get("error") for line in found["bad"][:-1]} == {"no answer within 0.8 s"}
    assert {line.get("error") for line in found["127.0.0.1:9"]} == {"no connection"}
    assert any(line.get("servers", {}).get("backend-1", {}).get("status") == "UP" for line in found["good"])
    for lines in found.values():
        # Whole seconds after the first, plus what a busy machine adds, never less: the schedule is absolute.
        first = lines[0]["at"]
        assert all(line["at"] - first >= number - 0.05 for number, line in enumerate(lines))
    content = json.loads((tmp_path / "prometheus.json").read_text())
    assert (content["graphs"], content["error"]) == ({}, "No Prometheus was asked.")


def test_prometheus_that_is_gone_is_said(tmp_path: Path) -> None:
    arguments = ["--haproxy", "http://127.0.0.1:9", "--prometheus", "http://127.0.0.1:9/"]
    assert asyncio.run(sampled(tmp_path, arguments, 1)) == 0
    content = json.loads((tmp_path / "prometheus.json").read_text())
    assert content["error"].startswith("Prometheus at http://127.0.0.1:9 gives no answer")
