"""What the role acme is told of services, settings and the other balancers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from acme import acme_problems, acme_shared
from certificates import certificates_list, certificates_problems, services_secured
from firewall import firewall_sources
from services import services_automatic, services_certificates, services_described

SOUND = {"acme_email": "admin@example.com", "acme_accept_tos": True}
PATHS = {"folder": "/acme", "user": "handover", "program": "/program.py"}
PEER = {"name": "lb2", "address": "192.0.2.2", "from": ["192.0.2.2", "2001:db8::2", "lb2.example.com"]}
SAID = (
    "ssh-ed25519 AAAAown evenkeel-certificate\nssh-rsa AAAAhost root@lb2\nssh-ed25519 AAAAhost2 root@lb2\nport 2222\n"
)


def services(tls: Any, hosts: tuple[str, ...] = ("shop.example.com",)) -> list[dict[str, Any]]:
    shop = {"image": "registry.example.com/shop:1", "port": 3000, "hosts": list(hosts), "tls": tls}
    return services_described({"shop": shop, "plain": {"image": "registry.example.com/plain:1", "port": 3001}}, {})


def problems(tls: Any, **settings: Any) -> list[str]:
    return acme_problems(services(tls), ["lb1", "lb2"], {"lb1": {**SOUND, **settings}, "lb2": {**SOUND, **settings}})


def test_what_is_sound_is_not_refused() -> None:
    assert problems({"automatic": True}) == []


@pytest.mark.parametrize("tls", [{}, {"file": "a.pem"}, {"automatic": False, "file": "a.pem"}])
def test_settings_of_an_issuer_are_asked_for_only_where_one_is_wanted(tls: Any) -> None:
    assert problems(tls, acme_email="", acme_accept_tos=False, acme_directory="nonsense") == []


@pytest.mark.parametrize("given", [True, "true", "yes"])
def test_terms_are_agreed_to_from_the_command_line_too(given: object) -> None:
    assert problems({"automatic": True}, acme_accept_tos=given) == []


@pytest.mark.parametrize("given", [False, "false", "no", "", None])
def test_terms_are_agreed_to_by_nothing_else(given: object) -> None:
    assert "acme_accept_tos is not true" in problems({"automatic": True}, acme_accept_tos=given)[0]


def test_hook_and_who_vouches_are_found_beside_the_inventory(tmp_path: Path) -> None:
    (tmp_path / "hook").write_text("#!/bin/sh\n")
    (tmp_path / "ca.pem").write_text("-----BEGIN CERTIFICATE-----\n")
    files = {"acme_dns_hook": "hook", "acme_ca_file": "ca.pem", "acme_dns_env": {"TOKEN": "x"}}
    assert problems({"automatic": True}, inventory_dir=str(tmp_path), **files) == []
    (said,) = problems({"automatic": True}, inventory_dir=str(tmp_path), acme_dns_hook="ca.pem")
    assert "no program" in said


def test_automatic_certificate_is_one_that_nobody_brings() -> None:
    described = services({"automatic": True}, ("Shop.example.com", "www.shop.example.com"))
    assert services_automatic(described) == [{"name": "shop", "hosts": ["shop.example.com", "www.shop.example.com"]}]
    assert services_certificates({"shop": {"tls": {"automatic": True}}}) == {}
    assert services_secured(described, {}) == ["shop"]
    assert certificates_list(described, ["shop"], "/f") == ["/f/shop.pem Shop.example.com www.shop.example.com".lower()]
    # The site's own certificate need not be for its hosts.
    assert certificates_problems(described, {}, [{}]) == []


def test_others_are_known_by_their_keys_and_may_do_one_thing() -> None:
    shared = acme_shared([{"item": PEER, "stdout": SAID}], [PEER], PATHS)
    assert shared["complete"]
    (line,) = shared["authorized_keys"].splitlines()[1:]
    assert line == (
        'restrict,from="192.0.2.2,2001:db8::2",command="/usr/bin/sudo -n /usr/bin/python3 -I /program.py receive" '
        "ssh-ed25519 AAAAown lb2"
    )
    assert shared["known_hosts"].splitlines()[1:] == ["lb2 ssh-rsa AAAAhost", "lb2 ssh-ed25519 AAAAhost2"]
    for words in "Host lb2", "HostName 192.0.2.2", "Port 2222", "StrictHostKeyChecking yes", "HostKeyAlias lb2":
        assert words in shared["ssh_config"]


@pytest.mark.parametrize(
    "results",
    [
        [],
        [{"item": PEER, "unreachable": True}],
        [{"item": PEER, "stdout": "", "rc": 1}],
        # No key of its own yet: the host's own is not taken for one.
        [{"item": PEER, "stdout": SAID.split("\n", 1)[1]}],
    ],
)
def test_who_does_not_answer_may_do_nothing(results: list[dict[str, Any]]) -> None:
    shared = acme_shared(results, [PEER], PATHS)
    assert not shared["complete"]
    assert len(shared["authorized_keys"].splitlines()) == 1


def test_balancers_come_from_all_their_addresses() -> None:
    hostvars = {"lb1": {"service_address": "192.0.2.1", "firewall_addresses": ["192.0.2.9"]}}
    assert firewall_sources([{"name": "lb1", "address": "192.0.2.1", "port": 80}], hostvars) == [
        {"name": "lb1", "address": "192.0.2.1", "from": ["192.0.2.1", "192.0.2.9"]}
    ]
