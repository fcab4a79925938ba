"""The table of status.yml."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError

from status import status_table


def server(name: str, status: str = "UP", admin: str = "ready") -> dict[str, Any]:
    return {"name": name, "status": status, "admin": admin, "sessions": 2, "queue": 0, "last_check": "L7OK 200 in 2 ms"}


def rows(backends: dict[str, Any], balancers: dict[str, Any]) -> list[list[str]]:
    """Return the table's cells, without its header."""
    lines = status_table(backends, balancers, {**backends, **balancers})
    return [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in lines[1:]]


def backend(image: str = "evenkeel.local/backend_app:1-a", state: str = "running") -> dict[str, Any]:
    return {"status_container": {"stdout": f"{image} {state}"}}


def balancer(*servers: dict[str, Any]) -> dict[str, Any]:
    return {"status_servers": {"servers": list(servers)}}


def test_a_row_for_each_backend_at_each_balancer() -> None:
    found = rows({"one": backend(), "two": backend("other/app:7")}, {"lb": balancer(server("one"), server("two"))})
    check = "L7OK 200 in 2 ms"
    assert found == [
        ["one", "1-a", "running", "lb", "UP", "2", check],
        ["two", "other/app:7", "running", "lb", "UP", "2", check],
    ]
    both = rows({"one": backend()}, {"lb-1": balancer(server("one")), "lb-2": balancer(server("one", "DOWN"))})
    assert [(row[3], row[4]) for row in both] == [("lb-1", "UP"), ("lb-2", "DOWN")]


@pytest.mark.parametrize(
    ("status", "admin", "shown"),
    [("DRAIN", "drain", "DRAIN"), ("DOWN", "drain", "DOWN (drain)"), ("MAINT", "maint", "MAINT")],
)
def test_what_was_ordered_shows(status: str, admin: str, shown: str) -> None:
    assert rows({"one": backend()}, {"lb": balancer(server("one", status, admin))})[0][4] == shown


def test_hosts_out_of_reach_are_lines_of_the_table() -> None:
    gone = {"status_container": {"unreachable": True}}
    assert rows({"one": gone}, {"lb": balancer(server("one"))})[0][1:3] == ["?", "unreachable"]
    lost = {"status_servers": {"unreachable": True}}
    assert rows({"one": backend()}, {"lb": lost})[0][4] == "balancer unreachable"


def test_backend_without_container_and_unknown_to_the_balancer() -> None:
    assert rows({"one": {"status_container": {"stdout": ""}}}, {"lb": balancer()})[0] == [
        *["one", "-", "none", "lb", "unknown there", "-"]
    ]


def test_columns_line_up() -> None:
    backends = {"one": backend(), "a-long-name": backend()}
    lines = status_table(backends, ["lb"], {**backends, "lb": balancer(server("one"), server("a-long-name"))})
    assert len({line.index("UP") for line in lines[1:]}) == 1


def test_no_balancer_is_one_sentence() -> None:
    with pytest.raises(AnsibleFilterError, match=r"^The inventory has no balancer to ask\.$"):
        status_table(["one"], [], {})
