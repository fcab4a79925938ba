"""A chaos run's watcher, marks and report: ``python -m evenkeel.chaos watch|mark|report|index``.

Exit codes: 0 done (report: the hypothesis held), 1 it deviated, 2 bad input, 3 the run doesn't count.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from evenkeel.chaos.errors import ChaosError
from evenkeel.chaos.timeline import NAMES, Mark, add


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Say one sentence; the usage would drown it."""
        raise ChaosError(f"{message[:1].upper()}{message[1:]}.")


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = _Parser(prog="python -m evenkeel.chaos", description=__doc__, allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)
    watch = commands.add_parser("watch", help="sample the balancers once a second until SIGTERM", allow_abbrev=False)
    watch.add_argument("folder", type=Path, metavar="FOLDER")
    watch.add_argument("--haproxy", action="append", required=True, metavar="[NAME=]http://host:port")
    watch.add_argument("--prometheus", default="", metavar="http://host:port")
    mark = commands.add_parser("mark", help="append to the timeline", allow_abbrev=False)
    mark.add_argument("folder", type=Path, metavar="FOLDER")
    mark.add_argument("name", metavar="NAME", help=", ".join(NAMES))
    mark.add_argument("text", nargs="?", default="", metavar="TEXT")
    report = commands.add_parser("report", help="judge a run and write its report", allow_abbrev=False)
    report.add_argument("folder", type=Path, metavar="FOLDER")
    index = commands.add_parser("index", help="one page over several runs", allow_abbrev=False)
    index.add_argument("folders", type=Path, nargs="+", metavar="FOLDER")
    index.add_argument("--output", type=Path, metavar="FILE", help="default: index.html beside the first folder")
    return parser.parse_args(argv)


def _command(argv: Sequence[str]) -> int:
    # The time of a mark is that of its call, before anything else is loaded; for the same reason the commands load what
    # they need only then: drawing alone takes a second to load.
    now = time.time()
    arguments = _arguments(argv)
    match arguments.command:
        case "mark":
            add(arguments.folder, Mark(now, arguments.name, arguments.text))
            return 0
        case "watch":
            from evenkeel.chaos.watch import watch

            return watch(arguments.folder, arguments.haproxy, arguments.prometheus)
        case "report":
            from evenkeel.chaos.report import report

            return report(arguments.folder)
        case _:
            from evenkeel.chaos.index import write

            return write(arguments.folders, arguments.output or arguments.folders[0].resolve().parent / "index.html")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code."""
    try:
        return _command(sys.argv[1:] if argv is None else argv)
    except ChaosError as error:
        print(f"chaos: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
