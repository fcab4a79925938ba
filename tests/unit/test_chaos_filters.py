"""The filters of the role chaos."""

from __future__ import annotations

import pytest

from chaos import chaos_clock, chaos_late, chaos_problem, chaos_sentence, chaos_times

FAULTS = ("reboot", "kill_balancer")


@pytest.mark.parametrize(
    ("fault", "target", "strikes", "wanted"),
    [
        ("reboot", "", "backend", ""),
        ("reboot", "two", "backend", ""),
        ("kill_balancer", "one", "balancer", ""),
        ("flood", "one", "backend", "There is no fault `flood`: set chaos_fault to one of reboot, kill_balancer."),
        (
            "reboot",
            "six",
            "backend",
            "`six` is no backend of this inventory: reboot strikes one of one, two (chaos_target).",
        ),
        (
            "kill_balancer",
            "six",
            "balancer",
            "`six` is no balancer of this inventory: kill_balancer strikes one of one",
        ),
    ],
)
def test_fault_and_target_are_checked(fault: str, target: str, strikes: str, wanted: str) -> None:
    found = chaos_problem(fault, target, FAULTS, strikes, ["one", "two"])
    assert found.startswith(wanted)
    assert bool(found) == bool(wanted)


def test_sentence_is_what_the_command_said() -> None:
    assert chaos_sentence({"stderr": "\nchaos: backend-1 is DOWN.\n"}) == "backend-1 is DOWN."
    assert chaos_sentence({"stderr": "", "msg": "no such file"}) == "no such file"


def test_times_are_the_hosts_own_where_they_are_possible() -> None:
    # A strike that took long before it took hold.
    assert chaos_times({"stdout_lines": ["31.5", "done", "32.25"]}, "10", 40.0) == [31.5, 32.25]
    assert chaos_clock({"stdout_lines": ["31.5", "done", "32.25"]}, "10", 40.0) == ""
    assert chaos_times({"skipped": True}, 10, 20) == [20, 20]
    assert chaos_clock({"skipped": True}, 10, 20) == ""


@pytest.mark.parametrize(
    ("printed", "wanted", "word"),
    [
        (["3", "4"], [19, 20], "16.0 s behind"),
        (["97", "99"], [18, 20], "79.0 s ahead"),
        # It was set while the task ran.
        (["12", "99"], [10, 20], "79.0 s ahead"),
        (["15", "12"], [20, 20], "8.0 s behind"),
        (["3"], [10, 10], "17.0 s behind"),
        (["99"], [20, 20], "79.0 s ahead"),
    ],
)
def test_clock_that_is_wrong_makes_no_time_below_zero(printed: list[str], wanted: list[float], word: str) -> None:
    assert chaos_times({"stdout_lines": printed}, 10, 20) == wanted
    assert chaos_clock({"stdout_lines": printed}, 10, 20) == (
        f"The host's clock is {word}: this is by the clock of the machine that runs Ansible."
    )


@pytest.mark.parametrize(
    ("told", "at", "wanted"),
    [
        ({"one": ["11.5"], "two": ["12"]}, 25, ""),
        ({"one": ["11.5"], "two": []}, 25, "two can't be reached, so not all backends stall at once."),
        ({"one": ["3.5"], "two": ["12"]}, 25, "The clock of one is wrong, so not all backends stall at once"),
        ({"one": ["11.5"], "two": ["12"]}, 19, "It took too long to tell all backends when to stall"),
    ],
)
def test_backends_that_do_not_stall_at_once_are_no_such_fault(told: dict[str, list[str]], at: int, wanted: str) -> None:
    found = chaos_late([{"item": name, "stdout_lines": lines} for name, lines in told.items()], "10", 20.0, str(at))
    assert found.startswith(wanted)
    assert bool(found) == bool(wanted)
