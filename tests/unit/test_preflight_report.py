"""The table and the JSON that say all that is wrong at once."""

from __future__ import annotations

import json

import pytest

from preflight_report import as_json, clock_problems, path_rows, row, table

HOSTS = ["lb", "one", "two"]


@pytest.mark.parametrize(
    ("sentence", "hosts", "what", "mend"),
    [
        (
            'haproxy_timeout_server of lb is 60, which has no unit: write "60s", if that is meant.',
            ["lb"],
            "haproxy_timeout_server of lb is 60, which has no unit:",
            'write "60s", if that is meant.',
        ),
        (
            "one and two share the address 192.0.2.1: give each host one of its own.",
            ["one", "two"],
            "one and two share the address 192.0.2.1:",
            "give each host one of its own.",
        ),
        ("x is set for every host, and there is no such setting. Remove it.", HOSTS, None, "Remove it."),
        # A name that holds a host's name is another one.
        ("site_services.one-more has both image and build: name one.", [], None, "name one."),
        ("Something is wrong", [], "Something is wrong", ""),
    ],
)
def test_sentence_has_its_hosts_and_its_mend(sentence: str, hosts: list[str], what: str | None, mend: str) -> None:
    found = row(sentence, HOSTS)
    assert found["hosts"] == hosts
    assert found["mend"] == mend
    assert what is None or found["what"] == what
    assert " ".join([found["what"], found["mend"]]).strip() == sentence


def test_clock_that_is_apart_from_the_others_is_named() -> None:
    clocks = {"lb": [-0.2, 0.3], "one": [3.9, 4.4], "two": [-0.1, 0.2]}
    found = clock_problems(clocks, 1)
    assert list(found) == ["one"]
    assert "The clock of one is 3." in found["one"]
    assert "ahead of the other hosts'" in found["one"]
    assert "behind" in clock_problems({"lb": [0.0, 0.1], "one": [-9.0, -8.0], "two": [0.0, 0.1]}, 1)["one"]
    # This machine decides between two; and it alone may be wrong.
    assert list(clock_problems({"lb": [0.0, 0.1], "one": [5.0, 5.1]}, 1)) == ["one"]
    assert clock_problems({"lb": [60.0, 60.1], "one": [60.0, 60.1], "two": [60.0, 60.1]}, 1) == {}
    # What a slow answer hides is not certain.
    assert clock_problems({"lb": [0.0, 0.1], "one": [-2.0, 4.0]}, 1) == {}
    assert clock_problems({"lb": [0.0, 0.1], "one": [5.0, 5.1]}, 0) == {}


def test_way_to_a_host_that_is_up_must_be_open() -> None:
    gone = [{"name": "one", "address": "192.0.2.1", "port": 80, "why": "no answer within 2 s"}]
    (found,) = path_rows({"lb": {"unreached": gone, "clock": [0, 0]}, "one": {"clock": [0, 0]}}, HOSTS)
    assert found["hosts"] == ["lb"]
    assert found["what"] == "lb does not get through to one at 192.0.2.1:80 (no answer within 2 s):"
    # It is down, or not asked.
    assert path_rows({"lb": {"unreached": gone, "clock": [0, 0]}, "one": {"unreachable": True}}, HOSTS) == []
    assert path_rows({"lb": {"unreached": gone, "clock": [0, 0]}}, HOSTS) == []


def test_table_holds_each_sentence_whole_and_no_line_is_too_long() -> None:
    sentences = [
        f"setting_{number} of lb is wrong in some way that takes words to say: write it right." for number in (1, 2)
    ]
    text = table([row(sentence, HOSTS) for sentence in sentences], [row("All is well there: see it.", HOSTS)], 60, True)
    assert text.startswith(
        "2 problems, and nothing was changed.\n\nHOST  WHAT IS WRONG, AND BELOW IT HOW TO MEND IT\nlb "
    )
    assert all(sentence in " ".join(text.split()) for sentence in sentences)
    assert "WORTH KNOWING" in text
    assert max(map(len, text.splitlines())) <= 60
    assert "No host was asked" in table([row("x: set it.", HOSTS)], [], 60, False)


def test_json_has_whole_sentences() -> None:
    said = json.loads(as_json([row("x of lb has no unit: write it.", HOSTS)], [], True))
    assert said == {
        "format": 1,
        "ok": False,
        "hosts_looked_at": True,
        "problems": [{"hosts": ["lb"], "what": "x of lb has no unit.", "mend": "Write it."}],
        "notes": [],
    }
    assert json.loads(as_json([], [], False))["ok"]
