"""The filters that say which addresses are a site's, and what is wrong with the firewall's settings."""

from __future__ import annotations

from typing import Any

import pytest

from firewall import firewall_addresses, firewall_app_ports, firewall_mixed, firewall_problems


def test_hosts_come_from_their_service_address_and_what_else_is_theirs() -> None:
    hostvars: dict[str, dict[str, Any]] = {
        "one": {"ansible_host": "203.0.113.1", "service_address": "10.0.0.1"},
        "two": {"ansible_host": "203.0.113.2", "pushgateway_address": "10.1.0.2", "grafana_address": "127.0.0.1"},
        "three": {
            "ansible_host": "203.0.113.3",
            "haproxy_stats_address": "0.0.0.0",
            "prometheus_address": "lb.example",
        },
        "four": {"service_address": "2001:db8::4", "firewall_addresses": ["10.9.0.4", "10.0.0.1"]},
    }
    found = firewall_addresses(hostvars, hostvars)
    # Not the way that SSH takes where another is named: behind a bastion's address there are others.
    assert found == ["10.0.0.1", "203.0.113.2", "10.1.0.2", "203.0.113.3", "2001:db8::4", "10.9.0.4"]
    assert firewall_addresses([], {}) == []
    # No rule can hold a name.
    assert firewall_addresses(["one"], {"one": {}}, {"one": "192.0.2.1"}) == ["192.0.2.1"]


def test_host_that_asks_by_the_other_version_of_ip_must_be_known_by_it() -> None:
    hostvars: dict[str, dict[str, Any]] = {
        "lb": {"service_address": "192.0.2.9"},
        "one": {"service_address": "2001:db8::1"},
        "two": {"service_address": "two.example"},
    }
    endpoints = [{"name": name, "address": host["service_address"], "port": 80} for name, host in hostvars.items()]
    (found,) = firewall_mixed(["lb"], endpoints, hostvars)
    assert found.startswith("lb reaches one by IPv6, and of lb only IPv4 is known")
    assert found.endswith(": add the IPv6 address that it comes from to firewall_addresses of lb.")
    hostvars["lb"]["firewall_addresses"] = ["2001:db8::/64"]
    assert firewall_mixed(["lb"], endpoints, hostvars) == []
    # Of a name's version nothing is known yet, and then it is.
    hostvars["lb"] = {"service_address": "lb.example"}
    assert firewall_mixed(["lb"], endpoints, hostvars) == []
    (found,) = firewall_mixed(["lb"], endpoints, hostvars, {"lb.example": "192.0.2.9"})
    assert found.startswith("lb reaches one by IPv6")
    # What a host has with itself needs no rule.
    assert firewall_mixed(["lb"], [{"name": "lb", "address": "2001:db8::9", "port": 1}], hostvars) == []


def test_ports_of_services_are_those_of_what_stands_in_too() -> None:
    services: list[dict[str, Any]] = [{"host_port": 80, "surge_port": None}, {"host_port": "5000", "surge_port": 5010}]
    assert firewall_app_ports(services) == [80, 5000, 5010]


@pytest.mark.parametrize(
    ("setting", "value", "wanted"),
    [
        ("admin_networks", ["10.0.0.1/8"], "`10.0.0.1/8`, which has bits set behind its network"),
        ("admin_networks", ["office.example"], "`office.example`, which is no address and no network"),
        ("admin_networks", ["0.0.0.0/0"], "`0.0.0.0/0`, which is everybody"),
        ("haproxy_trusted_proxies", ["0.0.0.0/0"], "`0.0.0.0/0`, which is everybody"),
        ("firewall_admin_networks", ["::/0"], "`::/0`, which is everybody"),
        ("firewall_addresses", [""], "``, which is no address and no network"),
        ("firewall_open_ports", [0], "`0`: write numbers from 1 to 65535"),
        ("firewall_open_ports", ["80-90"], "`80-90`: write numbers from 1 to 65535"),
        ("firewall_trusted_interfaces", ['docker0" accept'], "which names no interface"),
        ("firewall_trusted_interfaces", ["*-br"], "which names no interface"),
    ],
)
def test_what_the_rules_could_not_hold_is_told_with_its_hosts(setting: str, value: object, wanted: str) -> None:
    (problem,) = firewall_problems(
        {"one": {setting: value}, "two": {setting: value}, "three": {}}, ["one", "two", "three"]
    )
    assert problem.startswith(f"{setting} of one, two has ")
    assert wanted in problem


def test_sound_settings_are_no_problem() -> None:
    sound = {"admin_networks": ["192.0.2.0/24", "2001:db8::/32", "192.0.2.7"], "firewall_open_ports": [1, "65535"]}
    sound |= {"firewall_trusted_interfaces": ["docker0", "br-*"], "firewall_addresses": None}
    assert firewall_problems({"one": sound}, ["one"]) == []
