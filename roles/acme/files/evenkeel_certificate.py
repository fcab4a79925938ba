"""Gets certificates from an issuer (ACME), renews them, and hands them to the other balancers.

``evenkeel-certificate renew`` is what the timer runs: it asks for what is due, loads it into HAProxy without a reload,
and brings the other balancers what they do not have. ``--now`` does not wait for the balancers before this one in the
inventory, and ``--check`` only says what is due. ``check`` says what the front door does not show. ``receive`` takes a
certificate that another balancer brings; it is all that a balancer's key is good for.

Written by evenkeel, role acme. Runs as root, with the distribution's Python, 3.9 or newer, its standard library,
openssl, ssh and lego.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

# Started with -I, Python does not look beside the program. Nothing is left there that the role did not write.
sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent))
from haproxy_certificate import Ask, CertificateError, ask, draft, fingerprint, load, loaded, note  # noqa: E402

FOLDER = Path("/var/lib/evenkeel/acme")
CERTIFICATES = Path("/etc/haproxy/evenkeel-tls")
ENDS = Path("/var/lib/evenkeel/haproxy/certificates.map")
SOCKET = "/run/haproxy/admin.sock"
# HAProxy takes a certificate at run time in one command of 16 kB.
MOST_BYTES = 15_000
_ISSUER = "# Written by evenkeel, role acme, from "
_BLOCK = re.compile(r"-----BEGIN (CERTIFICATE|[A-Z ]*PRIVATE KEY)-----\s.*?-----END \1-----", re.DOTALL)
# An issuer may take minutes to look at a name.
_ISSUER_SECONDS, _SSH_SECONDS = 600, 60
_MOST_RECEIVED = 1 << 20


class RenewalError(Exception):
    """What went wrong; its text is the sentence that an operator reads."""


@dataclass(frozen=True)
class Held:
    """A certificate with its key.

    Attributes:
        pem: certificate, chain and key.
        issuer: the address of the directory it came from; empty where it came from none.
        names: its host names, in lower case and in order.
        begins: since when it is valid, in seconds since 1970.
        ends: until when it is valid.
    """

    pem: str
    issuer: str
    names: tuple[str, ...]
    begins: float
    ends: float

    @property
    def text(self) -> str:
        """What a file holds, and what another balancer is sent."""
        return f"{_ISSUER}{self.issuer}\n{self.pem}"

    def meets(self, names: Sequence[str], issuer: str) -> bool:
        """Return whether it is from that issuer, and for exactly these names."""
        return self.issuer == issuer and set(self.names) == set(names)

    def asked_at(self, names: Sequence[str], issuer: str, rank: int) -> float:
        """Return when a balancer asks for the next one, in seconds since 1970.

        The first asks at a third of the lifetime. Each after it waits a hundredth longer, and finds what the one before
        it has brought. What was never given, or is not wanted any more, is replaced at once, in the same order.
        """
        lifetime = self.ends - self.begins
        due = self.ends - lifetime / 3 if self.meets(names, issuer) else self.begins
        return due + rank * lifetime / 100


def openssl(arguments: Sequence[str], text: str) -> str:
    """Return what openssl says of a text, which goes by no command line; raises RenewalError."""
    done = subprocess.run(["openssl", *arguments], input=text, check=False, capture_output=True, text=True)
    if done.returncode:
        raise RenewalError(f"openssl can't read it ({' '.join(done.stderr.split())[:200]})")
    return done.stdout


def parse(text: str) -> Held:
    """Return what a text holds; raises RenewalError where it is no certificate with its key."""
    blocks = [(found[1], re.sub(r"\s*\n\s*", "\n", found[0]) + "\n") for found in _BLOCK.finditer(text)]
    certificates = [block for kind, block in blocks if kind == "CERTIFICATE"]
    keys = [block for kind, block in blocks if kind != "CERTIFICATE"]
    if not certificates or len(keys) != 1:
        raise RenewalError("it is no certificate with one key")
    pem = "".join([*certificates, *keys])
    if len(pem) > MOST_BYTES:
        raise RenewalError(f"it is longer than HAProxy can change while it runs ({MOST_BYTES} bytes)")
    said = openssl(["x509", "-noout", "-startdate", "-enddate", "-pubkey", "-text"], certificates[0])
    public = re.search(r"-----BEGIN PUBLIC KEY-----.*?-----END PUBLIC KEY-----", said, re.DOTALL)
    if not public or public[0] != openssl(["pkey", "-pubout"], keys[0]).strip():
        raise RenewalError("its key is another certificate's")
    dates = {word: ssl.cert_time_to_seconds(date) for word, date in re.findall(r"^not(\w+)=(.+)$", said, re.MULTILINE)}
    listed = re.search(r"Subject Alternative Name:[^\n]*\n([^\n]*)", said)
    names = re.findall(r"DNS:([^,\s]+)", listed[1]) if listed else []
    head = re.match(rf"{re.escape(_ISSUER)}(\S+)\n", text)
    return Held(pem, head[1] if head else "", tuple(sorted(map(str.lower, names))), dates["Before"], dates["After"])


@contextlib.contextmanager
def alone(name: str) -> Iterator[None]:
    """Wait for whoever does the same; what was killed holds nothing."""
    with (FOLDER / f"{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


class Balancer:
    """This host: its settings, its certificates, and the HAProxy that shows them."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        """Take what the role has written.

        Args:
            settings: ``certificates``, host names by the certificate's name; ``rank``, how many balancers are before
                this one; ``peers``, the names of the others; ``front``, address and port of TLS here; ``lego``, the
                arguments of lego; ``environment`` and ``secrets``, what it gets besides; ``directory``, the issuer's
                address.
        """
        self.wanted: dict[str, list[str]] = settings["certificates"]
        self.settings = settings
        self.ask: Ask = partial(ask, SOCKET)

    def held(self, name: str) -> Held | None:
        """Return what lies here under a name; None where that is no certificate with its key."""
        try:
            return parse((CERTIFICATES / f"{name}.pem").read_text())
        except (OSError, RenewalError):
            return None

    def meets(self, name: str, held: Held | None) -> bool:
        """Return whether that is what is wanted."""
        return held is not None and held.meets(self.wanted[name], self.settings["directory"])

    def keep(self, name: str, held: Held) -> bool:
        """Give HAProxy a certificate, and the disk right after; whether anything was another.

        The process comes first: what lies there has been loaded, so HAProxy can start with it.
        """
        path = CERTIFICATES / f"{name}.pem"
        with alone("keeping"):
            shown = loaded(self.ask, str(path))
            stale = shown is not None and shown != fingerprint(held.pem)
            changed = stale or not path.exists() or path.read_text() != held.text
            if changed:
                new = draft(path, held.text, 0o600)
                try:
                    if stale:
                        load(self.ask, str(path), held.pem)
                    new.replace(path)
                finally:
                    new.unlink(missing_ok=True)
            for key, value in ((name, held.ends), (f"{name}:lifetime", held.ends - held.begins)):
                changed = note(self.ask, ENDS, key, int(value), False) or changed
        return changed

    def request(self, name: str) -> Held:
        """Ask the issuer for a certificate and return it; raises RenewalError with the issuer's words."""
        hosts, folder = self.wanted[name], FOLDER / "lego"
        command = ["lego", "--path", str(folder), *self.settings["lego"]]
        for host in hosts:
            command += ["--domains", host]
        try:
            said = self._lego([*command, "run"])
            if said and "accountDoesNotExist" in said:
                # The issuer has forgotten it: staging issuers do so now and then.
                shutil.rmtree(folder / "accounts")
                said = self._lego([*command, "run"])
            if said:
                raise RenewalError(words(said))
            text = "".join((folder / "certificates" / f"{hosts[0]}.{kind}").read_text() for kind in ("crt", "key"))
        except OSError as error:
            raise RenewalError(f"lego has left no certificate: {error}") from None
        finally:
            # The key lies in one place alone.
            shutil.rmtree(folder / "certificates", ignore_errors=True)
        held = parse(f"{_ISSUER}{self.settings['directory']}\n{text}")
        if not self.meets(name, held):
            raise RenewalError(f"the issuer's certificate is for {', '.join(held.names)}")
        return held

    def _lego(self, command: Sequence[str]) -> str:
        """Run lego, and return what it said where it failed; empty where it did not."""
        environment = os.environ | self.settings["environment"] | self.settings["secrets"]
        try:
            done = subprocess.run(
                command, check=False, capture_output=True, text=True, timeout=_ISSUER_SECONDS, env=environment
            )
        except subprocess.TimeoutExpired:
            raise RenewalError(f"the issuer has not answered within {_ISSUER_SECONDS} s") from None
        said = (done.stderr + done.stdout).strip() or f"lego has ended with {done.returncode}, without a word"
        return said if done.returncode else ""

    def receive(self, text: str) -> dict[str, str]:
        """Take what another balancer has sent, and return what became of each, by name.

        Args:
            text: JSON, the texts of certificates by name.

        Returns:
            ``taken``, ``known``, where the one that is here is the same or newer, or why it is refused, in words.
        """
        try:
            sent = json.loads(text)
        except ValueError:
            sent = None
        if not isinstance(sent, dict):
            return {"": "that is no list of certificates"}
        return {str(name): self._take(str(name), str(each)) for name, each in sent.items()}

    def _take(self, name: str, text: str) -> str:
        if name not in self.wanted:
            return "no certificate of that name is wanted here"
        try:
            held, own = parse(text), self.held(name)
            if not self.meets(name, held):
                return f"it is for {', '.join(held.names)} from {held.issuer or 'nobody'}, and another is wanted here"
            if held.ends <= time.time():
                return "it has expired"
            if own is not None and self.meets(name, own) and own.begins >= held.begins:
                return "known"
            self.keep(name, held)
        except (RenewalError, CertificateError, OSError) as error:
            return str(error)
        return "taken"


def words(text: str) -> str:
    """Return what an issuer, or the way to it, said, from lego's output."""
    lines = [re.sub(r"^\d{4}/\d\d/\d\d \d\d:\d\d:\d\d ", "", line).strip() for line in text.splitlines()]
    said = [line for line in lines if "error" in line or "Could not" in line or "could not" in line]
    return " ".join(dict.fromkeys((said or lines)[-3:]))[-1000:]


def tell(peer: str, text: str) -> str:
    """Send a balancer something by SSH, and return its answer; raises RenewalError."""
    command = ["ssh", "-F", str(FOLDER / "ssh_config"), peer]
    try:
        done = subprocess.run(command, input=text, check=False, capture_output=True, text=True, timeout=_SSH_SECONDS)
    except subprocess.TimeoutExpired:
        raise RenewalError(f"it has not answered within {_SSH_SECONDS} s") from None
    if done.returncode:
        raise RenewalError(" ".join(done.stderr.split()) or f"ssh has ended with {done.returncode}")
    return done.stdout


def hand_over(balancer: Balancer, peer: str) -> dict[str, str]:
    """Send another balancer what is here, and return what became of each, by name; raises RenewalError."""
    held = {name: balancer.held(name) for name in balancer.wanted}
    texts = {name: each.text for name, each in held.items() if each is not None and balancer.meets(name, each)}
    answer = tell(peer, json.dumps(texts)) if texts else "{}"
    try:
        return {str(name): str(each) for name, each in json.loads(answer).items()}
    except (ValueError, AttributeError):
        raise RenewalError(f"it has answered {answer[:200]!r}") from None


def due(balancer: Balancer) -> Iterator[str]:
    """Yield what would be asked for now, a sentence each."""
    for name, hosts in balancer.wanted.items():
        held = balancer.held(name)
        if held is None or held.asked_at(hosts, balancer.settings["directory"], 0) <= time.time():
            yield f"+{name}: {balancer.settings['directory']} would be asked for {', '.join(hosts)}"


def renew_now(balancer: Balancer) -> Iterator[str]:
    """Do what is due, as :func:`renew`, without waiting for the balancers before this one."""
    return renew(balancer, 0)


def renew(balancer: Balancer, rank: int | None = None) -> Iterator[str]:
    """Do what is due, and yield what was changed (``+``) and what went wrong (``-``), a sentence each.

    Args:
        balancer: this host.
        rank: how many balancers are before this one; without it, as its settings say.
    """
    rank = balancer.settings["rank"] if rank is None else rank
    for name, hosts in balancer.wanted.items():
        held = balancer.held(name)
        if held is None or held.asked_at(hosts, balancer.settings["directory"], rank) <= time.time():
            try:
                held = balancer.request(name)
            except RenewalError as error:
                yield f"-No certificate for {name} ({', '.join(hosts)}). {balancer.settings['directory']} says: {error}"
        if held is not None and balancer.meets(name, held):
            try:
                if balancer.keep(name, held):
                    yield f"+{name}: valid until {time.strftime('%Y-%m-%d %H:%M', time.gmtime(held.ends))} UTC"
            except (CertificateError, OSError) as error:
                yield f"-The certificate {name} was not loaded: {error}"
    for peer in balancer.settings["peers"]:
        yield from told(balancer, peer)


def told(balancer: Balancer, peer: str) -> Iterator[str]:
    """Hand another balancer what is here, and yield what came of it, as :func:`renew` does."""
    try:
        answer = hand_over(balancer, peer)
    except RenewalError as error:
        yield f"-The certificates were not handed to {peer}: {error}"
        return
    for name, became in answer.items():
        if became == "taken":
            yield f"+{name}: handed to {peer}"
        elif became != "known":
            yield f"-The certificate {name} was refused by {peer}: {became}"


def shown(front: Sequence[Any], host: str) -> str:
    """Return the fingerprint of what a client is shown for a name; raises OSError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    plain = socket.create_connection((front[0], int(front[1])), timeout=5)
    with plain, context.wrap_socket(plain, server_hostname=host) as connection:
        return fingerprint(ssl.DER_cert_to_PEM_cert(connection.getpeercert(True) or b""))


def check(balancer: Balancer) -> Iterator[str]:
    """Yield what a client is not shown as it should be, a sentence each."""
    for name, hosts in balancer.wanted.items():
        held = balancer.held(name)
        if held is None or not balancer.meets(name, held):
            yield f"-{name} has no certificate for {', '.join(hosts)} yet"
            continue
        for host in hosts:
            try:
                if shown(balancer.settings["front"], host) != fingerprint(held.pem):
                    yield f"-{host} is shown another certificate than the one that was given"
            except OSError as error:
                yield f"-{host} can't be asked by TLS ({error})"


def main(arguments: Sequence[str]) -> int:
    """Do what is asked, and return the exit code: 1 where something went wrong."""
    # Whatever is written here, lego's account too, is for root alone.
    os.umask(0o077)
    settings = json.loads((FOLDER / "settings.json").read_text())
    balancer = Balancer({**settings, "secrets": json.loads((FOLDER / "dns_env.json").read_text())})
    action = arguments[0] if arguments else ""
    if action == "receive":
        print(json.dumps(balancer.receive(sys.stdin.read(_MOST_RECEIVED))))
        return 0
    steps = {"check": check, "renew": due if "--check" in arguments else renew_now if "--now" in arguments else renew}
    if action not in steps:
        print("usage: evenkeel-certificate renew [--now] [--check] | check | receive", file=sys.stderr)
        return 2
    failed = False
    with alone("asking") if action == "renew" else contextlib.nullcontext():
        for line in steps[action](balancer):
            failed = failed or line[0] == "-"
            print(line[1:], file=sys.stdout if line[0] == "+" else sys.stderr, flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
