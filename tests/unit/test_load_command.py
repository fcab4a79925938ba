"""The load generator's command: what it refuses, what it returns, what is left after a kill."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from evenkeel.load.__main__ import main
from evenkeel.load.records import End, Record, Run, Writer, read
from evenkeel.load.settings import Settings, parse_mix

URL = "http://127.0.0.1:9"
MIX = "The mix's entry {!r} must look like 'GET /path=weight' or 'POST /path=weight'."
SRC = Path(__file__).resolve().parents[2] / "src"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "The following arguments are required: URL."),
        (["127.0.0.1:80"], "The URL must look like http://host:port, without a path, not '127.0.0.1:80'."),
        (["http://x:99999"], "The URL must look like http://host:port, without a path, not 'http://x:99999'."),
        (["http://x/y"], "The URL must look like http://host:port, without a path, not 'http://x/y'."),
        (["http://no.invalid", "--duration", "1"], "The host no.invalid of the URL has no address."),
        ([URL, "--mix", "PUT /=1"], MIX.format("PUT /=1")),
        ([URL, "--mix", "GET /=0"], "The mix needs at least one weight above 0."),
        ([URL, "--header", "Host"], "--header must look like 'NAME: VALUE', not 'Host'."),
        ([URL, "--header", "A: b\nC: d"], "--header must look like 'NAME: VALUE', not 'A: b\\nC: d'."),
        ([URL, "--rate", "0"], "--rate must be a number above 0, not 0."),
        ([URL, "--rate", "nan"], "--rate must be a number above 0, not nan."),
        ([URL, "--rate", "many"], "Argument --rate: invalid float value: 'many'."),
        ([URL, "--duration", "-1"], "--duration must be a number above 0, not -1."),
        ([URL, "--fresh", "2"], "--fresh must be a share from 0 to 1, not 2."),
        ([URL, "--records", "/nowhere/x"], "The file /nowhere/x can't be written: No such file or directory."),
        ([URL, "--summary", "/nowhere/x"], "The file /nowhere/x can't be written: No such file or directory."),
        (["summary", "/nowhere/x"], "The file /nowhere/x can't be read: No such file or directory."),
        (["summary", __file__], f"The file {__file__} is not one that evenkeel load has written."),
        (["summary", "x", "--from", "2", "--to", "1"], "--from must be 0 or more, and --to must be above it."),
    ],
)
def test_bad_input_is_one_sentence(arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert capsys.readouterr().err == f"load: {sentence}\n"


@pytest.mark.parametrize(
    ("late", "failure", "arguments", "code"),
    [(0, "", [], 0), (0, "reset", [], 0), (0, "reset", ["--fail-on-error"], 1), (9, "reset", ["--fail-on-error"], 3)],
)
def test_exit_code(tmp_path: Path, late: float, failure: str, arguments: list[str], code: int) -> None:
    settings = Settings(URL, parse_mix(["GET /=1"]), rate=1)
    writer = Writer(tmp_path / "r", 1000.0, settings)
    writer.record(Record(0, late, 9.5, "GET", "/", False, 200, "backend-1", "v1", failure))
    writer.close(End(1, 0.5))
    assert main(["summary", str(tmp_path / "r"), "--summary", str(tmp_path / "s"), *arguments]) == code
    assert json.loads((tmp_path / "s").read_text())["valid"] is (code != 3)


async def answer_slowly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer one request after a while."""
    await reader.readuntil(b"\r\n\r\n")
    await asyncio.sleep(0.3)
    writer.write(b"HTTP/1.1 200 OK\r\nX-Backend: b\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")
    writer.close()


@asynccontextmanager
async def running(tmp_path: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run the command without a duration against :func:`answer_slowly`."""
    server = await asyncio.start_server(answer_slowly, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    command = [
        "-m",
        "evenkeel.load",
        url,
        "--rate",
        "50",
        "--records",
        str(tmp_path / "r"),
        "--summary",
        str(tmp_path / "s"),
    ]
    process = await asyncio.create_subprocess_exec(
        sys.executable, *command, env={**os.environ, "PYTHONPATH": str(SRC)}, stderr=asyncio.subprocess.PIPE
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()
        server.close()


async def until(tmp_path: Path, holds: Callable[[Run], bool]) -> None:
    """Wait for the records to hold something."""
    async with asyncio.timeout(120):
        # Another process writes it.
        while not ((tmp_path / "r").exists() and (tmp_path / "r").stat().st_size and holds(read(tmp_path / "r"))):  # noqa: ASYNC110
            await asyncio.sleep(0.1)


def test_killed_run_leaves_its_records(tmp_path: Path) -> None:
    async def kill() -> None:
        async with running(tmp_path) as process:
            await until(tmp_path, lambda run: len(run.records) > 20)
            process.kill()

    asyncio.run(kill())
    run = read(tmp_path / "r")
    assert run.end is None
    assert len(run.records) > 20
    assert {record.failure for record in run.records} == {""}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_the_run_and_waits_for_what_runs(tmp_path: Path, number: signal.Signals) -> None:
    async def end() -> tuple[int | None, str]:
        async with running(tmp_path) as process:
            await until(tmp_path, lambda run: bool(run.records))
            process.send_signal(number)
            _, shown = await asyncio.wait_for(process.communicate(), 120)
            return process.returncode, shown.decode()

    code, shown = asyncio.run(end())
    summary = json.loads((tmp_path / "s").read_text())
    # A busy machine may void the run; nothing of it may be lost.
    assert code == (0 if summary["valid"] else 3)
    assert summary["complete"]
    assert summary["sent"] == summary["ok"] == len(read(tmp_path / "r").records) > 0
    assert "1 s: sent " in shown
    assert ", p99 " in shown
