"""What is wrong with certificates, and what HAProxy gets of them."""

from __future__ import annotations

import datetime as dt
import time
from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from certificates import (
    balancers_secured,
    certificates_list,
    certificates_notes,
    certificates_problems,
    certificates_read,
    services_secured,
    services_urls,
    site_certificates,
)
from evenkeel.lab.authority import Authority, text_of
from services import services_certificates, services_described

ISSUER = Authority()
KEY, OTHER = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
NAME = "shop.example.com"
OWN = ISSUER.certificate(NAME, key=KEY)
GOOD = OWN + ISSUER.chain + text_of(KEY)
NO_SITE = {"file": "", "pem": ""}


def problems(tls: dict[str, Any], site: dict[str, Any] | None = None, **keys: Any) -> list[str]:
    """Return what is wrong with the site's certificates where the shop has such a description."""
    described = {"shop": {"image": "shop:1", "port": 1, "hosts": [NAME], "tls": tls, **keys}}
    services = services_described(described, {})
    return certificates_problems(services, services_certificates(described), [{**NO_SITE, **(site or {})}])


def test_sound_certificate_has_no_problem_wherever_it_is(tmp_path: Path) -> None:
    file = tmp_path / "shop.pem"
    # Key first, text between, Windows' line ends: what people have.
    file.write_text(f"Bag Attributes\n{text_of(KEY)}\nsubject=shop\n{OWN}{ISSUER.chain}".replace("\n", "\r\n"))
    assert problems({"file": str(file)}) == []
    assert problems({"pem": GOOD}) == []
    assert problems({"pem": ISSUER.pem("*.example.com")}) == []
    assert problems({}) == []


RSA_1024 = rsa.generate_private_key(65537, 1024)
WRONG = {
    "no certificate in it": text_of(KEY),
    "no private key in it": OWN + ISSUER.chain,
    "does not fit its certificate": OWN + text_of(OTHER),
    "key of its second certificate": ISSUER.chain + OWN + text_of(KEY),
    "is encrypted": OWN + text_of(KEY, b"secret"),
    "2 private keys": OWN + text_of(KEY) + text_of(OTHER),
    "key that can't be read": OWN + "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
    "can't be read (the first)": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n" + text_of(KEY),
    "is no PEM": "0\x82\x03",
    "expired on": ISSUER.certificate(NAME, key=KEY, days=(-90, -1)) + text_of(KEY),
    "is valid only from": ISSUER.certificate(NAME, key=KEY, days=(1, 90)) + text_of(KEY),
    "certificate for api.example.com, and not for shop.example.com": ISSUER.pem("api.example.com"),
    "a certificate for *.shop.example.com, and": ISSUER.pem("*.shop.example.com"),
    "a key of 1024 bits": ISSUER.certificate(NAME, key=RSA_1024) + text_of(RSA_1024),
    "bytes, and HAProxy can": OWN + ISSUER.chain * 30 + text_of(KEY),
}


@pytest.mark.parametrize("sentence", WRONG)
def test_bad_certificate_gets_one_sentence_by_service_and_key(sentence: str, tmp_path: Path) -> None:
    found = problems({"pem": WRONG[sentence]})
    assert len(found) == 1
    assert found[0].startswith("site_services.shop.tls.pem ")
    assert sentence in found[0]
    assert "PRIVATE" not in found[0]
    file = tmp_path / "shop.pem"
    file.write_text(WRONG[sentence])
    assert problems({"file": str(file)})[0].startswith("site_services.shop.tls.file ")


def test_file_that_is_not_there_or_no_text_is_named(tmp_path: Path) -> None:
    assert problems({"file": str(tmp_path / "no.pem")}) == [
        f"site_services.shop.tls.file is {tmp_path}/no.pem, which can't be read (No such file or directory): name a "
        "file on the machine that runs Ansible."
    ]
    (tmp_path / "der").write_bytes(b"0\x82\x03\xff")
    assert "which is no PEM: convert it" in problems({"file": str(tmp_path / "der")})[0]


def test_one_of_file_and_pem_is_needed() -> None:
    assert "has both file and pem" in problems({"file": "x", "pem": GOOD})[0]
    assert "has neither file nor pem" in problems({"file": ""})[0]
    assert "haproxy_tls_file and haproxy_tls_pem are both set" in problems({}, {"file": "x", "pem": GOOD})[0]


def test_certificate_that_nobody_would_be_shown_is_refused() -> None:
    # The default service's is for all other names.
    assert problems({"pem": GOOD}, hosts=[]) == []
    assert "it is not the default one" in problems({"pem": GOOD}, hosts=[], paths=["/shop"])[0]
    assert "has the one for all other names" in problems({"pem": GOOD}, {"pem": GOOD}, hosts=[])[0]


def test_sites_certificate_is_for_the_hosts_of_services_without_one() -> None:
    assert problems({}, {"pem": GOOD}) == []
    assert problems({"pem": GOOD}, {"pem": ISSUER.pem("other.example.com")}) == []
    assert problems({}, {"pem": ISSUER.pem("other.example.com")}) == [
        "haproxy_tls_pem is a certificate for other.example.com, and not for shop.example.com: get one that names all "
        "hosts, or take them out of `hosts`."
    ]


def test_time_of_the_check_is_the_clocks() -> None:
    services = services_described({"shop": {"image": "a:1", "port": 1, "tls": {"pem": GOOD}}}, {})
    later = dt.datetime.now(dt.UTC) + dt.timedelta(days=91)
    assert "expired on" in certificates_problems(services, {"shop": {"pem": GOOD}}, [], later)[0]


def test_haproxy_gets_key_and_certificates_alone() -> None:
    read = certificates_read({"shop": {"pem": f"a comment\n{text_of(KEY)}\n\n{OWN}\n{ISSUER.chain}"}}, {"pem": GOOD})
    assert set(read) == {"shop", "site"}
    assert read["shop"]["pem"] == text_of(KEY) + OWN + ISSUER.chain
    assert abs(read["shop"]["expires"] - time.time() - 90 * 86400) < 600
    with pytest.raises(AnsibleFilterError, match="certificate of shop has no private key"):
        certificates_read({"shop": {"pem": OWN}}, NO_SITE)


def test_strangers_are_shown_the_sites_certificate_or_the_default_services_or_none() -> None:
    services = [
        {"name": "shop", "hosts": ["Shop.example.com", "www.example.com"], "default": False},
        {"name": "rest", "hosts": [], "default": True},
    ]
    shop = "/c/shop.pem shop.example.com www.example.com"
    assert certificates_list(services, ["shop"], "/c") == [shop]
    assert certificates_list(services, ["shop", "rest"], "/c") == ["/c/rest.pem !*", shop]
    assert certificates_list(services, ["shop", "site"], "/c") == ["/c/site.pem !*", shop]


def test_description_that_is_passed_around_holds_no_key(tmp_path: Path) -> None:
    given = {
        "shop": {"image": "a:1", "port": 1, "tls": {"pem": GOOD}},
        "api": {"image": "a:1", "port": 2, "hosts": ["a"], "tls": {"file": "api.pem"}},
        "plain": {"image": "a:1", "port": 3, "hosts": ["b"]},
    }
    shop, api, plain = services_described(given, {}, folder=str(tmp_path))
    assert "PRIVATE" not in str(shop)
    assert len(shop["tls"]["pem"]) == 12
    assert api["tls"] == {"file": str(tmp_path / "api.pem"), "pem": ""}
    assert plain["tls"] == {}
    assert services_secured([shop, api, plain], NO_SITE) == ["shop", "api"]
    assert services_secured([shop, api, plain], {"file": "x"}) == ["shop", "api", "plain"]
    certificates = services_certificates(given, str(tmp_path))
    assert certificates == {"shop": {"file": "", "pem": GOOD}, "api": {"file": str(tmp_path / "api.pem"), "pem": ""}}


def test_site_certificate_is_each_balancers_own() -> None:
    hostvars = {"one": {"haproxy_tls_file": "a.pem", "inventory_dir": "/i"}, "two": {"haproxy_tls_pem": "text"}}
    assert site_certificates(["one", "two"], hostvars) == [
        {"file": "/i/a.pem", "pem": ""},
        {"file": "", "pem": "text"},
    ]


def test_balancer_has_tls_by_its_own_certificate_or_a_services() -> None:
    site = {"topology_site_certificate": {"file": "a.pem", "pem": ""}}
    hostvars: dict[str, Any] = {"one": site, "two": {"topology_site_certificate": NO_SITE}, "three": {}}
    assert balancers_secured(hostvars, hostvars, [{"name": "shop", "tls": {}}]) == ["one"]
    assert balancers_secured(hostvars, hostvars, [{"name": "shop", "tls": {"file": "x"}}]) == ["one", "two", "three"]


def test_status_says_until_when() -> None:
    def told(days: float) -> dict[str, Any]:
        metric = "evenkeel_certificate_not_after_seconds"
        said = f'{metric}{{certificate="shop"}} {int(days * 86400)}\n{metric}{{certificate="api"}} NaN\n'
        # How long an automatic one lives is no end.
        said += 'evenkeel_certificate_lifetime_seconds{certificate="shop"} 7776000\n'
        return {"status_certificates": {"content": said}}

    hostvars = {"one": told(30.5), "two": told(30.5), "old": told(0.5), "none": {}}
    assert certificates_notes(hostvars, hostvars, now=86400) == [
        "The certificate `shop` is valid until 1970-01-31 (for 29 days): one, two.",
        "The certificate `shop` is valid until 1970-01-01 (EXPIRED): old.",
    ]


def test_addresses_name_the_services_hosts() -> None:
    services: list[dict[str, Any]] = [{"hosts": [NAME]}, {"hosts": []}]
    assert services_urls(services, "192.0.2.1", 443) == [f"https://{NAME}/", "https://192.0.2.1/"]
    assert services_urls(services, "192.0.2.1", "8443") == [f"https://{NAME}:8443/", "https://192.0.2.1:8443/"]
