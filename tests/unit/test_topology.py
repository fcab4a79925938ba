"""The filters that derive the site from the inventory."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError

from topology import topology_endpoints, topology_problems, topology_targets, topology_urls

HOSTVARS: dict[str, dict[str, Any]] = {
    "one": {"ansible_host": "192.0.2.1"},
    "two": {"ansible_host": "192.0.2.2", "service_address": "198.51.100.2", "app_port": "8080"},
    "three": {},
}


def endpoint(name: str, address: str = "192.0.2.1", port: int = 80) -> dict[str, Any]:
    return {"name": name, "address": address, "port": port}


def test_endpoints_come_in_inventory_order_with_address_and_port() -> None:
    assert topology_endpoints(["two", "one", "three"], HOSTVARS, "app_port", 80) == [
        endpoint("two", "198.51.100.2", 8080),
        endpoint("one", "192.0.2.1", 80),
        endpoint("three", "three", 80),
    ]


@pytest.mark.parametrize("port", ["http", 0, 65536, -1, ""])
def test_bad_port_names_host_and_variable(port: object) -> None:
    with pytest.raises(AnsibleFilterError, match=r"app_port of one is .*number from 1 to 65535"):
        topology_endpoints(["one"], {"one": {"app_port": port}}, "app_port", 80)


def test_targets_carry_address_and_inventory_name() -> None:
    assert topology_targets([endpoint("one", port=9091)]) == [{"address": "192.0.2.1:9091", "instance": "one"}]
    assert topology_urls([endpoint("one", port=3000)]) == ["http://192.0.2.1:3000/"]


def test_sound_inventory_has_no_problems() -> None:
    assert topology_problems([endpoint("one"), endpoint("two", "192.0.2.2")], [endpoint("lb", "192.0.2.3")]) == []


@pytest.mark.parametrize(
    ("backends", "balancers", "wanted"),
    [
        ([], [endpoint("lb")], "has no backend: add at least one host to the group `backends`"),
        ([endpoint("one")], [], "has no balancer: add at least one host to the group `balancers`"),
        ([endpoint("one"), endpoint("two")], [endpoint("lb", "192.0.2.3")], "one and two share the address 192.0.2.1"),
        ([endpoint("one", "one.example")], [endpoint("lb")], "of one is `one.example`, which is no IPv4 address"),
        ([endpoint("a b")], [endpoint("lb", "192.0.2.3")], "`a b` has characters HAProxy refuses"),
        (
            [endpoint("Web"), endpoint("web", "192.0.2.2")],
            [endpoint("lb", "192.0.2.3")],
            "`Web` differs from another only",
        ),
        ([endpoint("one")], [endpoint("one")], "one is both backend and balancer, and both use port 80"),
    ],
)
def test_each_problem_is_one_sentence_with_its_mend(
    backends: list[dict[str, Any]], balancers: list[dict[str, Any]], wanted: str
) -> None:
    problems = topology_problems(backends, balancers)
    assert any(wanted in problem for problem in problems), problems
    assert all(problem.endswith(".") for problem in problems)


def test_backend_and_balancer_on_one_host_with_ports_of_their_own() -> None:
    assert topology_problems([endpoint("one", port=8000)], [endpoint("one")]) == []
