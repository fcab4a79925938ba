"""What the project's command lines share: a mistake is one sentence, and exit code 2."""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from evenkeel.errors import EvenkeelError


class Parser(argparse.ArgumentParser):
    """A parser that says a mistake in one sentence; the usage would drown it."""

    def error(self, message: str) -> NoReturn:
        """Raise an EvenkeelError."""
        raise EvenkeelError(f"{message[:1].upper()}{message[1:]}.")


def run(name: str, command: Callable[[Sequence[str]], int], argv: Sequence[str] | None) -> int:
    """Run a command and return its exit code; 2 where it raises an EvenkeelError, which is said on stderr.

    Args:
        name: what the sentence begins with.
        command: takes the arguments and returns an exit code.
        argv: the arguments; None means those of this process.
    """
    for stream in (sys.stdout, sys.stderr):
        # A terminal that can't show a sign must not cost the verdict.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        return command(sys.argv[1:] if argv is None else argv)
    except EvenkeelError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 2
