"""What Grafana's settings can't mean is said before anything is changed."""

from __future__ import annotations

from typing import Any

import pytest

from grafana import grafana_problems

FILE = "/secrets/grafana"


def problems(password: object = "", stored: str | bool | None = False, **options: Any) -> list[str]:
    """Return what is found."""
    return grafana_problems(options, password, stored, FILE)


@pytest.mark.parametrize("password", ["", "0123456", "pass word; #%ß", "12345"])
def test_good_passwords(password: str) -> None:
    assert problems(password) == []
    assert problems(stored=f"{password}12345\n") == []


@pytest.mark.parametrize(
    ("password", "words"),
    [
        # What YAML makes of 0123456, of 1.10, of yes and of nothing at all.
        (42798, "YAML took it for a number: put it into quotes."),
        (1.1, "YAML took it for a number"),
        (True, "YAML took it for true or false"),
        (None, "YAML took it for nothing"),
        (["a"], "YAML took it for a list"),
        ("first\nsecond", "has several lines"),
        ("tab\there", "control character"),
        ("1234", "is too short"),
    ],
)
def test_bad_password_is_told_and_not_shown(password: object, words: str) -> None:
    (sentence,) = problems(password)
    assert sentence.startswith("grafana_admin_password ")
    assert words in sentence
    assert "42798" not in sentence
    assert "second" not in sentence


@pytest.mark.parametrize("stored", ["", "\n", "1234", "first line\nsecond line\n"])
def test_bad_password_file_is_told(stored: str) -> None:
    (sentence,) = problems(stored=stored)
    assert sentence.startswith(f"The password in {FILE} ")
    assert "Or remove the file" in sentence


def test_password_file_that_cannot_be_read_is_no_missing_one() -> None:
    (sentence,) = problems(stored=None)
    assert sentence.startswith(f"{FILE} is there and can't be read")


def test_password_file_does_not_matter_beside_a_password() -> None:
    assert problems("from a vault", stored="") == []


def test_good_options() -> None:
    assert not problems(server={"http_port": 3000}, smtp={"enabled": True, "password": "0123456", "host": ""})


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"smtp": {"password": 42798}}, "smtp: password is not a text: YAML took it for a number: put it into quotes."),
        ({"smtp": {"password": None}}, "smtp: password is nothing: give one value, '' for an empty one."),
        ({"smtp": {"host": ["a", "b"]}}, "smtp: host is a list: give one value"),
        ({"smtp": "on"}, "smtp is a text: give keys and values."),
        ({"smtp": {"host": "a\n[security]\nadmin_user = x"}}, "smtp: host has several lines"),
        ({"smtp": {"host": 'a""" #'}}, "smtp: host has several lines"),
    ],
)
def test_bad_options_are_named(options: dict[str, Any], sentence: str) -> None:
    (found,) = problems(**options)
    assert found.startswith(f"grafana_extra_options: {sentence}")
    assert "42798" not in found
