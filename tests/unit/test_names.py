"""Hosts whose service address is a name: what the others say of it, and what is wrong with that."""

from __future__ import annotations

import socket
import threading
from typing import Any

import pytest

import host_names
from names import names_addresses, names_answers, names_problems, names_shared

NAMES = {"one": "one.example"}


def says(*addresses: str, why: str = "") -> dict[str, Any]:
    return {"addresses": [*addresses], "why": why}


def answers(**asked: dict[str, Any]) -> dict[str, Any]:
    """Return what the filters make of what each host has said of the one name."""
    hostvars: dict[str, Any] = {
        host: {"preflight_names": {"names": {"one.example": answer}}} for host, answer in asked.items()
    }
    # A host out of reach has said nothing, and one that was not asked has no word at all.
    hostvars |= {"away": {"preflight_names": {"unreachable": True}}, "other": {}}
    return names_answers([*hostvars], hostvars, NAMES)


def test_address_is_what_others_say() -> None:
    # Debian's own word for a host's own name.
    found = answers(one=says("127.0.1.1"), lb=says("192.0.2.1"), two=says("192.0.2.1"))
    assert names_addresses(found) == {"one.example": "192.0.2.1"}
    assert names_problems(found, NAMES) == []


def test_ipv4_is_taken_where_there_are_both() -> None:
    found = answers(lb=says("192.0.2.1", "2001:db8::1"), two=says("192.0.2.1", "2001:db8::1"))
    assert names_addresses(found) == {"one.example": "192.0.2.1"}
    assert names_problems(found, NAMES) == []
    assert names_addresses(answers(lb=says("2001:db8::1"))) == {"one.example": "2001:db8::1"}


@pytest.mark.parametrize(
    ("asked", "wanted"),
    [
        (
            {"lb": says("192.0.2.1"), "two": says(why="Name or service not known")},
            "which has no address (Name or service not known) on two: let DNS, or /etc/hosts there, say",
        ),
        # They may answer a moment later.
        ({}, "which no host of this run could be asked for: see above why none answers"),
        ({"one": says("127.0.1.1")}, "which is 127.0.1.1, where no other host is reached, on one: let DNS"),
        ({"lb": says("fe80::1")}, "which is fe80::1, where no other host is reached, on lb: let DNS"),
        ({"lb": says("192.0.2.1", "192.0.2.9")}, "which has 2 addresses (192.0.2.1, 192.0.2.9) on lb: let DNS"),
        (
            {"lb": says("192.0.2.1"), "two": says("192.0.2.9")},
            "which is 192.0.2.1 on lb and 192.0.2.9 on two: let it be the same on every host",
        ),
    ],
)
def test_each_problem_names_host_and_name_and_mend(asked: dict[str, Any], wanted: str) -> None:
    (found,) = names_problems(answers(**asked), NAMES)
    assert found.startswith("The service address of one is the name `one.example`, which ")
    assert wanted in found
    assert found.endswith(".")


def test_hosts_that_turn_out_to_be_one_are_told() -> None:
    known = {"one": "one.example", "two": "192.0.2.1", "lb": "192.0.2.9"}
    (found,) = names_shared(NAMES, {"one.example": "192.0.2.1"}, known)
    assert found.startswith("one and two share the address 192.0.2.1, as their names say: ")
    assert names_shared(NAMES, {"one.example": "192.0.2.2"}, known) == []
    assert names_shared(NAMES, {}, known) == []


def test_host_asks_as_its_programs_do() -> None:
    found = host_names.ask(["localhost", "no.invalid"], 20)
    assert "127.0.0.1" in found["localhost"]["addresses"]
    assert found["no.invalid"]["addresses"] == []
    assert found["no.invalid"]["why"]


def test_addresses_come_without_zone_and_ipv4_first(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("fe80::1%eth0", 0, 0, 2)),
        (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("2001:db8::1", 0, 0, 0)),
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 0)),
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: rows)
    assert host_names.addresses("x.example") == ["192.0.2.1", "2001:db8::1", "fe80::1"]


def test_look_up_that_hangs_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: ended.wait(60) and [])
    try:
        assert host_names.ask(["x.example"], 0.1) == {"x.example": {"addresses": [], "why": "no answer within 0.1 s"}}
    finally:
        ended.set()
