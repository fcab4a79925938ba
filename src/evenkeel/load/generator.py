"""The run itself: sends on the schedule whatever the server does, and takes down what became of each request."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from evenkeel.load import failures
from evenkeel.load.client import Client, Outcome, resolve
from evenkeel.load.records import End, Record, Writer
from evenkeel.load.schedule import Scheduled, schedule
from evenkeel.load.settings import Settings

# Seconds between two looks at whether the generator itself still runs: a pause of it is one of the measurement.
HEARTBEAT = 0.05
# Requests started in a row when behind, before answers are read again.
BURST = 32
# The shortest sleep, in seconds: what is due within it is sent together, instead of spinning until the microsecond.
RESOLUTION = 0.001


@dataclass
class Tally:
    """What the live progress shows; ``recent`` holds the latencies since it was shown last, at most the last 10000."""

    sent: int = 0
    ok: int = 0
    failed: int = 0
    running: int = 0
    recent: deque[float] = field(default_factory=lambda: deque(maxlen=10_000))


@dataclass
class Signals:
    """``stop``: send no more, wait for what runs. ``abort``: don't wait either."""

    stop: asyncio.Event = field(default_factory=asyncio.Event)
    abort: asyncio.Event = field(default_factory=asyncio.Event)

    def raised(self) -> None:
        """Take a signal: the first stops, the second aborts."""
        (self.abort if self.stop.is_set() else self.stop).set()


class Generator:
    """One run against one client, into one writer. Times are seconds since its making, on the monotonic clock."""

    def __init__(self, settings: Settings, client: Client, writer: Writer) -> None:
        """Set time 0 to now."""
        self.tally = Tally()
        self._settings, self._client, self._writer = settings, client, writer
        self._running: set[asyncio.Task[None]] = set()
        self._fault: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._next = 0.0
        self._start = time.monotonic()

    def now(self) -> float:
        """Return the seconds since the start."""
        return time.monotonic() - self._start

    async def _request(self, scheduled: Scheduled) -> None:
        late = self.now() - scheduled.at
        tally = self.tally
        tally.sent += 1
        tally.running += 1
        try:
            # What is left of the limit: a late start is the request's loss, as all its latency is.
            limit = self._settings.timeout - late
            outcome = await self._client.send(scheduled.method, scheduled.path, fresh=scheduled.fresh, timeout=limit)
        except asyncio.CancelledError:
            outcome = Outcome(0, "", "", failures.UNFINISHED)
        latency = self.now() - scheduled.at
        tally.running -= 1
        tally.recent.append(latency)
        tally.ok += not outcome.failure
        tally.failed += outcome.failure in failures.KINDS
        method, path, fresh = scheduled.method, scheduled.path, scheduled.fresh
        self._writer.record(Record(scheduled.at, late, latency, method, path, fresh, *outcome))

    def _launch(self, scheduled: Scheduled) -> asyncio.Task[None]:
        task = asyncio.create_task(self._request(scheduled))
        self._running.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        # What a request may meet is in its record: anything else is an error of ours and ends the run.
        if not task.cancelled() and (error := task.exception()) and not self._fault.done():
            self._fault.set_exception(error)

    async def _open_loop(self) -> None:
        end = self._settings.duration or float("inf")
        burst = 0
        for scheduled in schedule(self._settings):
            self._next = scheduled.at
            if scheduled.at >= end:
                break
            if (ahead := scheduled.at - self.now()) > 0:
                await asyncio.sleep(max(ahead, RESOLUTION))
                burst = 0
            burst += 1
            if burst % BURST == 0:
                await asyncio.sleep(0)
            # A generator this far behind never gets through its schedule, and the run is void already.
            if self.now() > end + self._settings.max_lateness:
                return
            self._launch(scheduled)
        await asyncio.sleep(max(0.0, end - self.now()))

    async def _serial(self) -> None:
        end = self._settings.duration or float("inf")
        for scheduled in schedule(self._settings):
            if self.now() >= end:
                break
            await asyncio.wait({self._launch(scheduled._replace(at=self.now()))})

    async def _beat(self) -> None:
        flushed = 0.0
        while True:
            due = self.now() + HEARTBEAT
            await asyncio.sleep(HEARTBEAT)
            pause = self.now() - due
            if pause > HEARTBEAT:
                self._writer.pause(due, pause)
            if self.now() - flushed >= 1:
                self._writer.flush()
                flushed = self.now()

    async def _drain(self, signals: Signals) -> None:
        """Wait for what runs; every request ends by its time limit."""
        abort = asyncio.create_task(signals.abort.wait())
        if self._running:
            ended = asyncio.gather(*self._running, return_exceptions=True)
            awaited: set[asyncio.Future[Any]] = {abort, ended}
            await asyncio.wait(awaited, return_when=asyncio.FIRST_COMPLETED)
            # Cancels each request that still runs: it takes itself down as unfinished.
            ended.cancel()
        abort.cancel()
        if self._running:
            await asyncio.wait(self._running)

    async def run(self, signals: Signals) -> None:
        """Send until the duration is over or a signal came, wait for what runs, end the file.

        Raises:
            EvenkeelError: the file can't be written.
        """
        cpu = time.process_time()
        beat = asyncio.create_task(self._beat())
        stop = asyncio.create_task(signals.stop.wait())
        sender = asyncio.create_task(self._serial() if self._settings.serial else self._open_loop())
        watched: set[asyncio.Future[Any]] = {beat, stop, sender, self._fault}
        try:
            await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
            # A signal comes between two requests: what is due meanwhile is no longer offered.
            stopped = self.now() if sender.done() else min(self.now(), self._next)
            # A signal leaves a serial run's request running: it is waited for like the others.
            sender.cancel()
            await self._drain(signals)
            for each in watched:
                if each.done() and not each.cancelled():
                    each.result()
        finally:
            for each in watched:
                each.cancel()
        # Nothing but its own requests tells when a serial run was over.
        stopped = self.now() if self._settings.serial else min(stopped, self._settings.duration or stopped)
        self._writer.close(End(stopped, time.process_time() - cpu))


async def generate(
    settings: Settings,
    open_writer: Callable[[], Writer],
    signals: Signals,
    watch: Callable[[Generator], Coroutine[None, None, None]] | None = None,
) -> None:
    """Resolve the host, run, and let ``watch`` look on.

    Raises:
        EvenkeelError: the host has no address, or the file can't be written.
    """
    address = await resolve(settings.url)
    async with Client(settings, address) as client:
        generator = Generator(settings, client, open_writer())
        watcher = asyncio.create_task(watch(generator)) if watch else None
        try:
            await generator.run(signals)
        finally:
            if watcher:
                watcher.cancel()
