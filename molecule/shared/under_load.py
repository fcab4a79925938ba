"""Something happens to the site under honest load: what the clients saw of it."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import requests
from scenario import PROJECT, Scenario, wait_until

from evenkeel.load.analysis import successes
from evenkeel.load.records import Record, Run, read
from evenkeel.load.summary import Summary, summarise

# 100 GET and 10 POST per second.
MIX = "GET /=10,GET /sleep/0/ok=40,GET /sleep/1/ok=10,GET /factorial/200=40,POST /factorial/200=5,POST /sleep/1/ok=5"
RATE = 110
# From a machine that may stand still for seconds; the bench asks for less. What is asked here is what was lost and how
# long nobody was answered, less such pauses.
BUSY = ("--max-lateness", "20")
WARM_UP = 2.0
# A request is in flight for a second, and the balancer may need as long to learn of a server that hangs.
IN_FLIGHT = 2.0


@dataclass(frozen=True)
class Outcome:
    """What the clients saw.

    Attributes:
        run: every request of the run.
        began: when the fault was begun, in seconds since the run's start.
        hit: when it had taken hold.
    """

    run: Run
    began: float
    hit: float

    @property
    def summary(self) -> Summary:
        """Return the figures of the whole run."""
        return summarise(self.run)

    def failed(self, method: str) -> list[Record]:
        """Return the failed requests of one method."""
        return [record for record in self.run.records if record.failure and record.method == method]

    def unanswered(self, method: str) -> list[Record]:
        """Return the failed requests of one method of whose answer nothing had come."""
        return [record for record in self.failed(method) if record.status != 200]

    def failed_later(self, method: str) -> list[Record]:
        """Return the failed requests that were not in flight when the fault took hold."""
        first, last = self.began - IN_FLIGHT, self.hit + IN_FLIGHT
        return [record for record in self.failed(method) if not first < record.at < last]

    @property
    def longest_gap(self) -> float:
        """Return the longest time without a successful answer, in seconds, less what the generator itself stood still.

        Nobody would have seen an answer while it did: on a busy machine that is no gap of the site.
        """
        stopped = self.summary.end
        times = [0.0, *(time for time in successes(self.run.records) if time < stopped), stopped]
        return max(end - start - self.paused(start, end) for start, end in pairwise(times))

    def paused(self, start: float, end: float) -> float:
        """Return how long the generator itself stood still between two moments, in seconds."""
        return sum(max(0.0, min(end, at + seconds) - max(start, at)) for at, seconds in self.run.pauses)

    @property
    def slowest_get(self) -> float:
        """Return the latency of the slowest GET, in seconds."""
        return max(record.latency for record in self.run.records if record.method == "GET")

    def __str__(self) -> str:
        """Return the figures in one line."""
        summary = self.summary
        gets = sum(record.method == "GET" for record in self.run.records)
        return (
            f"GET {len(self.failed('GET'))} of {gets} failed, "
            f"POST {len(self.failed('POST'))} of {len(self.run.records) - gets}, "
            f"gap {self.longest_gap:.2f} s, slowest GET {self.slowest_get:.2f} s, "
            f"floor {summary.rps_floor} of {RATE}/s, {'valid' if summary.valid else 'THE RUN DOES NOT COUNT'}"
        )


def states(scenario: Scenario, service: str = "app") -> dict[str, str]:
    """Return the state of each backend of a service as HAProxy sees it, such as ``{"backend-1": "UP"}``."""
    url = f"http://{scenario.addresses['balancer']}:8404/stats;csv"
    rows = csv.DictReader(requests.get(url, timeout=60).text.removeprefix("# ").splitlines())
    return {row["svname"]: row["status"] for row in rows if row["pxname"] == service and row["svname"] != "BACKEND"}


def decided_states(scenario: Scenario) -> dict[str, str]:
    """Return the states once HAProxy has made up its mind: `UP 3/4`, after one late check, is looked at again."""
    end = time.monotonic() + 60
    while any(state.startswith("UP ") for state in states(scenario).values()) and time.monotonic() < end:
        time.sleep(0.2)
    return states(scenario)


def stands_in(server: str) -> bool:
    """Return whether a server serves in a roll-out only (surge_port)."""
    return server.endswith("_next")


def wait_until_all_up(scenario: Scenario) -> None:
    """Wait until every backend of every service serves."""

    def found() -> set[str]:
        url = f"http://{scenario.addresses['balancer']}:8404/stats;csv"
        rows = csv.DictReader(requests.get(url, timeout=60).text.removeprefix("# ").splitlines())
        return {
            row["status"]
            for row in rows
            if row["svname"] not in {"FRONTEND", "BACKEND"} and not stands_in(row["svname"])
        }

    wait_until(lambda: found() == {"UP"}, "every backend is UP")


def waiting(scenario: Scenario) -> int:
    """Return how many requests the balancer still has, its queues included."""
    url = f"http://{scenario.addresses['balancer']}:8404/stats;csv"
    rows = csv.DictReader(requests.get(url, timeout=60).text.removeprefix("# ").splitlines())
    return sum(int(row["scur"]) + int(row["qcur"] or 0) for row in rows if row["svname"] == "BACKEND")


def answers(url: str) -> bool:
    """Return whether somebody is there and says 200."""
    try:
        return requests.get(url, timeout=1).status_code == 200
    except requests.RequestException:
        return False


@contextmanager
def load(scenario: Scenario, records: Path, *arguments: str) -> Iterator[None]:
    """Put load on the site."""
    url = f"http://{scenario.addresses['balancer']}"
    # The timeout is a patient client's: it may outlive a fault.
    command = [sys.executable, "-m", "evenkeel.load", url, "--rate", str(RATE), "--timeout", "35"]
    command += [] if "--mix" in arguments else ["--mix", MIX]
    # Before the hosts it shares the cores with: it must not be what is late.
    nice = ["nice", "-n", "-10"] if os.geteuid() == 0 else []
    process = subprocess.Popen(
        [*nice, *command, "--duration", "300", "--records", str(records), "--quiet", *arguments],
        cwd=PROJECT,
        env=os.environ | {"PYTHONPATH": str(PROJECT / "src")},
        stdout=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)


def under_load(
    scenario: Scenario,
    records: Path,
    *made: AbstractContextManager[None],
    seconds: float,
    arguments: Sequence[str] = (),
) -> Outcome:
    """Let faults last for some seconds under load, wait until every backend serves again, return what clients saw."""
    wait_until_all_up(scenario)
    # What a test before has sent too much of may still be worked off.
    wait_until(lambda: waiting(scenario) == 0, "nothing is left of the load before")
    with load(scenario, records, *arguments):
        time.sleep(WARM_UP)
        with ExitStack() as stack:
            began = time.time()
            for fault in made:
                stack.enter_context(fault)
            hit = time.time()
            time.sleep(seconds)
        wait_until_all_up(scenario)
        time.sleep(WARM_UP)
    run = read(records)
    outcome = Outcome(run, began - run.started, hit - run.started)
    # Who stood still meanwhile has seen nothing.
    still = outcome.paused(outcome.began, outcome.hit + seconds)
    assert still <= (outcome.hit + seconds - outcome.began) / 2, f"no load for {still:.1f} s of the fault"
    return outcome
