"""TLS at two balancers, before one small server that each has for itself."""

from __future__ import annotations

import json
import re
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from by_tls import FOLDER, NAMES, answer, converge, processes, serve, serves, shaken, shown, under_load, websocket
from scenario import Scenario, recap, wait_until

from evenkeel.lab.authority import Authority


@pytest.fixture(scope="module", autouse=True)
def _servers(scenario: Scenario) -> None:
    serve(scenario)


@pytest.fixture
def address(scenario: Scenario) -> str:
    return scenario.addresses["tls-1"]


@pytest.fixture
def host(scenario: Scenario) -> Any:
    return scenario.host("tls-1")


@pytest.fixture
def folder(scenario: Scenario) -> Path:
    return scenario.inventory.parent / "certificates"


@pytest.fixture
def _kept(folder: Path) -> Iterator[None]:
    """Leave the certificates as they were; the last test runs the playbook anyway."""
    before = {path: path.read_text() for path in folder.glob("*.pem")}
    yield
    for path, text in before.items():
        path.write_text(text)


def test_each_name_gets_its_own_certificate_and_no_other_name_any(scenario: Scenario, folder: Path) -> None:
    for address in scenario.addresses.values():
        for name, file in ("shop.example.com", "shop"), ("www.shop.example.com", "shop"), ("api.example.com", "api"):
            own = ssl.PEM_cert_to_DER_cert(
                (folder / f"{file}.pem").read_text().split("-----END CERT")[0] + "-----END CERTIFICATE-----\n"
            )
            assert shown(address, name) == own
        for stranger in ("plain.example.com", "example.com", None):
            with pytest.raises(ssl.SSLError):
                shaken(address, stranger)


def test_client_that_verifies_gets_http_2(address: str, folder: Path) -> None:
    command = [
        "curl",
        "--silent",
        "--show-error",
        "--http2",
        "--cacert",
        str(folder / "ca.pem"),
        "--output",
        "/dev/null",
    ]
    command += ["--resolve", f"shop.example.com:443:{address}", "--write-out", "%{http_version} %{http_code}"]
    assert subprocess.check_output([*command, "https://shop.example.com/"], text=True) == "2 200"


def test_only_tls_1_2_and_1_3_without_weak_ciphers(address: str) -> None:
    """What else there is, is in nmap's ssl-enum-ciphers (docs/tls.md); what a client may ask for here, OpenSSL says."""
    command = f"openssl s_client -servername shop.example.com -connect {address}:443 </dev/null 2>&1"

    def said(options: str) -> str:
        return subprocess.run(
            command.replace("s_client", f"s_client {options}"), shell=True, check=False, capture_output=True, text=True
        ).stdout

    names = subprocess.check_output(
        ["openssl", "ciphers", "-s", "-tls1_2", "ALL:COMPLEMENTOFALL:@SECLEVEL=0"], text=True
    )
    taken = {
        name for name in names.strip().split(":") if f"Cipher is {name}" in said(f"-tls1_2 -cipher {name}:@SECLEVEL=0")
    }
    # The certificate's key is one of ECDSA.
    assert taken == {
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        "ECDHE-ECDSA-CHACHA20-POLY1305",
    }
    assert "Cipher is TLS_" in said("-tls1_3")
    for version in "-tls1", "-tls1_1":
        assert "alert protocol version" in said(f"{version} -cipher ALL:@SECLEVEL=0")


def test_plain_text_is_sent_to_tls_where_there_is_a_certificate(address: str) -> None:
    def asked(name: str, path: str, method: str = "GET") -> requests.Response:
        return requests.request(
            method, f"http://{address}{path}", headers={"Host": name}, allow_redirects=False, timeout=60
        )

    sent = asked("shop.example.com:80", "/basket?item=1", "POST")
    assert (sent.status_code, sent.headers["Location"]) == (308, "https://shop.example.com/basket?item=1")
    assert "Strict-Transport-Security" not in sent.headers
    # The issuer of a certificate asks in plain text.
    assert asked("shop.example.com", "/.well-known/acme-challenge/x").status_code == 200
    assert asked("plain.example.com", "/").status_code == 200


def test_application_learns_that_it_was_tls_and_nothing_a_client_says_of_it(address: str) -> None:
    status, text = answer(address, "shop.example.com", headers="X-Forwarded-Proto: http\r\n")
    assert (status, text.split("\r\n\r\n")[1]) == ("200", "https None")
    assert "strict-transport-security: max-age=63072000" in text.lower()
    plain = requests.get(
        f"http://{address}/", headers={"Host": "plain.example.com", "X-Forwarded-Proto": "https"}, timeout=60
    )
    assert plain.text == "http None"


def test_load_of_the_project_is_known_by_tls_too(address: str) -> None:
    digest = requests.get(f"http://{address}:8404/digest", timeout=60).text
    _, text = answer(address, "shop.example.com", headers=f"X-Evenkeel-Load: {digest}\r\n")
    assert "x-backend: first" in text.lower()
    assert text.endswith("https None")


def test_keys_are_for_root_alone(host: Any) -> None:
    said = host.check_output(f"stat -c '%a %U %n' {FOLDER} {FOLDER}/*").splitlines()
    assert said == [f"700 root {FOLDER}", *(f"600 root {FOLDER}/{name}.pem" for name in ("api", "auto", "shop"))]


def test_ends_are_told_to_prometheus(address: str) -> None:
    text = requests.get(f"http://{address}:8404/certificates", timeout=60).text
    ends = dict(re.findall(r'not_after_seconds{certificate="(\w+)"} (\d+)\n', text))
    assert set(ends) == {"shop", "api", "auto"}
    assert all(89 < (int(end) - time.time()) / 86400 <= 90 for end in ends.values())


@pytest.mark.usefixtures("_kept")
def test_changed_certificate_loses_nothing_and_reloads_nothing(
    scenario: Scenario, folder: Path, tmp_path: Path
) -> None:
    before = {name: processes(scenario.host(name)) for name in NAMES}
    old = {name: shown(scenario.addresses[name], "shop.example.com") for name in NAMES}
    with websocket(scenario.addresses["tls-1"], "shop.example.com") as open_socket:
        with under_load(scenario, tmp_path) as outcome:
            (folder / "shop.pem").write_text(Authority().pem("shop.example.com", "www.shop.example.com", days=(-1, 60)))
            text = converge(scenario, "--diff", "-vvv")
        open_socket.sendall(b"still there")
        assert open_socket.recv(100) == b"still there"
    assert set(outcome) == set(NAMES)
    for summary in outcome.values():
        assert summary.sent > 200
        assert summary.failed == 0, summary.failures
    for name in NAMES:
        assert shown(scenario.addresses[name], "shop.example.com") != old[name]
        assert processes(scenario.host(name)) == before[name]
        assert recap(text)[name]["changed"] == 1
    # The difference is shown, and the keys are not.
    assert "(changed)" in text
    assert "-----BEGIN CERTIFICATE-----" in text
    for path in folder.glob("*.pem"):
        for line in re.findall(r"PRIVATE KEY-----\n(\S+)", path.read_text()):
            assert line not in text
    # It is on the disk too.
    new = shown(scenario.addresses["tls-1"], "shop.example.com")
    scenario.host("tls-1").check_output("systemctl restart haproxy")
    wait_until(lambda: answer(scenario.addresses["tls-1"], "shop.example.com")[0] == "200", "it serves again")
    assert shown(scenario.addresses["tls-1"], "shop.example.com") == new


def test_tls_is_turned_on_without_a_loss_and_off_again(scenario: Scenario, folder: Path, tmp_path: Path) -> None:
    address, host = scenario.addresses["tls-1"], scenario.host("tls-1")
    converge(scenario, "-e", '{"tls_certificates": {}, "tls_automatic": false}')
    for place in "/var/lib/evenkeel/acme", "/var/lib/evenkeel/handover", "/etc/sudoers.d/evenkeel-certificate":
        assert host.run("test -e %s", place).rc == 1, "nothing stays of what renewed certificates"
    assert host.run("id evenkeel-certificate").rc == 1
    assert host.run("test -e %s/shop.pem", FOLDER).rc == 1, "no key stays that nobody needs"
    with pytest.raises(ConnectionRefusedError):
        shown(address, "shop.example.com")
    assert requests.get(f"http://{address}/", headers={"Host": "shop.example.com"}, timeout=60).status_code == 200
    # The site's own certificate this time: all services have it, and every other name too.
    site = json.dumps({"tls_certificates": {}, "tls_automatic": False, "haproxy_tls_file": str(folder / "shop.pem")})
    before = host.check_output("systemctl show haproxy --property=MainPID")
    with under_load(scenario, tmp_path, "http") as outcome:
        converge(scenario, "-e", site)
    for summary in outcome.values():
        assert summary.sent > 100
        assert summary.failed == 0, summary.failures
    assert host.check_output("systemctl show haproxy --property=MainPID") == before
    for name in "shop.example.com", "plain.example.com", None:
        assert shown(address, name)
    assert answer(address, "plain.example.com")[0] == "200"
    # HAProxy has opened the port itself. Killed, it does so again; and from the next boot on systemd holds it.
    for ended in (
        "systemctl kill --signal KILL haproxy",
        "systemctl stop haproxy.socket haproxy && systemctl start haproxy",
    ):
        host.check_output(ended)
        wait_until(lambda: serves(address), "it serves again by TLS")
    host.check_output("systemctl kill --signal KILL haproxy && sleep 0.1")
    # While nobody runs, systemd holds the door open: nobody is refused.
    assert answer(address, "shop.example.com")[0] == "200"
    assert "changed=0" in converge(scenario, "-e", site).split("tls-1  ")[1]
    converge(scenario)
    # From nothing again, and by way of the issuer.
    assert shown(address, "auto.example.com") == shown(scenario.addresses["tls-2"], "auto.example.com")
