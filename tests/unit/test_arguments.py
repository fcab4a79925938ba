"""The words of ARGS, as people write them."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from evenkeel.arguments import words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("  --check   --diff ", ["--check", "--diff"]),
        ("-e chaos_fault=poweroff", ["-e", "chaos_fault=poweroff"]),
        ('-e {"a": {"b": "c d"}} -v', ["-e", '{"a": {"b": "c d"}}', "-v"]),
        ('-e {"a":"}"}', ["-e", '{"a":"}"}']),
        ("""-e '{"a": "b c"}'""", ["-e", '{"a": "b c"}']),
        ('-e "{\\"a\\": \\"b\\"}"', ["-e", '{"a": "b"}']),
        ("""--extra-vars='{"a": [1, 2]}'""", ['--extra-vars={"a": [1, 2]}']),
        ("--limit 'all:!one' -e name=\"two words\"", ["--limit", "all:!one", "-e", "name=two words"]),
        ("-e [1,2] two\\ words ''", ["-e", "[1,2]", "two words", ""]),
        ("-e a={{b}} $HOME *", ["-e", "a={{b}}", "$HOME", "*"]),
    ],
)
def test_words_are_a_shells_and_json_stays_whole(text: str, expected: list[str]) -> None:
    assert words(text) == expected


@pytest.mark.parametrize(("text", "why"), [("-e 'a", "quote"), ('-e "a', "quote"), ('-e {"a": 1', "bracket")])
def test_what_is_not_closed_is_named(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=f"a {why} is not closed"):
        words(text)


@pytest.mark.parametrize(("arguments", "status"), [('-e {"a": "b"}', 0), ("-e 'a", 1)])
def test_command_gets_the_words(arguments: str, status: int) -> None:
    command = [
        sys.executable,
        "-m",
        "evenkeel.arguments",
        sys.executable,
        "-c",
        "import sys; print(sys.argv[1:])",
        "first",
    ]
    environment = os.environ | {"ARGS": arguments, "PYTHONPATH": "src"}
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert run.returncode == status
    said = "['first', '-e', '{\"a\": \"b\"}']\n" if status == 0 else "make: ARGS: a quote is not closed: 'a\n"
    assert run.stdout + run.stderr == said
