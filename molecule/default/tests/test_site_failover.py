"""The site under honest load (100 GET and 10 POST per second) while it is hit: nobody may notice.

`make bench-failover` measures the same, longer and several times.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import changes
import faults
import pytest
import requests
from scenario import Scenario, wait_until
from under_load import BUSY, Outcome, answers, states, under_load, wait_until_all_up

from evenkeel.load import failures

SECONDS = 5
BACKENDS = ("backend-1", "backend-2", "backend-3")
VICTIM = "backend-2"
# Seconds between two looks of wait_until, and for the look itself.
POLL = 0.2

# A power cut may fall between two packets of an answer. Of that nobody can have another (docs/failover.md).
CUT = 1

Fault = Callable[[Scenario, str], AbstractContextManager[None]]


@pytest.fixture
def records(tmp_path: Path) -> Path:
    return tmp_path / "load.gz"


def nobody_noticed(outcome: Outcome, shortest_gap: float = 0, longest_gap: float = 1, begun: int = 0) -> None:
    """Assert that nothing was lost that could be saved, and how long nobody was answered.

    Args:
        outcome: what the clients saw.
        shortest_gap: that long nobody was answered, in seconds, so the fault was there.
        longest_gap: and no longer, in seconds.
        begun: so many GET may fail whose answer had begun.
    """
    print(outcome)
    assert outcome.summary.valid, outcome.summary.schedule
    assert outcome.unanswered("GET") == []
    assert len(outcome.failed("GET")) <= begun
    assert outcome.failed_later("POST") == []
    assert shortest_gap <= outcome.longest_gap < longest_gap


# A reboot and a SIGKILL are test_site_chaos.py's.
def test_what_is_announced_costs_nothing(scenario: Scenario, records: Path) -> None:
    outcome = under_load(scenario, records, faults.engine_restart(scenario, VICTIM), seconds=0, arguments=BUSY)
    nobody_noticed(outcome)
    assert outcome.failed("POST") == []


@pytest.mark.parametrize("fault", [faults.power_cut, faults.frozen])
def test_what_is_not_costs_only_what_may_not_be_done_twice(scenario: Scenario, records: Path, fault: Fault) -> None:
    outcome = under_load(scenario, records, fault(scenario, VICTIM), seconds=SECONDS, arguments=BUSY)
    nobody_noticed(outcome, begun=CUT)
    # It was hit, and it is back.
    assert set(outcome.summary.backends) == set(BACKENDS)


def test_stall_of_all_backends_is_not_their_death(scenario: Scenario, records: Path) -> None:
    made = faults.stall(scenario, *BACKENDS, seconds=2, times=2)
    outcome = under_load(scenario, records, made, seconds=0, arguments=BUSY)
    print(outcome)
    assert outcome.summary.valid
    # Nothing was down, and what was not sent is sent again.
    assert outcome.failed("GET") == outcome.failed("POST") == []
    assert outcome.longest_gap > 1.5, "there was a stall"


def test_stall_of_the_others_while_one_is_off(scenario: Scenario, records: Path) -> None:
    made = (faults.power_cut(scenario, VICTIM), faults.stall(scenario, "backend-1", "backend-3", seconds=1, times=2))
    outcome = under_load(scenario, records, *made, seconds=1, arguments=BUSY)
    nobody_noticed(outcome, shortest_gap=0.7, longest_gap=2.5, begun=CUT)


def test_stall_of_the_balancer_costs_nothing(scenario: Scenario, records: Path) -> None:
    made = faults.stall(scenario, "balancer", seconds=1, times=2)
    outcome = under_load(scenario, records, made, seconds=0, arguments=BUSY)
    nobody_noticed(outcome, shortest_gap=0.7, longest_gap=2.5)


def test_application_that_is_late_everywhere_is_waited_for(scenario: Scenario, records: Path) -> None:
    made = faults.late(scenario, *BACKENDS, seconds=1.5)
    outcome = under_load(scenario, records, made, seconds=SECONDS, arguments=BUSY)
    print(outcome)
    assert outcome.summary.valid
    assert outcome.failed("GET") == outcome.failed("POST") == []
    assert outcome.slowest_get > 2.4, "it was late"


def test_reboot_beside_overloaded_hosts_costs_nothing(scenario: Scenario, records: Path) -> None:
    made = (faults.overload(scenario, "backend-1", "backend-3", times=4), faults.reboot(scenario, VICTIM))
    outcome = under_load(scenario, records, *made, seconds=SECONDS, arguments=BUSY)
    print(outcome)
    assert outcome.failed("GET") == []
    assert outcome.failed_later("POST") == []


def test_killed_worker_costs_what_was_in_flight(scenario: Scenario, records: Path) -> None:
    outcome = under_load(scenario, records, faults.worker_killed(scenario), seconds=2, arguments=BUSY)
    print(outcome)
    assert outcome.summary.valid
    failed = outcome.failed("GET") + outcome.failed("POST")
    # Sent before, and not refused: a connection made since then waits in the socket that systemd holds.
    assert [record for record in failed if record.at > outcome.hit or record.failure == failures.CONNECT] == []


def test_lossy_network_costs_next_to_nothing(scenario: Scenario, records: Path) -> None:
    outcome = under_load(scenario, records, faults.loss(scenario, VICTIM, 0.2), seconds=SECONDS, arguments=BUSY)
    print(outcome)
    assert outcome.summary.valid
    assert len(outcome.failed("GET")) <= 3
    assert len(outcome.failed("POST")) <= 1
    assert outcome.longest_gap < 1


def test_one_of_three_carries_the_load(scenario: Scenario, records: Path) -> None:
    cuts = [faults.power_cut(scenario, name) for name in BACKENDS[1:]]
    nobody_noticed(under_load(scenario, records, *cuts, seconds=SECONDS, arguments=BUSY), begun=CUT)


def test_busy_hosts_are_not_taken_for_dead_ones(scenario: Scenario, records: Path) -> None:
    outcome = under_load(scenario, records, faults.saturation(), seconds=SECONDS, arguments=BUSY)
    nobody_noticed(outcome)
    assert outcome.failed("POST") == []


def test_reloads_do_not_revive_a_dead_server(scenario: Scenario, records: Path) -> None:
    made = (faults.stopped(scenario, VICTIM), changes.reloads(scenario, VICTIM, 10))
    outcome = under_load(scenario, records, *made, seconds=0, arguments=BUSY)
    nobody_noticed(outcome, longest_gap=0.5)
    assert outcome.failed("POST") == []


def refused_at_once(scenario: Scenario) -> int:
    """Return how many of the last ten requests had no server, no place in the queue and no attempt at a connection."""
    log = scenario.host("balancer").check_output("journalctl -t haproxy --no-pager -o cat -n 50")
    last = [line for line in log.splitlines() if '"GET / HTTP/1.1"' in line][-10:]
    return sum(bool(re.search(r" app/<NOSRV> \d+/-1/-1/-1/\d+ 503 ", line)) for line in last)


def test_nobody_left_is_said_at_once_and_over_at_once(scenario: Scenario) -> None:
    url = f"http://{scenario.addresses['balancer']}/"
    first, *others = BACKENDS
    with ExitStack() as stack:
        for name in others:
            stack.enter_context(faults.blackhole(scenario, name))
        with faults.power_cut(scenario, first):
            wait_until(lambda: set(states(scenario).values()) == {"DOWN"}, "every backend is DOWN")
            for _ in range(10):
                answer = requests.get(url, timeout=60)
                assert answer.status_code == 503
                assert "try again" in answer.text
                assert answer.headers["Retry-After"] == "1"
            wait_until(lambda: refused_at_once(scenario) == 10, "HAProxy has written down all of them")
        # The others stay cut off: the first one alone ends it.
        # It answers to balancers alone.
        ask = f"curl --silent --fail --max-time 1 http://{scenario.addresses[first]}/readyz"
        balancer = scenario.host("balancer")
        wait_until(lambda: balancer.run(ask).rc == 0, "the first one serves")
        served = time.monotonic()
        wait_until(lambda: answers(url), "the site answers again", seconds=10)
        recovery = time.monotonic() - served
        print(f"recovery {recovery:.2f} s")
        # Two seconds, and what it may take to see it.
        assert recovery < 2 + POLL
    wait_until_all_up(scenario)


def test_the_guides_settings_show_the_loss(scenario: Scenario, records: Path) -> None:
    # The proof that the tests above could fail.
    with changes.guide(scenario):
        outcome = under_load(scenario, records, faults.power_cut(scenario, VICTIM), seconds=SECONDS, arguments=BUSY)
    print(outcome)
    assert outcome.failed("GET") != []
    assert outcome.slowest_get > 4
