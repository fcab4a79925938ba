"""The filters of the role chaos."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from chaos import (
    chaos_clock,
    chaos_late,
    chaos_problem,
    chaos_sentence,
    chaos_times,
    same_call,
)

FILTERS = Path(__file__).resolve().parents[2] / "plugins" / "filter"
PLAYBOOK = """
- hosts: localhost
  connection: local
  gather_facts: false
  tasks:
    - ansible.builtin.command:
        argv: [tee, "{{ playbook_dir }}/call"]
        stdin: "{{ 'undo.yml' | chaos_call('chaos.yml') | to_json }}"
      no_log: true
"""
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


@pytest.mark.parametrize(
    ("words", "playbooks", "wanted"),
    [
        ("-i x p/chaos.yml -e y", ["p/chaos.yml"], "-i x p/undo.yml -e y"),
        # What only looks like it is an option's.
        ("-e @vars/chaos.yml chaos.yml", ["chaos.yml"], "-e @vars/chaos.yml undo.yml"),
        # What came before it is not done again.
        ("deploy.yml chaos.yml --become", ["deploy.yml", "chaos.yml"], "undo.yml --become"),
        ("mine.yml -e x", ["mine.yml"], None),
    ],
)
def test_fault_is_undone_with_the_same_options(words: str, playbooks: list[str], wanted: str | None) -> None:
    command = ["python", "ansible-playbook", *words.split()]
    found = same_call(command, playbooks, "chaos.yml", "undo.yml")
    assert found == ([] if wanted is None else ["python", "ansible-playbook", *wanted.split()])


def test_call_is_that_of_the_process_that_forked_the_task(tmp_path: Path) -> None:
    (tmp_path / "chaos.yml").write_text(PLAYBOOK)
    command = [sys.executable, "-m", "ansible", "playbook", "-i", "localhost,", "chaos.yml", "-e", "a='b c'"]
    environment = {**os.environ, "ANSIBLE_FILTER_PLUGINS": str(FILTERS), "ANSIBLE_STRATEGY": "linear"}
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True)
    said, _ = process.communicate(timeout=60)
    found = json.loads((tmp_path / "call").read_text())
    assert found == {
        "pid": process.pid,
        "directory": str(tmp_path),
        "command": [word.replace("chaos.yml", "undo.yml") for word in command],
    }, said
