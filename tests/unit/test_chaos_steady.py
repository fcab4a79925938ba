"""The steady state before a fault: each way in which a site is not steady has its sentence."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from chaos_runs import EPOCH, Made
from evenkeel.chaos.record.haproxy import Sample
from evenkeel.chaos.record.plan import Plan, parse_plan
from evenkeel.chaos.run import steady
from evenkeel.chaos.run.steady import (
    alerts_problem,
    capacity_problem,
    firing,
    load_problem,
    samples_answered,
    samples_problem,
    states_problem,
)
from evenkeel.load.failures import CERTIFICATE, RESET
from evenkeel.load.records import Record, Run
from evenkeel.load.settings import Settings, parse_mix

NAMES = ("one", "two", "three")


def planned(fault: str = "reboot", target: str = "one") -> Plan:
    hosts = {"backends": list(NAMES), "balancers": ["lb"]}
    content = {"fault": fault, "target": target, "hosts": hosts}
    return parse_plan(content | {"takes_out": target in NAMES, "recover_from": "inject"})


def servers(**status: str) -> dict[str, dict[str, Any]]:
    return {name: {"status": status.get(name, "UP"), "scur": 10, "qcur": 0, "slim": 16} for name in NAMES}


@pytest.mark.parametrize(
    ("status", "most", "wanted"),
    [
        ({}, 1, ""),
        ({"two": "no check"}, 1, ""),
        ({"two": "DOWN"}, 1, "two is DOWN at lb, and at most 1 may be out at once"),
        ({"two": "DRAIN"}, 1, "two is DRAIN at lb"),
        ({"two": "DOWN"}, 2, ""),
        ({"one": "DOWN"}, 2, "one is DOWN at lb already"),
        ({"two": "DOWN", "three": "MAINT"}, 3, "Without two, three, one no backend would be left"),
    ],
)
def test_states(status: dict[str, str], most: int, wanted: str) -> None:
    found = states_problem("lb", servers(**status), planned(), most)
    assert found.startswith(wanted)
    assert bool(found) == bool(wanted)


def test_balancer_that_does_not_know_a_backend() -> None:
    known = {name: row for name, row in servers().items() if name != "two"}
    assert states_problem("lb", known, planned(), 1) == "lb has no server two: run site.yml first."


def test_fault_of_a_balancer_wants_all_but_takes_none_out() -> None:
    assert states_problem("lb", servers(), planned("reload_balancer", "lb"), 0) == ""


def test_backends_left_must_carry_the_load() -> None:
    def sample(busy: int) -> Sample:
        rows = {name: {**row, "scur": busy} for name, row in servers().items()}
        return Sample(0, 0, "lb", "", rows, {})

    # Three work on 30, two take 32.
    assert capacity_problem([sample(10)], planned()) == ""
    wrong = "The site works on 33 requests at once, and without one its backends take 32: "
    assert capacity_problem([sample(11), sample(10), sample(11)], planned()).startswith(wrong)
    assert capacity_problem([sample(10), sample(11)], planned()) == ""
    assert capacity_problem([sample(11)], planned("kill_balancer", "lb")) == ""


def test_every_balancer_is_seen_and_when_last_asked_answers() -> None:
    good = Sample(0, 0, "lb", "", servers(), {})
    assert samples_problem([good], planned(), 1) == ""
    assert samples_problem([], planned(), 1) == "Nobody watches lb: there are no samples of its statistics."
    gone = good._replace(error="no connection", servers={})
    assert samples_problem([good, gone], planned(), 1) == "lb gives no statistics: no connection."
    down = good._replace(servers=servers(two="DOWN"))
    assert samples_problem([good, down], planned(), 1).startswith("two is DOWN at lb")


def test_answer_that_is_late_is_waited_for_and_silence_is_told() -> None:
    good = Sample(0, 0, "lb", "", servers(), {})
    late = good._replace(error="no answer within 0.8 s", servers={})
    seen = [[good, late], [good, late], [good, late, good]]
    asked = iter(seen)
    assert samples_answered(lambda: next(asked), 3600, 0) == seen[-1]
    assert list(asked) == []
    # Another balancer's answer is none of this one's.
    other = [late, good._replace(balancer="other")]
    assert samples_answered(lambda: other, 0, 0) == other


def test_load_is_steady_where_a_balancer_was_late_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made = Made(out=None, watched=(-20, 0), stop=0, ended=False)
    made.plan["max_unavailable"] = 1
    late = {"error": "no answer within 0.8 s"}
    made.write(tmp_path, sampled=lambda at: late if at > -1 else made.sample(at))
    monkeypatch.setattr(steady, "is_supervised", lambda _: True)
    waits = []

    def answer(seconds: float) -> None:
        waits.append(seconds)
        sample = {"at": EPOCH + 0.2, "took": 0.01, "balancer": "balancer", **made.sample(0.2)}
        with (tmp_path / "haproxy.jsonl").open("a") as samples:
            samples.write(json.dumps(sample) + "\n")

    monkeypatch.setattr(time, "sleep", answer)
    steady.check_load(tmp_path)
    assert len(waits) == 1


def rule(name: str, health: str, *states: str) -> dict[str, Any]:
    alerts = [
        {"labels": {"alertname": name, "instance": f"backend-{n}"}, "state": state} for n, state in enumerate(states)
    ]
    return {"name": name, "health": health, "alerts": alerts}


def test_alerts_that_nobody_evaluates_do_not_say_that_all_is_well() -> None:
    assert alerts_problem([]).startswith("it has no alerting rules")
    assert alerts_problem([{"rules": []}]).startswith("it has no alerting rules")
    assert alerts_problem([{"rules": [rule("A", "ok"), rule("B", "err"), rule("C", "unknown")]}]) == (
        "it does not evaluate B, C (yet)"
    )
    good = [{"rules": [rule("A", "ok", "pending", "firing")]}, {"rules": [rule("B", "ok")]}]
    assert alerts_problem(good) == ""
    assert firing(good) == ["A of backend-1"]


def run(*, late: float = 0.001, failures: int = 0, share: float = 1.0, kind: str = RESET) -> Run:
    settings = Settings("http://127.0.0.1", parse_mix(["GET /=1"]), rate=50)
    records = [
        Record(number / 50, late, 0.01, "GET", "/", False, 200, "one", "v1", kind if number < failures else "")
        for number in range(500)
        if number % 100 < share * 100
    ]
    return Run(0.0, settings, records)


@pytest.mark.parametrize(
    ("made", "wanted"),
    [
        (run(), ""),
        (run(late=0.6), "This machine can't send 50 requests per second: The generator was up to 0.600 s late"),
        (run(failures=2), "Before any fault 2 of 500 requests failed, the first one GET / by reset"),
        (run(failures=2, kind=CERTIFICATE), "This machine trusts no certificate that 127.0.0.1 shows: mend that"),
        (run(share=0.5), "Before any fault the site answers 5"),
        (Run(0.0, Settings("http://127.0.0.1", parse_mix(["GET /=1"]))), "This machine can't send 110"),
    ],
)
def test_load(made: Run, wanted: str) -> None:
    found = load_problem(made, 0.95)
    assert found.startswith(wanted)
    assert bool(found) == bool(wanted)
