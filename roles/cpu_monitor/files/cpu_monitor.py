#!/usr/bin/python3 -I
# Written by evenkeel, role cpu_monitor.
"""Pushes how busy this host's CPUs are to a Pushgateway, once an interval.

``cpu_monitor`` runs until SIGTERM or SIGINT, then deletes its group and exits. ``cpu_monitor forget`` deletes the group
of a monitor that could not do so itself (systemd calls it after every end). Settings come from the environment (see
:class:`Settings`). Written for Python 3.10 and prometheus_client 0.9 (Ubuntu 22.04) and newer.
"""

from __future__ import annotations

import http.client
import math
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from prometheus_client import delete_from_gateway, push_to_gateway
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

if TYPE_CHECKING:
    from prometheus_client.registry import Collector
else:
    # prometheus_client 0.9 has no such class; anything with collect() will do.
    Collector = object

JOB = "cpu_usage"
STOP = {signal.SIGTERM, signal.SIGINT}
MIN_INTERVAL, MAX_INTERVAL = 0.1, 3600


class SettingsError(ValueError):
    """A setting that can't be used; its text is the sentence the operator reads."""


class PushError(Exception):
    """The Pushgateway can't be reached, is too slow or refuses; its text tells which."""


def parse_seconds(environment: Mapping[str, str], name: str, default: str) -> float:
    """Return the setting ``name`` as a number of seconds; raises SettingsError where it is none."""
    text = environment.get(name, default)
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not math.isfinite(seconds):
        raise SettingsError(f"{name} is {text!r}: give a number of seconds.")
    return seconds


@dataclass(frozen=True)
class Settings:
    """What may differ from host to host.

    Attributes:
        instance: the host's inventory name, the label ``instance`` of everything pushed.
        url: the Pushgateway's base URL, without a slash at its end.
        interval: seconds from push to push.
        timeout: seconds one push may take altogether; shorter than the interval.
    """

    instance: str
    url: str
    interval: float
    timeout: float

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        """Read the settings; raises SettingsError."""
        instance = environment.get("CPU_MONITOR_INSTANCE", "")
        if not instance:
            raise SettingsError("CPU_MONITOR_INSTANCE is empty: give this host's name.")
        url = environment.get("CPU_MONITOR_PUSHGATEWAY_URL", "")
        try:
            parts = urlsplit(url)
            usable = parts.scheme == "http" and bool(parts.hostname) and parts.port != 0
        except ValueError:
            usable = False
        if not usable or parts.query or parts.fragment or parts.username:
            raise SettingsError(f"CPU_MONITOR_PUSHGATEWAY_URL is {url!r}: give a URL such as http://127.0.0.1:9091.")
        interval = parse_seconds(environment, "CPU_MONITOR_INTERVAL", "1")
        if not MIN_INTERVAL <= interval <= MAX_INTERVAL:
            raise SettingsError(
                f"CPU_MONITOR_INTERVAL is {interval:g}: give seconds from {MIN_INTERVAL} to {MAX_INTERVAL}."
            )
        timeout = parse_seconds(environment, "CPU_MONITOR_TIMEOUT", "0.5")
        if not 0 < timeout < interval:
            raise SettingsError(
                f"CPU_MONITOR_TIMEOUT is {timeout:g}: give more than 0 and less than the interval of {interval:g} s."
            )
        return cls(instance, url.rstrip("/"), interval, timeout)


@dataclass(frozen=True)
class CpuTimes:
    """What all CPUs together have done since boot, in ticks of the kernel's clock."""

    busy: int
    idle: int


def parse_cpu_times(stat: str) -> CpuTimes:
    """Return the sum of all CPUs from the first line of ``/proc/stat`` (proc(5)); raises ValueError on any other text.

    Waiting for a disk is idling. Stolen time counts as busy: this host wanted it and did not get it. Guests' time is
    in ``user`` and ``nice`` already.
    """
    fields = stat.partition("\n")[0].split()
    if fields[:1] != ["cpu"] or len(fields) < 9:
        raise ValueError(f"/proc/stat begins with {stat[:40]!r}, not with the eight times of all CPUs.")
    user, nice, system, idle, iowait, irq, softirq, steal = map(int, fields[1:9])
    return CpuTimes(busy=user + nice + system + irq + softirq + steal, idle=idle + iowait)


def busy_percent(before: CpuTimes, after: CpuTimes) -> float:
    """Return how busy the CPUs were between two readings, from 0 to 100; 0 where no tick passed."""
    # The kernel's counts of idle and iowait may go back a little.
    busy, idle = max(0, after.busy - before.busy), max(0, after.idle - before.idle)
    return 100 * busy / (busy + idle) if busy + idle else 0.0


def next_tick(start: float, interval: float, now: float) -> float:
    """Return the first of ``start``, ``start + interval``, … after ``now``: those that were missed are skipped."""
    return start + (math.floor((now - start) / interval) + 1) * interval


class Metrics(Collector):
    """What is pushed. Families built by hand: a Counter would add a series with the time of its creation."""

    def __init__(self) -> None:
        """Start without a reading."""
        self.cpu_usage = 0.0
        self.errors = 0

    def collect(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
        """Yield the metric families."""
        yield GaugeMetricFamily(
            "cpu_usage", "How busy the host's CPUs were since the push before, in percent.", value=self.cpu_usage
        )
        yield GaugeMetricFamily(
            "cpu_monitor_last_success_timestamp_seconds",
            # True for what can be read: had this push failed, nobody would see it.
            "When the monitor last pushed with success, as a Unix time.",
            value=time.time(),
        )
        yield CounterMetricFamily(
            "cpu_monitor_errors", "Pushes that failed since the monitor started.", value=self.errors
        )


class Gateway:
    """One Pushgateway and this host's group in it, over one connection that is kept."""

    def __init__(self, settings: Settings) -> None:
        """Remember the way; nothing is connected yet."""
        self._settings = settings
        parts = urlsplit(settings.url)
        self._connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=settings.timeout)
        signal.signal(signal.SIGALRM, _expire)

    def push(self, metrics: Metrics) -> None:
        """Replace the group by ``metrics``; raises PushError, within the timeout."""
        with self._bounded():
            push_to_gateway(self._settings.url, JOB, metrics, self._key(), self._settings.timeout, self._handle)

    def delete(self) -> None:
        """Delete the group; raises PushError, within the timeout."""
        with self._bounded():
            delete_from_gateway(self._settings.url, JOB, self._key(), self._settings.timeout, self._handle)

    def _key(self) -> dict[str, str]:
        return {"instance": self._settings.instance}

    @contextmanager
    def _bounded(self) -> Iterator[None]:
        """Bound all that happens inside together (a socket's timeout is only for one operation), and tell errors."""
        signal.setitimer(signal.ITIMER_REAL, self._settings.timeout)
        try:
            yield
        except TimeoutError:
            self._connection.close()
            raise PushError(f"no answer within {self._settings.timeout:g} s") from None
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise PushError(str(error) or type(error).__name__) from None
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)

    def _handle(
        self, url: str, method: str, timeout: float | None, headers: Sequence[tuple[str, str]], data: bytes
    ) -> Callable[[], None]:
        """Be prometheus_client's handler; its own opens a connection for every push."""
        del timeout

        def send() -> None:
            # A Pushgateway that accepts and does not answer would find whatever waits in its sockets when it wakes
            # up, and store it. So a new connection begins with a question that does no harm when it is old.
            if self._connection.sock is None:
                self._ask("GET", f"{urlsplit(self._settings.url).path}/-/ready", b"", {})
            self._ask(method, urlsplit(url).path, data, dict(headers))

        return send

    def _ask(self, method: str, path: str, data: bytes, headers: dict[str, str]) -> None:
        self._connection.request(method, path, data, headers)
        answer = self._connection.getresponse()
        text = answer.read().decode(errors="replace").strip()
        if not 200 <= answer.status < 300:
            raise http.client.HTTPException(f"{method} {path} was answered with {answer.status} {text[:200]}")


def _expire(_number: int, _frame: object) -> None:
    raise TimeoutError


class State:
    """Whether pushes succeed, and what to say when that changes."""

    def __init__(self) -> None:
        """Nothing has failed yet."""
        self.failed = 0

    def success(self) -> str:
        """Take note of a push that succeeded; returns the line for the log, empty where nothing changed."""
        failed, self.failed = self.failed, 0
        return f"pushes succeed again; {failed} failed" if failed else ""

    def failure(self, reason: object) -> str:
        """Take note of one that failed; returns the line for the log, empty where nothing changed."""
        self.failed += 1
        return f"pushes fail: {reason}; further failures are counted, not logged" if self.failed == 1 else ""


def log(text: str) -> None:
    """Write a line to the journal, unless it is empty."""
    if text:
        print(f"cpu_monitor: {text}", file=sys.stderr, flush=True)


def watch(settings: Settings, gateway: Gateway) -> None:
    """Measure and push until a stop is asked for. The signals of ``STOP`` must be blocked: they are waited for."""
    metrics, state = Metrics(), State()
    with open("/proc/stat", "rb", buffering=0) as stat:  # noqa: PTH123 a descriptor to read again and again

        def read() -> CpuTimes:
            return parse_cpu_times(os.pread(stat.fileno(), 512, 0).decode("ascii"))

        start, before = time.monotonic(), read()
        while True:
            now = time.monotonic()
            if signal.sigtimedwait(STOP, next_tick(start, settings.interval, now) - now):
                return
            after = read()
            metrics.cpu_usage, before = busy_percent(before, after), after
            try:
                gateway.push(metrics)
                log(state.success())
            except PushError as error:
                metrics.errors += 1
                log(state.failure(error))


def forget(gateway: Gateway) -> None:
    """Delete the group, so that nobody reads a last value as the present one."""
    try:
        gateway.delete()
    except PushError as error:
        log(f"the group was not deleted: {error}")


def main(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run, and return the exit code."""
    try:
        settings = Settings.from_environment(environment)
        if arguments and arguments != ["forget"]:
            raise SettingsError(f"The only argument is `forget`, not {' '.join(arguments)!r}.")
    except SettingsError as error:
        log(str(error))
        return 2
    gateway = Gateway(settings)
    if not arguments:
        # From here on a stop waits until it is asked for, between two pushes.
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP)
        log(f"pushing to {settings.url} every {settings.interval:g} s")
        watch(settings, gateway)
        forget(gateway)
    # systemd tells how the monitor ended; one that ended well has deleted its group already.
    elif environment.get("SERVICE_RESULT") != "success":
        forget(gateway)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
