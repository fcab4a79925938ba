"""The filters that derive the site from the inventory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError

from topology import (
    host_port,
    site_problems,
    topology_endpoints,
    topology_fixed,
    topology_names,
    topology_problems,
    topology_secret,
    topology_targets,
    topology_urls,
)

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


def test_ipv6_is_in_brackets_where_a_port_follows() -> None:
    assert topology_targets([endpoint("one", "2001:db8::1")]) == [{"address": "[2001:db8::1]:80", "instance": "one"}]
    assert topology_urls([endpoint("one", "2001:db8::1")]) == ["http://[2001:db8::1]:80/"]
    assert [host_port(each, 80) for each in ("[::1]", "::1", "lb.example", "*")] == [
        "[::1]:80",
        "[::1]:80",
        "lb.example:80",
        "*:80",
    ]


def test_names_are_told_from_addresses_and_take_theirs() -> None:
    hostvars: dict[str, dict[str, Any]] = {
        "one": {"service_address": "one.example", "haproxy_stats_address": "10.0.0.1"},
        "two": {"service_address": "2001:db8::2"},
        "three": {},
        "four": {"ansible_host": "192.0.2"},
    }
    assert topology_names(hostvars, hostvars) == {"one": "one.example", "three": "three"}
    found = topology_endpoints(["one", "two", "three"], hostvars, "", 80, {"one.example": "2001:DB8:0::1"})
    assert [host["address"] for host in found] == ["2001:db8::1", "2001:db8::2", "three"]
    assert topology_fixed("2001:DB8::0") == "2001:db8::"


def test_sound_inventory_has_no_problems() -> None:
    assert topology_problems([endpoint("one"), endpoint("two", "192.0.2.2")], [endpoint("lb", "192.0.2.3")]) == []


@pytest.mark.parametrize(
    ("backends", "balancers", "wanted"),
    [
        ([], [endpoint("lb")], "has no backend: add at least one host to the group `backends`"),
        ([endpoint("one")], [], "has no balancer: add at least one host to the group `balancers`"),
        ([endpoint("one"), endpoint("two")], [endpoint("lb", "192.0.2.3")], "one and two share the address 192.0.2.1"),
        ([endpoint("one", "one..example")], [endpoint("lb")], "`one..example`, which is neither an address nor a name"),
        ([endpoint("one", "192.0.2.300")], [endpoint("lb")], "`192.0.2.300`, which is neither an address nor a name"),
        ([endpoint("one", "[2001:db8::1]")], [endpoint("lb")], "which is neither an address nor a name"),
        ([endpoint("one", "2001:db8::1%eth0")], [endpoint("lb")], "which has a zone, which counts on one host only"),
        ([endpoint("one", "fe80::1%eth0")], [endpoint("lb")], "`fe80::1%eth0`, which counts on one network only"),
        ([endpoint("one", "::")], [endpoint("lb")], "`::`, which is no single host's"),
        ([endpoint("one", "::ffff:192.0.2.1")], [endpoint("lb")], "is the IPv4 address 192.0.2.1 in the form of IPv6"),
        (
            [endpoint("one", "2001:db8::1"), endpoint("two", "2001:db8:0::0001")],
            [endpoint("lb")],
            "one and two share the address 2001:db8::1",
        ),
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


@pytest.mark.parametrize(
    ("port", "settings", "address"),
    [
        ("backend_app_port", {"backend_app_address": "203.0.113.9"}, "203.0.113.9"),
        ("backend_app_port", {"backend_app_address": "0.0.0.0"}, "192.0.2.1"),
        ("haproxy_stats_port", {"haproxy_address": "203.0.113.9"}, "203.0.113.9"),
        (
            "haproxy_stats_port",
            {"haproxy_address": "203.0.113.9", "haproxy_stats_address": "203.0.113.8"},
            "203.0.113.8",
        ),
        # One that moves from balancer to balancer, it may be.
        ("haproxy_bind_port", {"haproxy_bind_address": "203.0.113.9"}, "192.0.2.1"),
    ],
)
def test_others_look_for_a_service_where_it_listens(port: str, settings: dict[str, str], address: str) -> None:
    hostvars = {"one": {"ansible_host": "192.0.2.1", **settings}}
    assert topology_endpoints(["one"], hostvars, port, 80) == [endpoint("one", address)]


def test_hosts_of_monitoring_are_checked_like_the_others() -> None:
    hostvars: dict[str, dict[str, Any]] = {
        "one": {"ansible_host": "192.0.2.1"},
        "lb": {"ansible_host": "192.0.2.2"},
        "eye": {"ansible_host": "192.0.2.3"},
    }
    assert site_problems(hostvars, ["one"], ["lb"], ["eye"]) == []
    (shared,) = site_problems({**hostvars, "eye": {"ansible_host": "192.0.2.2"}}, ["one"], ["lb"], ["eye"])
    assert "lb and eye share the address 192.0.2.2" in shared
    (name,) = site_problems({**hostvars, "eye": {"ansible_host": "192.0.2"}}, ["one"], ["lb"], ["eye"])
    assert "of eye is `192.0.2`, which is neither an address nor a name" in name
    (taken,) = site_problems({**hostvars, "eye": {**hostvars["eye"], "grafana_port": 9090}}, ["one"], ["lb"], ["eye"])
    assert taken == "prometheus_port and grafana_port of eye are both 9090: set one of them to another port."
    (taken,) = site_problems({**hostvars, "lb": {**hostvars["lb"], "haproxy_bind_port": 3000}}, ["one"], ["lb"], ["lb"])
    assert taken.startswith("haproxy_bind_port and grafana_port of lb are both 3000")


def test_host_whose_variables_can_not_be_read_is_somebody_elses_to_name() -> None:
    hostvars = {
        "one": {"backend_app_port": "http", "ansible_host": "http://192.0.2.1"},
        "lb": {"ansible_host": "192.0.2.2"},
    }
    assert site_problems(hostvars, ["one"], ["lb"], ["lb"]) == [
        "The service address of one is `http://192.0.2.1`, which is neither an address nor a name: set "
        "`service_address` to the address or the name by which other hosts reach it."
    ]


def test_port_for_tls_is_taken_where_there_is_a_certificate() -> None:
    hostvars: dict[str, dict[str, Any]] = {
        "one": {"ansible_host": "192.0.2.1", "topology_services_told": [{"tls": {}}]},
        "lb": {"ansible_host": "192.0.2.2", "haproxy_stats_port": 443},
    }
    assert site_problems(hostvars, ["one"], ["lb"]) == []
    wanted = ["haproxy_stats_port and haproxy_tls_bind_port of lb are both 443: set one of them to another port."]
    hostvars["lb"]["topology_site_certificate"] = {"file": "", "pem": ""}
    assert site_problems(hostvars, ["one"], ["lb"]) == []
    hostvars["one"]["topology_services_told"] = [{"tls": {}, "guide": True}, {"tls": {"file": "x"}, "guide": True}]
    assert site_problems(hostvars, ["one"], ["lb"]) == wanted
    hostvars["one"]["topology_services_told"] = [{"tls": {}, "guide": True}]
    hostvars["lb"]["topology_site_certificate"] = {"file": "x", "pem": ""}
    assert site_problems(hostvars, ["one"], ["lb"]) == wanted


def test_backends_at_one_address_of_their_own_are_refused() -> None:
    hostvars = {name: {"ansible_host": f"192.0.2.{number}"} for number, name in enumerate(["lb", "one", "two"], 1)}
    for name in ("one", "two"):
        hostvars[name]["backend_app_address"] = "127.0.0.1"
    (found,) = site_problems(hostvars, ["one", "two"], ["lb"], ["lb"])
    assert found.startswith("backend_app_address is 127.0.0.1 on 2 backends")


def test_secret_that_is_not_there_is_empty_and_one_that_can_not_be_read_is_named(tmp_path: Path) -> None:
    assert topology_secret(str(tmp_path / "none")) == ""
    (tmp_path / "secret").write_text("word\n")
    assert topology_secret(str(tmp_path / "secret")) == "word"
    (tmp_path / "folder").mkdir()
    with pytest.raises(AnsibleFilterError, match=r"folder is there and can't be read"):
        topology_secret(str(tmp_path / "folder"))
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    with pytest.raises(AnsibleFilterError, match=r"it is no text"):
        topology_secret(str(tmp_path / "bytes"))
