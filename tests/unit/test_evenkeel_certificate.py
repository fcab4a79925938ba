"""The program that renews certificates on a balancer, before a HAProxy and an issuer that are a few lines of text."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import evenkeel_certificate
import pytest
import yaml
from evenkeel_certificate import Balancer, Held, RenewalError, check, hand_over, parse, renew, words

import certificates
from evenkeel.lab.authority import Authority
from haproxy_certificate import fingerprint
from test_haproxy_certificate import Fake

PROJECT = Path(__file__).resolve().parents[2]
DIRECTORY = "https://issuer.example.com/dir"
HEAD = f"# Written by evenkeel, role acme, from {DIRECTORY}\n"
HOSTS = ["shop.example.com", "www.shop.example.com"]
ISSUER = Authority()
SETTINGS = {
    "certificates": {"shop": HOSTS},
    "rank": 0,
    "peers": [],
    "front": ["127.0.0.1", 1],
    "directory": DIRECTORY,
    "lego": [],
    "environment": {},
    "secrets": {},
}


def given(*hosts: str, days: tuple[float, float] = (-1, 89), head: str = HEAD) -> str:
    return head + ISSUER.pem(*(hosts or HOSTS), days=days)


class Site:
    """A balancer in a folder of the test's."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> None:
        """Make the folder and its HAProxy."""
        self.path = folder / "shop.pem"
        for name in ("FOLDER", "CERTIFICATES"):
            monkeypatch.setattr(evenkeel_certificate, name, folder)
        monkeypatch.setattr(evenkeel_certificate, "ENDS", folder / "ends.map")
        self.balancer = Balancer({**SETTINGS, **settings})
        self.haproxy = Fake(self.path, ISSUER.pem("stand-in.example.com"))
        self.balancer.ask = self.haproxy
        self.issued: list[str] = []
        monkeypatch.setattr(Balancer, "request", self.request)
        self.refuses = ""

    def request(self, name: str) -> Held:
        """Issue a certificate, as the issuer does."""
        if self.refuses:
            raise RenewalError(self.refuses)
        self.issued.append(name)
        return parse(given())

    @property
    def shows(self) -> bool:
        """Whether the running HAProxy shows what is on the disk."""
        return fingerprint(self.haproxy.pem) == fingerprint(self.path.read_text())


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    return Site(tmp_path, monkeypatch)


def test_certificate_is_read_with_names_and_times() -> None:
    held = parse(given(days=(-30, 60)))
    assert held.names == ("shop.example.com", "www.shop.example.com")
    assert held.issuer == DIRECTORY
    assert held.ends - held.begins == 90 * 86_400
    assert parse(held.text) == held


def test_what_is_no_certificate_with_its_key_is_refused() -> None:
    text, other = given(), given()
    key = "-----BEGIN PRIVATE KEY-----"
    for wrong in ("", "nonsense", text.split(key)[0], text + other[other.index(key) :]):
        with pytest.raises(RenewalError, match="one key"):
            parse(wrong)
    with pytest.raises(RenewalError, match="another certificate's"):
        parse(text.split(key)[0] + key + other.split(key)[1])
    with pytest.raises(RenewalError, match="longer"):
        parse(text + ISSUER.chain * 30)


@pytest.mark.parametrize(("rank", "left"), [(0, 30.0), (1, 29.1), (2, 28.2)])
def test_balancers_ask_one_after_the_other_from_a_third_of_the_lifetime_on(rank: int, left: float) -> None:
    held = parse(given(days=(-30, 60)))
    asked = held.asked_at(HOSTS, DIRECTORY, rank)
    assert (held.ends - asked) / 86_400 == pytest.approx(left)


@pytest.mark.parametrize(
    "text",
    [
        given("shop.example.com"),
        given(*HOSTS, "more.example.com"),
        given(head=HEAD.replace("issuer", "staging")),
        given(head="# Written by evenkeel, role haproxy.\n"),
    ],
    ids=["a name more", "a name less", "another issuer", "brought by hand"],
)
def test_what_is_not_wanted_any_more_is_replaced_at_once(site: Site, text: str) -> None:
    site.path.write_text(text)
    assert [line[0] for line in renew(site.balancer)] == ["+"]
    assert site.issued == ["shop"]
    assert site.shows


def test_what_is_not_due_stays(site: Site) -> None:
    site.path.write_text(given())
    site.haproxy.pem = site.path.read_text()
    # Its end was not noted yet: that is all there is to do.
    assert len(list(renew(site.balancer))) == 1
    assert list(renew(site.balancer)) == []
    assert (site.issued, site.haproxy.orders) == ([], [])


def test_process_that_shows_another_one_gets_what_is_on_the_disk(site: Site) -> None:
    site.path.write_text(given())
    list(renew(site.balancer))
    assert site.issued == []
    assert site.shows


def test_refusal_is_told_in_the_issuers_words_and_the_old_one_stays(site: Site) -> None:
    before = given(days=(-80, 10))
    site.path.write_text(before)
    site.refuses = "no such name"
    lines = list(renew(site.balancer))
    assert [line for line in lines if line[0] == "-"] == [
        f"-No certificate for shop (shop.example.com, www.shop.example.com). {DIRECTORY} says: no such name"
    ]
    assert site.path.read_text() == before


def test_certificate_that_haproxy_refuses_does_not_go_to_the_disk(site: Site) -> None:
    before = given(days=(-80, 10))
    site.path.write_text(before)
    site.haproxy.refuses = "commit"
    assert [line[:53] for line in renew(site.balancer)] == ["-The certificate shop was not loaded: HAProxy refused"]
    assert site.path.read_text() == before


def test_end_and_lifetime_are_noted(site: Site, tmp_path: Path) -> None:
    site.path.write_text(given())
    list(renew(site.balancer))
    held = parse(site.path.read_text())
    assert (tmp_path / "ends.map").read_text() == f"shop {held.ends:.0f}\nshop:lifetime {90 * 86_400}\n"


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("other", given(), "of that name"),
        ("shop", "nonsense", "one key"),
        ("shop", given("shop.example.com"), "another is wanted"),
        ("shop", given(head=HEAD.replace("issuer", "staging")), "another is wanted"),
        ("shop", given(head=""), "nobody, and another is wanted"),
        ("shop", given(days=(-90, -1)), "expired"),
        ("shop", given(days=(-3, 89)), "known"),
    ],
)
def test_receiver_refuses(site: Site, name: str, text: str, why: str) -> None:
    before = given(days=(-2, 88))
    site.path.write_text(before)
    answer = site.balancer.receive(json.dumps({name: text}))
    assert why in answer[name]
    assert site.path.read_text() == before
    assert site.haproxy.orders == []


@pytest.mark.parametrize("text", ["", "nonsense", "[1]", "3"])
def test_receiver_refuses_what_is_no_list(site: Site, text: str) -> None:
    assert "no list" in site.balancer.receive(text)[""]


def test_receiver_takes_what_is_newer_and_loads_it(site: Site) -> None:
    site.path.write_text(given(days=(-60, 30)))
    new = given()
    assert site.balancer.receive(json.dumps({"shop": new})) == {"shop": "taken"}
    assert site.path.read_text() == new
    assert site.path.stat().st_mode & 0o777 == 0o600
    assert site.shows
    assert site.balancer.receive(json.dumps({"shop": new})) == {"shop": "known"}


def test_receiver_takes_what_is_wanted_for_what_is_not(site: Site) -> None:
    site.path.write_text(given(days=(0, 1), head=""))
    assert site.balancer.receive(json.dumps({"shop": given()})) == {"shop": "taken"}


def test_only_what_is_wanted_is_handed_over(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[str] = []

    def tell(peer: str, text: str) -> str:
        assert peer == "lb2"
        sent.append(text)
        return '{"shop": "taken"}'

    monkeypatch.setattr(evenkeel_certificate, "tell", tell)
    site.path.write_text(given(head=""))
    assert hand_over(site.balancer, "lb2") == {}
    site.path.write_text(given())
    assert hand_over(site.balancer, "lb2") == {"shop": "taken"}
    assert [json.loads(each) for each in sent] == [{"shop": site.path.read_text()}]


def test_answer_of_somebody_else_is_an_error(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.path.write_text(given())
    monkeypatch.setattr(evenkeel_certificate, "tell", lambda *_: "Welcome!")
    with pytest.raises(RenewalError, match="Welcome"):
        hand_over(site.balancer, "lb2")


def test_balancer_that_is_away_hinders_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site(tmp_path, monkeypatch, peers=["lb2", "lb3"])
    site.path.write_text(given(days=(-80, 10)))
    told: list[str] = []

    def tell(peer: str, _: str) -> str:
        if peer == "lb2":
            raise RenewalError("it is away")
        told.append(peer)
        return '{"shop": "taken", "other": "not wanted"}'

    monkeypatch.setattr(evenkeel_certificate, "tell", tell)
    lines = list(renew(site.balancer))
    assert "-The certificates were not handed to lb2: it is away" in lines
    assert "+shop: handed to lb3" in lines
    assert "-The certificate other was refused by lb3: not wanted" in lines
    assert told == ["lb3"]


def test_check_says_what_clients_are_not_shown(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(check(site.balancer)) == ["-shop has no certificate for shop.example.com, www.shop.example.com yet"]
    text = given()
    site.path.write_text(text)
    seen = {"shop.example.com": fingerprint(text), "www.shop.example.com": "A" * 40}
    monkeypatch.setattr(evenkeel_certificate, "shown", lambda _, host: seen[host])
    assert [line.split(" ")[0] for line in check(site.balancer)] == ["-www.shop.example.com"]


def test_issuers_words_are_found_in_what_lego_says() -> None:
    said = (
        "2026/11/29 10:31:43 [INFO] [shop.example.com] acme: Obtaining bundled SAN certificate\n"
        "2026/11/29 10:31:43 Could not obtain certificates:\n\terror: one or more domains had a problem:\n"
        "[shop.example.com] acme: error: 400 :: urn:ietf:params:acme:error:dns :: no such host\n"
    )
    assert words(said).endswith("urn:ietf:params:acme:error:dns :: no such host")
    assert "10:31:43" not in words(said)
    assert words("killed") == "killed"


def test_stand_in_is_replaced_in_order(site: Site) -> None:
    held = parse(ISSUER.pem("stand-in.example.com", days=(0, 1)))
    assert held.asked_at(HOSTS, DIRECTORY, 0) <= time.time()
    assert held.asked_at(HOSTS, DIRECTORY, 1) > time.time() + 600
    site.path.write_text(held.pem)
    assert len(list(renew(site.balancer, 1))) == 0
    assert site.issued == []


def test_places_and_limits_are_those_of_the_role_haproxy() -> None:
    known = yaml.safe_load((PROJECT / "roles" / "haproxy" / "vars" / "main.yml").read_text())
    assert str(evenkeel_certificate.CERTIFICATES) == known["__haproxy_certificate_folder"]
    assert str(evenkeel_certificate.ENDS) == known["__haproxy_ends"]
    assert evenkeel_certificate.MOST_BYTES == certificates.MOST_BYTES
    unit = (PROJECT / "roles" / "acme" / "templates" / "evenkeel-certificate.service.j2").read_text()
    # What it writes to, its sandbox lets it.
    assert f" {evenkeel_certificate.CERTIFICATES} {evenkeel_certificate.ENDS.parent}\n" in unit
