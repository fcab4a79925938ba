"""The table of status.yml."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError

from status import status_table


def server(name: str, status: str = "UP", admin: str = "ready") -> dict[str, Any]:
    check = "L7OK 200 in 2 ms"
    held = {"status": status, "admin": admin, "sessions": 2, "queue": 0, "last_check": check}
    return {"backend": "app", "name": name, **held}


def services(*backends: str, name: str = "app") -> list[dict[str, Any]]:
    return [{"name": name, "servers": [{"name": backend} for backend in backends]}]


def rows(backends: dict[str, Any], balancers: dict[str, Any]) -> list[list[str]]:
    """Return the table's cells, without its header."""
    lines = status_table(services(*backends), balancers, {**backends, **balancers})
    return [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in lines[1:]]


def backend(image: str = "evenkeel.local/backend_app:1-a", state: str = "running") -> dict[str, Any]:
    return {"status_container": {"stdout": f"backend_app {image} {state}\nbackend_shop shop:3 exited"}}


def balancer(*servers: dict[str, Any]) -> dict[str, Any]:
    return {"status_servers": {"servers": list(servers)}}


def test_a_row_for_each_backend_at_each_balancer() -> None:
    found = rows({"one": backend(), "two": backend("other/app:7")}, {"lb": balancer(server("one"), server("two"))})
    check = "L7OK 200 in 2 ms"
    assert found == [
        ["app", "one", "1-a", "running", "lb", "UP", "2", check],
        ["app", "two", "other/app:7", "running", "lb", "UP", "2", check],
    ]
    both = rows({"one": backend()}, {"lb-1": balancer(server("one")), "lb-2": balancer(server("one", "DOWN"))})
    assert [(row[4], row[5]) for row in both] == [("lb-1", "UP"), ("lb-2", "DOWN")]


@pytest.mark.parametrize(
    ("status", "admin", "shown"),
    [("DRAIN", "drain", "DRAIN"), ("DOWN", "drain", "DOWN (drain)"), ("MAINT", "maint", "MAINT")],
)
def test_what_was_ordered_shows(status: str, admin: str, shown: str) -> None:
    assert rows({"one": backend()}, {"lb": balancer(server("one", status, admin))})[0][5] == shown


def test_hosts_out_of_reach_are_lines_of_the_table() -> None:
    gone = {"status_container": {"unreachable": True}}
    assert rows({"one": gone}, {"lb": balancer(server("one"))})[0][2:4] == ["?", "unreachable"]
    lost = {"status_servers": {"unreachable": True}}
    assert rows({"one": backend()}, {"lb": lost})[0][5] == "balancer unreachable"


def test_backend_without_container_and_unknown_to_the_balancer() -> None:
    assert rows({"one": {"status_container": {"stdout": ""}}}, {"lb": balancer()})[0] == [
        *["app", "one", "-", "none", "lb", "unknown there", "-"]
    ]


def test_columns_line_up() -> None:
    backends = {"one": backend(), "a-long-name": backend()}
    lines = status_table(
        services(*backends), ["lb"], {**backends, "lb": balancer(server("one"), server("a-long-name"))}
    )
    assert len({line.index("UP") for line in lines[1:]}) == 1


def test_no_balancer_is_one_sentence() -> None:
    with pytest.raises(AnsibleFilterError, match=r"^The inventory has no balancer to ask\.$"):
        status_table(services("one"), [], {})


def test_every_service_has_its_own_rows() -> None:
    listed = services("one") + services("one", name="shop")
    shop = server("one", "DOWN") | {"backend": "shop"}
    lines = status_table(listed, ["lb"], {"one": backend(), "lb": balancer(server("one"), shop)})
    assert [line.split()[:6] for line in lines[1:]] == [
        ["app", "one", "1-a", "running", "lb", "UP"],
        ["shop", "one", "shop:3", "exited", "lb", "DOWN"],
    ]
