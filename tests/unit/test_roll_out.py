"""The filters of a roll-out: which image comes before which, how hosts fared, what the operator reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import yaml

from roll_out import (
    batch_problem,
    brings_foreign,
    engine_verdict,
    failure_text,
    inventory_note,
    lock_note,
    log_text,
    only_ours,
    out_note,
    ran_here,
    release_before,
    releases_after,
    roll_back_plan,
    roll_out_audit,
    roll_out_failures,
    roll_out_left_out,
    roll_out_order,
    roll_out_outcomes,
    roll_out_summary,
    roll_out_verdict,
    target_problem,
    unprepared,
)

OWN = "evenkeel.local/backend_app:"


FOUND: dict[str, list[str]] = {"drained": [], "silent": []}


def outcome(host: str, result: str = "swapped", text: str = "") -> dict[str, Any]:
    swaps = {"app": {"from": f"{OWN}1-a", "to": f"{OWN}2-b"}}
    return {"host": host, "swaps": swaps, "left_out": [], "result": result, "text": text}


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
            "backend_app_swap": {"app": {"from": "a", "to": "b", "guide": True}},
            "rolling_update_outcome": {"result": "failed", "text": "why"},
            "rolling_update_left_out": ["lb"],
        },
        "two": {
            "backend_app_swap": {"app": {"from": "a", "to": "b"}},
            "rolling_update_runs": {"results": [{"item": "app", "stdout": "a\n"}]},
        },
    }
    outcomes = roll_out_outcomes(reversed(list(hostvars)), hostvars)
    swaps = {"swaps": {"app": {"from": "a", "to": "b"}}}
    assert outcomes == [
        {"host": "one", **swaps, "left_out": ["lb"], "result": "failed", "text": "why"},
        {"host": "two", **swaps, "left_out": [], "result": "waiting", "text": "", "runs": {"app": "a"}},
    ]
    assert [failure["host"] for failure in roll_out_failures(outcomes)] == ["one"]


def test_hosts_that_were_drained_before_are_named() -> None:
    assert roll_out_left_out([outcome("one"), outcome("two")]) == ""
    assert roll_out_left_out([outcome("one"), {**outcome("two"), "left_out": ["lb"]}]) == (
        "two got no requests before this run, and gets none now: ready.yml -e target=two ends that."
    )


def test_log_line_says_who_what_and_how_it_went() -> None:
    assert roll_out_audit([outcome("one"), outcome("two")], "deploy", "me@here", "noon") == [
        "noon me@here deploy service=app hosts=one,two from=1-a to=2-b result=ok"
    ]
    # One line for each service, of the hosts where it changed.
    shop = {"shop": {"from": "shop:1", "to": "shop:2"}}
    two = {**outcome("two"), "swaps": {**outcome("two")["swaps"], **shop}}
    assert roll_out_audit([outcome("one"), two], "site", "me@here", "noon")[1:] == [
        "noon me@here site service=shop hosts=two from=shop:1 to=shop:2 result=ok"
    ]
    engine = {**outcome("one"), "swaps": {}}
    assert roll_out_audit([engine], "engine", "me@here", "noon") == [
        "noon me@here engine service=- hosts=one from=- to=- result=ok"
    ]
    failed = [outcome("one", "put back"), outcome("two", "failed"), outcome("three", "waiting")]
    assert roll_out_audit(failed, "site", "me@here", "noon")[0].endswith("result=failed on two")


def test_verdict_is_a_sentence_and_what_the_hosts_said() -> None:
    held = [outcome("one", "put back"), outcome("two", "failed", "not ready"), outcome("three", "waiting")]
    text = roll_out_verdict([each | {"runs": {"app": f"{OWN}1-a"}} for each in held], ["one", "two", "three"], FOUND)
    assert text.splitlines() == [
        "The roll-out failed on two and was undone: the old version runs everywhere, and no host stays drained by it.",
        "two: not ready",
    ]


def test_verdict_promises_nothing_of_a_broken_host() -> None:
    held = [outcome("one", "broken", "lb can't be reached any more.")]
    text = roll_out_verdict(held, ["one"], FOUND)
    assert "one could not be put back in full and needs a look" in text
    assert "drained" not in text


def test_verdict_says_what_was_found_and_not_what_should_be() -> None:
    held = [outcome("one", "put back"), outcome("two", "failed", "not ready")]

    def first(*images: str, backends: Sequence[str] = ("one", "two"), **more: list[str]) -> str:
        asked = [each | {"runs": {"app": image and OWN + image}} for each, image in zip(held, images, strict=True)]
        return roll_out_verdict(asked, backends, FOUND | more).splitlines()[0]

    assert first("2-b", "1-a").endswith("one runs 2-b, two runs 1-a, and no host stays drained by it.")
    assert first("", "1-a").endswith("one runs nothing, two runs 1-a, and no host stays drained by it.")
    # Another backend runs something else, and was no part of it.
    assert first("1-a", "1-a", backends=("one", "two", "three")).startswith(
        "The roll-out failed on two and was undone: one runs 1-a, two runs 1-a"
    )
    assert first("1-a", "1-a", drained=["one"]).endswith("the old version runs everywhere, still drained: one.")
    assert "lb did not say what it has drained" in first("1-a", "1-a", silent=["lb"])


def test_verdict_about_an_engine_promises_no_undoing() -> None:
    held = [outcome("one"), outcome("two", "failed", "no disk"), outcome("three", "waiting")]
    assert engine_verdict(held, FOUND).splitlines() == [
        "The engine was not brought in line on two: three still runs as before, no host stays drained by it.",
        "two: no disk",
    ]
    assert "still drained: two" in engine_verdict(held, FOUND | {"drained": ["two"]})


def test_summary_says_what_changed_or_that_nothing_did() -> None:
    assert roll_out_summary([outcome("one"), outcome("two")]) == "one, two: 1-a -> 2-b."
    shop = {**outcome("one"), "swaps": {"shop": {"from": "shop:1", "to": "evenkeel.local/backend_shop:2-b"}}}
    assert roll_out_summary([shop]) == "shop on one: shop:1 -> 2-b."
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


def ran(running: str, former: str = "", **recorded: object) -> dict[str, Any]:
    return {"running": running, "former": former, "recorded": recorded}


@pytest.mark.parametrize(
    ("hosts", "target"),
    [
        # Nothing was cut off.
        ([ran("b", current="b", previous="a")] * 2, "a"),
        # A deploy was killed half-way, or between two tasks of the first host: it is taken back.
        ([ran("c", former="b", current="b", previous="a"), ran("b", current="b", previous="a")], "b"),
        ([ran("", former="b", current="b", previous="a"), ran("b", current="b", previous="a")], "b"),
        ([ran("b", former="a"), ran("a")], "a"),
        # A rollback was: it is finished.
        ([ran("a", former="b", current="b", previous="a"), ran("b", current="b", previous="a")], "a"),
        (
            [
                ran("a", former="b", current="b", previous="a"),
                ran("", former="b", current="b", previous="a"),
                ran("b", current="b", previous="a"),
            ],
            "a",
        ),
        # Killed between two containers of the first host: what was to come tells which way it went.
        (
            [
                ran("", former="b", current="b", previous="a", next="a"),
                ran("b", current="b", previous="a", next="b"),
            ],
            "a",
        ),
        ([ran("", former="b", current="b", previous="a", next="c"), ran("b", current="b", previous="a")], "b"),
        # A deploy of the very version that ran before is no rollback.
        ([ran("a", former="b", current="b", previous="a", next="a", back=False)] * 2, "b"),
        ([ran("a", former="b", current="b", previous="a", next="a", back=True)] * 2, "a"),
        ([ran("", former="b", current="b", previous="a", next="a", back=False)], "b"),
        # Everything was written but what was put aside.
        ([ran("b", former="a", current="b", previous="a")] * 2, "a"),
    ],
)
def test_way_back(hosts: list[dict[str, Any]], target: str) -> None:
    assert roll_back_plan(dict(zip("abc", hosts, strict=False))) == {"target": target, "problem": ""}


@pytest.mark.parametrize(
    ("hosts", "problem"),
    [
        ([ran(""), ran("a")], "one has no container of the application"),
        ([ran("a"), ran("a")], "one has no previous version: nothing but a was ever rolled out there."),
        ([ran("a", current="a"), ran("b", current="b")], "The backends do not run the same versions"),
    ],
)
def test_no_way_back_is_one_sentence(hosts: list[dict[str, Any]], problem: str) -> None:
    plan = roll_back_plan(dict(zip(["one", "two"], hosts, strict=False)))
    assert plan["target"] == ""
    assert problem in plan["problem"]


def test_hosts_that_were_left_half_way_come_first() -> None:
    hostvars = {
        "one": {"backend_app_swap": {"app": {"former": False}}},
        "two": {"backend_app_swap": {"shop": {"former": False}, "app": {"former": True}}},
        "x": {},
    }
    # And those in the order of the inventory, whichever was first here.
    assert roll_out_order(["x", "one", "two"], hostvars) == ["two", "one", "x"]


FOREIGN = "registry.example.com/app:1"


@pytest.mark.parametrize(
    ("hosts", "wanted"),
    [
        ([{}, {"backend_app_image": ""}], True),
        ([{}, {"backend_app_image": FOREIGN}], False),
        # Before, in the middle, after, undone.
        ([{"swap": ("1-a", FOREIGN)}], False),
        ([{"swap": (FOREIGN, "1-a")}], False),
        ([{"swap": (FOREIGN, "1-a"), "result": "swapped"}, {"swap": (FOREIGN, "1-a")}], False),
        ([{"swap": (FOREIGN, "1-a"), "result": "swapped"}], True),
        ([{"swap": ("1-a", FOREIGN), "result": "swapped"}], False),
        ([{"swap": ("1-a", FOREIGN), "result": "failed"}, {"swap": ("1-a", FOREIGN)}], True),
        ([{"swap": ("1-a", FOREIGN), "result": "broken"}], False),
        # A rollback ignores what the inventory asks for, and so do the limits.
        ([{"swap": ("1-a", "2-b"), "result": "swapped", "backend_app_image": FOREIGN}], True),
        ([{"backend_app_image": FOREIGN, "backend_app_ran": {"running": f"{OWN}1-a"}}], True),
        ([{"swap": ("", "1-a"), "result": "swapped"}], True),
    ],
)
def test_limits_follow_what_runs(hosts: list[dict[str, Any]], wanted: bool) -> None:
    def image(text: str) -> str:
        return OWN + text if text and "/" not in text else text

    for held in hosts:
        if "swap" in held:
            held["backend_app_swap"] = {"app": dict(zip(("from", "to"), map(image, held["swap"]), strict=True))}
        if "result" in held:
            held["rolling_update_outcome"] = {"result": held["result"], "text": ""}
    assert only_ours(map(str, range(len(hosts))), {str(at): held for at, held in enumerate(hosts)}) is wanted


def test_balancers_are_prepared_for_a_foreign_image() -> None:
    swaps = {"one": FOREIGN, "two": f"{OWN}1-a"}
    hostvars = {name: {"backend_app_swap": {"app": {"to": to, "guide": True}}} for name, to in swaps.items()} | {
        "x": {}
    }
    assert brings_foreign(["one", "two"], hostvars)
    assert not brings_foreign(["two", "x"], hostvars)
    # Of what was described, all is said there.
    described = {"one": {"backend_app_swap": {"app": {"to": FOREIGN, "guide": False}}}}
    assert not brings_foreign(["one"], described)
    assert unprepared(["lb"], {"lb": {"rolling_prepared": ""}}) == ""
    assert unprepared(["lb", "lb-2"], {"lb": {}, "lb-2": {"rolling_prepared": "no disk"}}).endswith(
        "lb: it is not part of this run (--limit); lb-2: no disk."
    )


def test_lock_that_may_be_in_use_is_one_sentence_that_says_what_to_type() -> None:
    text = lock_note({"holder": "me@there (deploy)", "since": "noon"}, ["one"])
    assert text.startswith("me@there (deploy) has held the lock since noon and has drained one: ")
    assert "-e deploy_break_lock=true" in text


def test_backends_without_requests_are_named() -> None:
    servers = [
        {"backend": "app", "name": "one", "admin": "ready", "status": "UP", "last_check": ""},
        {"backend": "app", "name": "two", "admin": "drain", "status": "DRAIN", "last_check": ""},
        {"backend": "app", "name": "three", "admin": "ready", "status": "DOWN 1/2", "last_check": "L4TOUT in 2 ms"},
        {"backend": "app", "name": "elsewhere", "admin": "drain", "status": "DRAIN", "last_check": ""},
    ]
    text = out_note(servers, ["one", "two", "three"])
    assert text == (
        "two gets no requests, as somebody has ordered: ready.yml -e target=two ends that. "
        "three is DOWN 1/2: L4TOUT in 2 ms."
    )
    shop = {"backend": "shop", "name": "two", "admin": "drain", "status": "DRAIN", "last_check": ""}
    assert "two of shop gets no requests" in out_note([*servers, shop], ["one", "two"])
    assert ran_here(["one", "two"], {"one": {"backend_app_host": {}}, "two": {}}) == ["one"]


def test_log_lines_are_printed_as_lines() -> None:
    text = log_text(["\x1b[31mred\x1b[0m\tand wide ", "", "progress\rdone\x00", "  indented", "Grüße"])
    assert text.splitlines() == [
        "The container's last log lines:",
        "    red and wide",
        "    progressdone",
        "      indented",
        "    Grüße",
    ]
    # What Ansible prints with is PyYAML: a line that it can't hold in a block becomes one long line.
    dumped = yaml.dump({"msg": text}, default_style="|", allow_unicode=True)
    assert "\\n" not in dumped
    assert "\n    red and wide\n" in dumped.replace("\n  ", "\n")
    assert log_text([]).endswith("(none)")
    assert len(log_text(map(str, range(99))).splitlines()) == 21
