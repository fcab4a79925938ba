"""One line a second on how the run goes."""

from __future__ import annotations

import asyncio
from typing import TextIO

from evenkeel.load.analysis import percentile
from evenkeel.load.generator import Generator


class Progress:
    """Shows a run on a stream: a terminal's line is written over, elsewhere each stands by itself."""

    def __init__(self, stream: TextIO) -> None:
        """Show on ``stream``."""
        self._stream = stream
        self._over = stream.isatty()

    async def watch(self, generator: Generator) -> None:
        """Show the run until cancelled."""
        before = second = 0
        try:
            while True:
                second += 1
                await asyncio.sleep(max(0.0, second - generator.now()))
                tally = generator.tally
                recent = sorted(tally.recent)
                tally.recent.clear()
                late = percentile(recent, 99)
                p99 = "-" if late is None else f"{late * 1000:.0f} ms"
                line = (
                    f"{generator.now():.0f} s: sent {tally.sent}, ok {tally.ok}, failed {tally.failed}, "
                    f"running {tally.running}, {tally.ok - before} ok/s, p99 {p99}"
                )
                before = tally.ok
                self._show(f"\r{line}\x1b[K" if self._over else f"{line}\n")
        finally:
            if self._over:
                self._show("\n")

    def _show(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()
