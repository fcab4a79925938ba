"""One run of h2load (package ``nghttp2-client``)."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path


def send(
    url: str, options: Sequence[str], log: Path, *, status: int = 200, before: Sequence[str] = ()
) -> tuple[list[tuple[int, int]], str]:
    """Send requests; exit where one of them is not answered with ``status``.

    Args:
        url: what is asked.
        options: h2load's, with ``--requests`` among them.
        log: a file for its records, which is replaced.
        status: of every answer.
        before: a command that runs the command after it.

    Returns:
        Start and duration of each request, in microseconds, and what h2load said.
    """
    log.unlink(missing_ok=True)
    command = [*before, "h2load", *options, f"--log-file={log}", url]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    # Start and duration, with the status between them.
    rows = [[int(field) for field in line.split("\t")[:3]] for line in log.read_text().splitlines()]
    wanted = next(int(option.partition("=")[2]) for option in options if option.startswith("--requests="))
    if len(rows) != wanted or {answered for _, answered, _ in rows} != {status}:
        sys.exit(f"{url}: not every request was answered as it should be\n{said}")
    return [(start, duration) for start, _, duration in rows], said
