"""Honest load: ``python -m evenkeel.load URL`` runs it, ``python -m evenkeel.load summary FILE`` reads a run's records.

Exit codes: 0 the run counts, 1 requests failed and --fail-on-error was given, 2 bad input, 3 the run doesn't count.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from evenkeel.command_line import Parser, run
from evenkeel.errors import EvenkeelError
from evenkeel.load.generator import Signals, generate
from evenkeel.load.progress import Progress
from evenkeel.load.records import Writer, read
from evenkeel.load.settings import DEFAULT_MIX, Settings, parse_header, parse_mix, parse_url
from evenkeel.load.summary import render, summarise


def _parser(command: str) -> argparse.ArgumentParser:
    parser = Parser(prog=f"python -m evenkeel.load {command}".strip(), description=__doc__, allow_abbrev=False)
    parser.add_argument("--summary", type=Path, metavar="FILE", help="write the summary as JSON too")
    parser.add_argument("--fail-on-error", action="store_true", help="exit with 1 where a request failed")
    return parser


def _run_parser() -> argparse.ArgumentParser:
    parser = _parser("")
    parser.add_argument("url", metavar="URL", help="such as http://127.0.0.1:8080")
    parser.add_argument("--mix", action="append", metavar="'METHOD /path=weight,…'", help=f"default: {DEFAULT_MIX}")
    parser.add_argument("--rate", type=float, default=110, help="requests per second (%(default)s)")
    parser.add_argument("--duration", type=float, metavar="SECONDS", help="default: until SIGINT or SIGTERM")
    parser.add_argument("--header", action="append", default=[], metavar="'NAME: VALUE'", help="of every request")
    parser.add_argument("--no-verify", action="store_true", help="by https: take any certificate")
    parser.add_argument("--timeout", type=float, default=10, metavar="SECONDS", help="per request (%(default)s)")
    parser.add_argument("--fresh", type=float, metavar="SHARE", help="on connections of their own (0.5; serial: 1)")
    parser.add_argument("--seed", type=int, default=1, help="the same seed sends the same sequence (%(default)s)")
    parser.add_argument("--serial", action="store_true", help="closed loop, one request at a time; no rate")
    parser.add_argument("--records", type=Path, metavar="FILE", help="keep each request's record: gzipped JSON lines")
    parser.add_argument("--max-lateness", type=float, default=0.5, metavar="SECONDS", help="(%(default)s)")
    parser.add_argument("--quiet", action="store_true", help="no live progress")
    return parser


def _settings(arguments: argparse.Namespace) -> Settings:
    fresh = arguments.fresh
    if fresh is None:
        fresh = 1 if arguments.serial else 0.5
    return Settings(
        url=parse_url(arguments.url),
        mix=parse_mix(arguments.mix or [DEFAULT_MIX]),
        rate=arguments.rate,
        duration=arguments.duration,
        timeout=arguments.timeout,
        fresh=fresh,
        seed=arguments.seed,
        serial=arguments.serial,
        max_lateness=arguments.max_lateness,
        verify=not arguments.no_verify,
        headers=tuple(parse_header(text) for text in arguments.header),
    )


async def _generate(settings: Settings, records: Path, *, quiet: bool) -> None:
    signals = Signals()
    for each in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(each, signals.raised)
    watch = None if quiet else Progress(sys.stderr).watch
    await generate(settings, lambda: Writer(records, time.time(), settings), signals, watch)


def _run(settings: Settings, records: Path, *, quiet: bool) -> None:
    """Run with as many open files as this machine allows, and without pauses for garbage."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    # A full collection walks all that is alive: 0.24 s with 5000 requests in flight, in which nothing is sent. What
    # refused requests leave behind is young, and the young generations are collected as ever.
    gc.set_threshold(2000, 10, 1_000_000)
    asyncio.run(_generate(settings, records, quiet=quiet))


def _report(records: Path, arguments: argparse.Namespace, start: float = 0, end: float | None = None) -> int:
    """Print the summary, write it where wanted, and return the exit code."""
    summary = summarise(read(records), start, end)
    print(render(summary), end="", flush=True)
    if arguments.summary:
        _write(arguments.summary, summary.as_json())
    if not summary.valid:
        return 3
    return int(arguments.fail_on_error and summary.failed > 0)


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text)
    except OSError as error:
        raise EvenkeelError(f"The file {path} can't be written: {error.strerror}.") from None


def _command(argv: Sequence[str]) -> int:
    if argv[:1] == ["summary"]:
        parser = _parser("summary")
        parser.add_argument("records", type=Path, metavar="FILE", help="what --records wrote")
        parser.add_argument("--from", dest="start", type=float, default=0, metavar="SECONDS", help="since the start")
        parser.add_argument("--to", dest="end", type=float, metavar="SECONDS", help="since the start")
        arguments = parser.parse_args(argv[1:])
        if arguments.start < 0 or (arguments.end is not None and arguments.end <= arguments.start):
            raise EvenkeelError("--from must be 0 or more, and --to must be above it.")
        return _report(arguments.records, arguments, arguments.start, arguments.end)
    arguments = _run_parser().parse_args(argv)
    settings = _settings(arguments)
    if arguments.summary:
        # Before the run: what can't be written must not come out after an hour.
        _write(arguments.summary, "")
    with tempfile.TemporaryDirectory() as folder:
        records = arguments.records or Path(folder) / "records"
        _run(settings, records, quiet=arguments.quiet)
        return _report(records, arguments)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code."""
    return run("load", _command, argv)


if __name__ == "__main__":
    sys.exit(main())
