"""The filters of the role chaos."""

from __future__ import annotations

import pytest

from chaos import chaos_problem, chaos_sentence, chaos_times

FAULTS = {"reboot": {"strikes": "backend"}, "kill_balancer": {"strikes": "balancer"}}
BACKENDS = [{"name": "one"}, {"name": "two"}]
BALANCERS = [{"name": "lb"}]


@pytest.mark.parametrize(
    ("fault", "target", "wanted"),
    [
        ("reboot", "", ""),
        ("reboot", "two", ""),
        ("kill_balancer", "lb", ""),
        ("flood", "one", "There is no fault `flood`: set chaos_fault to one of reboot, kill_balancer."),
        ("reboot", "six", "`six` is no backend of this inventory: reboot strikes one of one, two (chaos_target)."),
        ("kill_balancer", "one", "`one` is no balancer of this inventory: kill_balancer strikes one of lb"),
    ],
)
def test_fault_and_target_are_checked(fault: str, target: str, wanted: str) -> None:
    found = chaos_problem(fault, target, FAULTS, BACKENDS, BALANCERS)
    assert found.startswith(wanted)
    assert bool(found) == bool(wanted)


def test_sentence_is_what_the_command_said() -> None:
    assert chaos_sentence({"stderr": "\nchaos: backend-1 is DOWN.\n"}) == "backend-1 is DOWN."
    assert chaos_sentence({"stderr": "", "msg": "no such file"}) == "no such file"


def test_times_are_the_hosts_own_within_what_is_possible() -> None:
    assert chaos_times({"stdout_lines": ["11.5", "done", "12.25"]}, "10", 20.0) == [11.5, 12.25]
    # Clocks that are wrong.
    assert chaos_times({"stdout_lines": ["3", "4"]}, 10, 20) == [10, 10]
    assert chaos_times({"stdout_lines": ["12", "99"]}, 10, 20) == [12, 20]
    assert chaos_times({"skipped": True}, 10, 20) == [20, 20]
