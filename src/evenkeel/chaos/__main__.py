"""A chaos run's parts, for the playbook chaos.yml and for people: ``python -m evenkeel.chaos --help`` lists them.

Exit codes: 0 done (report: the hypothesis held), 1 it deviated, 2 bad input, 3 the run doesn't count.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evenkeel.chaos.record.haproxy import GUIDE
from evenkeel.chaos.record.timeline import NAMES, Mark, add
from evenkeel.command_line import Parser, run
from evenkeel.errors import EvenkeelError


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = Parser(prog="python -m evenkeel.chaos", description=__doc__, allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=Parser)
    watch = commands.add_parser("watch", help="sample the balancers once a second until SIGTERM", allow_abbrev=False)
    watch.add_argument("folder", type=Path, metavar="FOLDER")
    watch.add_argument("--service", default=GUIDE, help="HAProxy's section (%(default)s)")
    watch.add_argument("--haproxy", action="append", required=True, metavar="[NAME=]http://host:port")
    watch.add_argument("--prometheus", default="", metavar="http://host:port")
    mark = commands.add_parser("mark", help="append to the timeline", allow_abbrev=False)
    mark.add_argument("folder", type=Path, metavar="FOLDER")
    mark.add_argument("name", metavar="NAME", help=", ".join(NAMES))
    mark.add_argument("text", nargs="?", default="", metavar="TEXT")
    mark.add_argument("--at", type=float, metavar="EPOCH", help="default: now")
    report = commands.add_parser("report", help="judge a run and write its report", allow_abbrev=False)
    report.add_argument("folder", type=Path, metavar="FOLDER")
    index = commands.add_parser("index", help="one page over several runs", allow_abbrev=False)
    index.add_argument("folders", type=Path, nargs="+", metavar="FOLDER")
    index.add_argument("--output", type=Path, metavar="FILE", help="default: index.html beside the first folder")
    table = commands.add_parser("table", help="what clients saw of several runs, in Markdown", allow_abbrev=False)
    table.add_argument("folders", type=Path, nargs="+", metavar="FOLDER")
    check = commands.add_parser("check", help="is the site of the plan on stdin steady?", allow_abbrev=False)
    check.add_argument("--wait", type=float, default=0, metavar="SECONDS", help="for it to become so")
    check.add_argument("--no-alerts", action="store_true", help="whatever alert fires")
    for name, what in (
        ("start", "start load and sampler, which end with the ansible-playbook that stdin tells of"),
        ("steady", "is the site steady under the load that runs?"),
        ("stop", "end load and sampler"),
        ("supervise", "what `start` starts"),
    ):
        command = commands.add_parser(name, help=what, allow_abbrev=False)
        command.add_argument("folder", type=Path, metavar="FOLDER")
    annotate = commands.add_parser("annotate", help="show a judged run in Grafana", allow_abbrev=False)
    annotate.add_argument("folder", type=Path, metavar="FOLDER")
    annotate.add_argument("--grafana", required=True, metavar="http://host:port", help="password: GRAFANA_PASSWORD")
    return parser.parse_args(argv)


def _command(argv: Sequence[str]) -> int:
    # The time of a mark is that of its call, before anything else is loaded; for the same reason the commands load what
    # they need only then: drawing alone takes a second to load.
    now = time.time()
    arguments = _arguments(argv)
    match arguments.command:
        case "mark":
            add(arguments.folder, Mark(arguments.at or now, arguments.name, arguments.text))
            return 0
        case "watch":
            from evenkeel.chaos.run.sampler import sample

            return sample(arguments.folder, arguments.haproxy, arguments.prometheus, arguments.service)
        case "report":
            from evenkeel.chaos.report.write import report

            return report(arguments.folder)
        case "check" | "steady":
            _check(arguments)
            return 0
        case "start" | "stop" | "supervise":
            return _supervise(arguments)
        case "annotate":
            from evenkeel.chaos.run.annotate import annotate

            print(annotate(arguments.folder, arguments.grafana, os.environ.get("GRAFANA_PASSWORD", "")))
            return 0
        case "table":
            from evenkeel.chaos.report.table import table

            print(table(arguments.folders), end="")
            return 0
        case _:
            from evenkeel.chaos.report.index import write

            return write(arguments.folders, arguments.output or arguments.folders[0].resolve().parent / "index.html")


def _check(arguments: argparse.Namespace) -> None:
    from evenkeel.chaos.run.steady import check, check_load

    if arguments.command == "steady":
        check_load(arguments.folder)
        return
    check(_stdin("the run's plan"), arguments.wait, alerts=not arguments.no_alerts)


def _stdin(what: str) -> dict[str, Any]:
    try:
        values = json.load(sys.stdin)
    except (OSError, ValueError):
        values = None
    if not isinstance(values, dict):
        raise EvenkeelError(f"Stdin must hold {what} as a JSON object, which the role chaos gives.")
    return values


def _supervise(arguments: argparse.Namespace) -> int:
    from evenkeel.chaos.run import supervisor

    if arguments.command == "supervise":
        return supervisor.supervise(arguments.folder, _stdin("the playbook's call"))
    {"start": supervisor.start, "stop": supervisor.stop}[arguments.command](arguments.folder)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code."""
    return run("chaos", _command, argv)


if __name__ == "__main__":
    sys.exit(main())
