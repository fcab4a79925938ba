"""The module that brings certificates, against a HAProxy that is a few lines of text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from evenkeel.lab.authority import Authority, text_of
from haproxy_certificate import HEAD, CertificateError, fingerprint, run

ISSUER = Authority()
OLD, NEW = ISSUER.pem("a.example.com"), ISSUER.pem("a.example.com")


class Fake:
    """A HAProxy that has read a certificate, or does not know it (empty), or none that runs."""

    def __init__(self, path: Path, pem: str, *, runs: bool = True) -> None:
        """Hold what it shows."""
        self.path, self.pem, self.runs = path, pem, runs
        self.waiting: dict[str, str] = {}
        self.ends: dict[str, str] = {}
        self.orders: list[str] = []
        self.refuses = ""

    def __call__(self, command: str) -> str:
        """Answer as HAProxy does."""
        if not self.runs:
            raise ConnectionRefusedError
        words = command.split("\n")[0].split(" ")
        if words[1] == "map":
            return self.map(words)
        if words[0] == "show":
            if len(words) == 3:
                return "".join(f"*{path}\n" for path in self.waiting) + f"# filename\n{self.path}\n"
            return f"Status: Used\nSHA1 FingerPrint: {fingerprint(self.pem)}\n" if self.pem else "Not found\n"
        self.orders.append(words[0])
        if words[0] == self.refuses:
            return "Can't do that!\n"
        if words[0] == "set":
            if set(self.waiting) - {words[3]}:
                return "The ongoing transaction is about another one.\n"
            self.waiting[words[3]] = command.partition("<<\n")[2]
            return f"Transaction created for certificate {words[3]}!\n"
        if words[0] == "commit":
            self.pem = self.waiting.pop(words[3])
            return f"Committing {words[3]}\nSuccess!\n"
        self.waiting.pop(words[3], None)
        return "Transaction aborted for certificate!\n"

    def map(self, words: list[str]) -> str:
        """Answer about the map."""
        name = words[3]
        if words[0] == "get":
            found = f'found=yes, idx=tree, key="{name}", value="{self.ends[name]}"' if name in self.ends else "found=no"
            return f"type=str, case=sensitive, {found}\n"
        self.ends[name] = words[4]
        return "\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "shop.pem"
    file.write_text(HEAD + OLD)
    (tmp_path / "ends").write_text("api 7\nshop 1\n")
    return file


def bring(path: Path, haproxy: Fake, pem: str = NEW, expires: int = 2, check_mode: bool = False) -> dict[str, Any]:
    """Run the module."""
    given = {"path": str(path), "pem": pem, "expires": expires, "map": str(path.with_name("ends"))}
    return run(given, check_mode, haproxy)


def test_changed_certificate_is_in_the_process_and_on_the_disk_once(path: Path) -> None:
    haproxy = Fake(path, OLD)
    assert bring(path, haproxy, check_mode=True)["changed"]
    assert haproxy.orders == []
    assert path.read_text() == HEAD + OLD
    result = bring(path, haproxy)
    assert (result["changed"], result["loaded"]) == (True, True)
    assert haproxy.pem == NEW
    assert path.read_text() == HEAD + NEW
    assert path.stat().st_mode & 0o777 == 0o600
    assert haproxy.ends == {"shop": "2"}
    assert path.with_name("ends").read_text() == "api 7\nshop 2\n"
    assert not bring(path, haproxy)["changed"]
    assert haproxy.orders == ["set", "commit"]
    assert {file.name for file in path.parent.iterdir()} == {"shop.pem", "ends"}


def test_key_is_in_no_difference(path: Path) -> None:
    diff = bring(path, Fake(path, OLD))["diff"]
    lines = {line for pem in (OLD, NEW) for line in pem.partition("PRIVATE KEY-----\n")[2].splitlines()[:-1]}
    assert not any(line in diff[side] for side in ("before", "after") for line in lines)
    assert "********\n" in diff["before"]
    assert "******** (changed)\n" in diff["after"]
    assert NEW.partition("-----END")[0] in diff["after"], "certificates are no secret"


def test_same_key_is_not_said_to_be_changed(path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    first, second = (ISSUER.certificate("a.example.com", key=key) + text_of(key) for _ in range(2))
    path.write_text(HEAD + first)
    assert "(changed)" not in bring(path, Fake(path, first), second)["diff"]["after"]


def test_file_that_haproxy_does_not_know_is_written_for_its_next_configuration(path: Path) -> None:
    for haproxy in Fake(path, ""), Fake(path, "", runs=False):
        path.unlink()
        result = bring(path, haproxy)
        assert (result["changed"], result["loaded"]) == (True, False)
        assert path.read_text() == HEAD + NEW
        assert haproxy.orders == []


def test_run_that_was_killed_in_between_is_mended(path: Path) -> None:
    # The process had it already, or the disk alone.
    for shown, held in ((NEW, OLD), (OLD, NEW)):
        haproxy = Fake(path, shown)
        path.write_text(HEAD + held)
        # And another transaction of ours was left open, and a draft.
        haproxy.waiting[str(path.with_name("api.pem"))] = "x"
        path.with_name("shop.pem.new").write_text("half")
        assert bring(path, haproxy)["changed"]
        assert haproxy.pem == NEW
        assert path.read_text() == HEAD + NEW
        assert haproxy.waiting == {}


@pytest.mark.parametrize("step", ["set", "commit"])
def test_refusal_is_said_and_changes_nothing(path: Path, step: str) -> None:
    haproxy = Fake(path, OLD)
    haproxy.refuses = step
    with pytest.raises(CertificateError, match=r"HAProxy refused the certificate .*shop\.pem: Can't do that!"):
        bring(path, haproxy)
    assert path.read_text() == HEAD + OLD
    assert haproxy.waiting == {}
    assert {file.name for file in path.parent.iterdir()} == {"shop.pem", "ends"}


def test_changed_chain_is_loaded_too(path: Path) -> None:
    haproxy = Fake(path, OLD)
    assert bring(path, haproxy, OLD + Authority().chain)["loaded"]
