"""Certificates from an issuer at two balancers. The issuer's names lead to the one that does not ask."""

from __future__ import annotations

import json
import re
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest
from by_tls import FOLDER, NAMES, converge, processes, serve, serves, shown, under_load, websocket
from cryptography import x509
from scenario import Scenario, recap, wait_until

from evenkeel.lab.authority import Authority

NAME = "auto.example.com"
PROGRAM = "python3 -I /usr/local/lib/evenkeel/evenkeel_certificate.py"
HEAD = "# Written by evenkeel, role acme, from https://issuer.example.com:14000/dir\n"
SSH = "ssh -F /var/lib/evenkeel/acme/ssh_config"


@pytest.fixture(scope="module", autouse=True)
def _servers(scenario: Scenario) -> None:
    serve(scenario)


def issuer_of(certificate: bytes) -> str:
    return x509.load_der_x509_certificate(certificate).issuer.rfc4514_string()


def age(scenario: Scenario, days: tuple[float, float]) -> None:
    """Put a certificate on both balancers' disks that is valid from and to so many days from now."""
    text = HEAD + Authority().pem(NAME, f"www.{NAME}", days=days)
    for name in NAMES:
        scenario.host(name).check_output(f"umask 077 && printf %s '{text}' >{FOLDER}/auto.pem")


def renew(host: Any) -> Any:
    """Do what the timer does, and return how it went."""
    return host.run("systemctl start evenkeel-certificate")


def both(scenario: Scenario) -> set[bytes]:
    return {shown(address, NAME) for address in scenario.addresses.values()}


def test_first_certificate_is_the_issuers_and_the_same_at_both(scenario: Scenario) -> None:
    (certificate,) = both(scenario)
    assert "Pebble" in issuer_of(certificate)
    # By way of tls-2, to which the names lead, tls-1 has answered the issuer.
    assert scenario.host("tls-2").run("test -e /var/lib/evenkeel/acme/lego").rc == 1
    host = scenario.host("tls-1")
    secret = host.check_output("grep -rl 'PRIVATE KEY' /var/lib/evenkeel /etc/haproxy | xargs stat -c '%a %U'")
    assert set(secret.splitlines()) == {"600 root"}
    assert (
        float(re.findall(r"level.*: ([0-9.]+) ", host.run("systemd-analyze security evenkeel-certificate").stdout)[0])
        <= 2.5
    )


def test_balancers_key_is_good_for_nothing_but_certificates(scenario: Scenario) -> None:
    host = scenario.host("tls-1")

    def said(text: str, command: str = "") -> str:
        sent = json.dumps({"auto": text} if text else {})
        return str(host.check_output(f"printf %s '{sent}' | {SSH} tls-2 {command}"))

    # Whatever command is asked for, one answers.
    assert said("", "id") == "{}"
    forward = f"timeout 120 {SSH} -N -o ExitOnForwardFailure=yes -R 9999:127.0.0.1:22 tls-2 || exit 1"
    assert "forwarding failed" in host.run(forward).stderr
    # Refused are also others than these, as the unit tests say.
    old = both(scenario)
    for text, why in {
        HEAD + Authority().pem("shop.example.com"): "another is wanted here",
        HEAD + Authority().pem(NAME, f"www.{NAME}"): "known",
        host.check_output(f"cat {FOLDER}/auto.pem"): "known",
    }.items():
        assert why in said(text)
    assert both(scenario) == old
    # Nobody else's key opens that account, and none opens it from elsewhere.
    assert 'from="' in scenario.host("tls-2").check_output("cat /var/lib/evenkeel/handover/.ssh/authorized_keys")


def test_renewal_loses_nothing_reloads_nothing_and_is_at_both_at_once(scenario: Scenario, tmp_path: Path) -> None:
    before = {name: processes(scenario.host(name)) for name in NAMES}
    # Due for the first balancer, and not yet for the one behind it.
    age(scenario, (-53.6, 26.4))
    with websocket(scenario.addresses["tls-1"], NAME) as connection:
        with under_load(scenario, tmp_path, name=NAME) as outcome:
            assert renew(scenario.host("tls-2")).rc == 0
            old = both(scenario)
            assert "Test Issuer" in issuer_of(shown(scenario.addresses["tls-2"], NAME))
            seen: set[str] = set()
            watch = threading.Thread(target=watched, args=(scenario, old, seen), daemon=True)
            watch.start()
            assert renew(scenario.host("tls-1")).rc == 0
            watch.join(timeout=60)
        connection.sendall(b"still there")
        assert connection.recv(100) == b"still there"
    assert seen == set(NAMES)
    (new,) = both(scenario)
    assert "Pebble" in issuer_of(new)
    for name in NAMES:
        assert outcome[name].sent > 200
        assert outcome[name].failed == 0, outcome[name].failures
        assert processes(scenario.host(name)) == before[name]
    # It is on the disk too, and there is nothing left to do.
    scenario.host("tls-2").check_output("systemctl restart haproxy")
    wait_until(lambda: serves(scenario.addresses["tls-2"]), "it serves again")
    assert both(scenario) == {new}
    assert scenario.host("tls-1").check_output(f"{PROGRAM} renew --now") == ""


def watched(scenario: Scenario, old: set[bytes], seen: set[str]) -> None:
    """Note which balancers show another certificate."""
    while len(seen) < len(NAMES):
        for name in NAMES:
            if name not in seen and shown(scenario.addresses[name], NAME) not in old:
                seen.add(name)


def test_run_says_why_there_is_no_certificate_and_what_was_there_stays(scenario: Scenario) -> None:
    age(scenario, (-60, 20))
    host = scenario.host("tls-1")
    scenario.host("tls-2").check_output("systemctl stop pebble")
    assert renew(host).rc != 0
    told = host.check_output("journalctl --unit=evenkeel-certificate --output=cat --lines=20")
    assert f"No certificate for auto ({NAME}, www.{NAME}). https://issuer.example.com:14000/dir says: " in told
    assert "connection refused" in told
    old = both(scenario)
    # A new issuer, which knows no account of us; and a name that leads nowhere.
    text = converge(scenario, "-e", '{"names": ["auto.example.com", "lost.example.com"]}', wanted=2)
    for words in "lost.example.com", "urn:ietf:params:acme:error:", "let it lead to the balancers":
        assert words in " ".join(text.split()), text
    assert both(scenario) == old
    assert recap(converge(scenario))["tls-1"]["failed"] == 0
    (certificate,) = both(scenario)
    assert "Pebble" in issuer_of(certificate)


def test_balancer_that_asks_is_lost_half_way_and_the_other_finishes(scenario: Scenario) -> None:
    lost, other = scenario.host("tls-1"), scenario.host("tls-2")
    age(scenario, (-60, 20))
    for name in NAMES:
        scenario.host(name).check_output("systemctl restart haproxy")
    for address in scenario.addresses.values():
        wait_until(lambda address=address: serves(address), "it serves again")  # type: ignore[misc]
    old = both(scenario)
    # The issuer does not answer, so the first balancer is in the middle of asking.
    other.check_output("systemctl kill --signal STOP pebble")
    lost.check_output("systemctl start --no-block evenkeel-certificate")
    wait_until(lambda: lost.run("pgrep -x lego").rc == 0, "it asks")
    subprocess.run(["docker", "kill", scenario.container("tls-1")], check=True, capture_output=True)
    try:
        other.check_output("systemctl kill --signal CONT pebble")
        # That it could not be handed on is an error, and told.
        assert renew(other).rc != 0
        assert "not handed to tls-1" in other.check_output("journalctl --unit=evenkeel-certificate --output=cat -n 20")
        new = shown(scenario.addresses["tls-2"], NAME)
        assert new not in old
        assert "Pebble" in issuer_of(new)
    finally:
        subprocess.run(["docker", "start", scenario.container("tls-1")], check=True, capture_output=True)
    wait_until(lambda: shows(scenario.addresses["tls-1"]), "it is back")
    # The one that is back gets it with the next look of the other's timer.
    wait_until(lambda: renew(other).rc == 0, "it is handed on")
    assert both(scenario) == {new}


# $1 is present or cleanup, $2 the record's name, $3 its value.
HOOK = """#!/bin/sh
set -eu
case $1 in
    present) change="update add $2 60 TXT $3" ;;
    cleanup) change="update delete $2 TXT" ;;
esac
printf 'server %s\\nzone example.com\\n%s\\nsend\\n' "$SERVER" "$change" | nsupdate
"""
NAMED = """
options { directory "/var/cache/bind"; recursion no; listen-on { any; }; };
zone "example.com" { type primary; file "/var/cache/bind/example.com.zone"; allow-update { any; }; };
"""
ZONE = """$TTL 60
@ SOA ns.example.com. admin.example.com. 1 3600 600 86400 60
@ NS ns.example.com.
ns A %s
"""


def test_records_in_dns_answer_the_issuer_where_nothing_leads_to_the_balancers(
    scenario: Scenario, tmp_path: Path
) -> None:
    other, server = scenario.host("tls-2"), scenario.addresses["tls-2"]
    install = "DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends bind9-dnsutils"
    other.check_output(f"{install} bind9 && systemctl stop named")
    scenario.host("tls-1").check_output(install)
    other.check_output("printf %s %s >/etc/bind/named.conf", "%s", NAMED)
    other.check_output("printf %s %s >/var/cache/bind/example.com.zone", "%s", ZONE % server)
    other.check_output("chown -R bind: /var/cache/bind && systemctl start named")
    # An issuer that asks nobody else for names, and these lead nowhere.
    other.check_output("sed 's/14000/14001/; s/15000/15001/' /etc/pebble.json >/etc/pebble-dns.json")
    issuer = "systemd-run --unit=pebble-dns --setenv=PEBBLE_VA_NOSLEEP=1 pebble -config /etc/pebble-dns.json"
    other.check_output(f"{issuer} -dnsserver {server}:53")
    old = both(scenario)
    (tmp_path / "hook").write_text(HOOK)
    settings: dict[str, Any] = {"acme_dns_hook": str(tmp_path / "hook"), "acme_dns_env": {"SERVER": server}}
    settings["acme_directory"] = "https://issuer.example.com:14001/dir"
    for name in NAMES:
        scenario.host(name).check_output(f"cp /etc/resolv.conf /root/ && echo nameserver {server} >/etc/resolv.conf")
    try:
        converge(scenario, "-e", json.dumps(settings))
        (new,) = both(scenario)
        assert new not in old
        assert "Pebble" in issuer_of(new)
        said = other.check_output("journalctl --unit=named --output=cat")
        for name in (NAME, f"www.{NAME}"):
            assert f"adding an RR at '_acme-challenge.{name}' TXT" in said
            assert f"deleting rrset at '_acme-challenge.{name}' TXT" in said
        # A record that nobody can write, of a name that the issuer has not seen: the advice is not about port 80.
        settings |= {"names": [NAME, "lost.example.com"], "acme_dns_env": {"SERVER": "nobody.invalid"}}
        text = " ".join(converge(scenario, "-e", json.dumps(settings), wanted=2).split())
        assert "look what acme_dns_hook has written" in text
    finally:
        other.check_output("systemctl stop named pebble-dns")
        for name in NAMES:
            scenario.host(name).check_output("cp /root/resolv.conf /etc/resolv.conf")
    assert recap(converge(scenario))["tls-1"]["failed"] == 0


def shows(address: str) -> bool:
    try:
        return bool(shown(address, NAME))
    except OSError:
        return False
