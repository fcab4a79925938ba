"""The filters of a roll-out: which image comes before which, how hosts fared, what the operator reads."""

from __future__ import annotations

from typing import Any

import pytest

from roll_out import (
    batch_problem,
    failure_text,
    inventory_note,
    release_before,
    releases_after,
    roll_out_audit,
    roll_out_failures,
    roll_out_left_out,
    roll_out_outcomes,
    roll_out_summary,
    roll_out_verdict,
    target_problem,
)

OWN = "evenkeel.local/backend_app:"


def outcome(host: str, result: str = "swapped", text: str = "") -> dict[str, Any]:
    swap = {"from": f"{OWN}1-a", "to": f"{OWN}2-b"}
    return {"host": host, **swap, "left_out": [], "result": result, "text": text}


@pytest.mark.parametrize(
    ("recorded", "former", "new", "wanted"),
    [
        ({}, "a", "b", {"current": "b", "previous": "a"}),
        ({"current": "a", "previous": "z"}, "a", "b", {"current": "b", "previous": "a"}),
        # Settings alone: the version before this one stays what it was.
        ({"current": "a", "previous": "z"}, "a", "a", {"current": "a", "previous": "z"}),
        ({}, "a", "a", {"current": "a"}),
        # A run that was cut off left x running: what succeeded last counts.
        ({"current": "a", "previous": "z"}, "x", "b", {"current": "b", "previous": "a"}),
        ({"current": "a", "previous": "z"}, "x", "a", {"current": "a", "previous": "z"}),
    ],
)
def test_releases_after_a_swap(recorded: dict[str, str], former: str, new: str, wanted: dict[str, str]) -> None:
    assert releases_after(recorded, former, new) == wanted


@pytest.mark.parametrize(("running", "wanted"), [("b", "a"), ("x", "b")])
def test_release_before_is_the_last_that_succeeded(running: str, wanted: str) -> None:
    assert release_before({"current": "b", "previous": "a"}, running) == wanted
    assert release_before({}, running) == ""


def test_a_rollback_can_be_rolled_back() -> None:
    after = releases_after({"current": "b", "previous": "a"}, "b", "a")
    assert release_before(after, "a") == "b"


@pytest.mark.parametrize(
    ("result", "wanted"),
    [
        ({"failed": True, "msg": "no\n  way"}, "no way"),
        ({"msg": "One or more items failed", "results": [{"msg": "fine"}, {"failed": True, "msg": "held"}]}, "held"),
        ({"unreachable": True, "msg": "timed out"}, "unreachable: timed out"),
        ({"results": [{"unreachable": True, "msg": "gone"}]}, "unreachable: gone"),
        ({"failed": True, "stderr": "broken"}, "broken"),
        ({}, "no reason"),
    ],
)
def test_failure_says_what_its_items_said(result: dict[str, Any], wanted: str) -> None:
    assert failure_text(result) == wanted


def test_outcomes_of_hosts_that_never_had_their_turn_are_waiting() -> None:
    hostvars: dict[str, dict[str, Any]] = {
        "one": {
            "backend_app_swap": {"from": "a", "to": "b"},
            "rolling_swap_outcome": {"result": "failed", "text": "why"},
            "rolling_swap_left_out": ["lb"],
        },
        "two": {"backend_app_swap": {"from": "a", "to": "b"}},
    }
    outcomes = roll_out_outcomes(hostvars, hostvars)
    assert outcomes == [
        {"host": "one", "from": "a", "to": "b", "left_out": ["lb"], "result": "failed", "text": "why"},
        {"host": "two", "from": "a", "to": "b", "left_out": [], "result": "waiting", "text": ""},
    ]
    assert [failure["host"] for failure in roll_out_failures(outcomes)] == ["one"]


def test_hosts_that_were_drained_before_are_named() -> None:
    assert roll_out_left_out([outcome("one"), outcome("two")]) == ""
    assert roll_out_left_out([outcome("one"), {**outcome("two"), "left_out": ["lb"]}]) == (
        "two got no requests before this run, and gets none now: ready.yml -e target=two ends that."
    )


def test_log_line_says_who_what_and_how_it_went() -> None:
    assert roll_out_audit([outcome("one"), outcome("two")], "deploy", "me@here", "noon") == (
        "noon me@here deploy hosts=one,two from=1-a to=2-b result=ok"
    )
    failed = [outcome("one", "put back"), outcome("two", "failed"), outcome("three", "waiting")]
    assert roll_out_audit(failed, "site", "me@here", "noon").endswith("result=failed on two")


def test_verdict_is_a_sentence_and_what_the_hosts_said() -> None:
    text = roll_out_verdict([outcome("one", "put back"), outcome("two", "failed", "not ready"), outcome("three")])
    assert text.splitlines() == [
        "The roll-out failed on two and was undone: the old version runs everywhere, and no host stays drained by it.",
        "two: not ready",
    ]


def test_verdict_promises_nothing_of_a_broken_host() -> None:
    text = roll_out_verdict([outcome("one", "broken", "lb can't be reached any more.")])
    assert "one could not be put back in full and needs a look" in text
    assert "drained" not in text


def test_summary_says_what_changed_or_that_nothing_did() -> None:
    assert roll_out_summary([outcome("one"), outcome("two")]) == "one, two: 1-a -> 2-b."
    assert roll_out_summary([]) == "Nothing to do: every backend runs what is wanted."


def test_note_only_where_the_inventory_says_something_else() -> None:
    assert inventory_note(["1.0.0", ""], ["1.0.0", ""]) == ""
    assert "still say 1.0.0, and the next site.yml brings that back" in inventory_note(["1.0.0", ""], ["2.0.0", ""])


@pytest.mark.parametrize(("batch", "hosts"), [(1, 1), ("1", 3), ("2", 3), ("25%", 3), ("99%", 3), ("5%", 2), (7, 1)])
def test_batch_that_leaves_somebody(batch: object, hosts: int) -> None:
    assert batch_problem(batch, hosts) == ""


@pytest.mark.parametrize("batch", [0, "0%", "-1", "many", "", "100%", "1.5", 3, "4"])
def test_batch_that_is_none_or_takes_all_is_one_sentence(batch: object) -> None:
    problem = batch_problem(batch, 3)
    assert problem.startswith(f"deploy_batch is `{batch}`")
    assert problem.endswith(".")


def test_target_is_a_backend_or_a_sentence() -> None:
    assert target_problem("one", ["one", "two"], "drain.yml") == ""
    run = "run drain.yml with -e target=<one of one, two>."
    assert target_problem("ten", ["one", "two"], "drain.yml") == f"`ten` is no backend of this inventory: {run}"
    assert target_problem("", ["one", "two"], "drain.yml") == f"Which backend is meant was not said: {run}"
