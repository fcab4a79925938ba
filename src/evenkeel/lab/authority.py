"""Certificates for tests and labs: ``python -m evenkeel.lab.authority FOLDER NAME=HOST,…`` writes them there."""

from __future__ import annotations

import datetime as dt
import ipaddress
import sys
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

Key = Any
_PEM = serialization.Encoding.PEM


def text_of(key: Key, password: bytes | None = None) -> str:
    """Return a private key as PEM, encrypted where there is a password."""
    encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return str(key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, encryption).decode())


class Authority:
    """Issues certificates, by a chain of a root and one below it."""

    def __init__(self) -> None:
        """Make the two."""
        self._root_key, self._key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
        self._root = self._sign("Test Root", self._root_key, "Test Root", self._root_key, ca=True)
        self._between = self._sign("Test Issuer", self._key, "Test Root", self._root_key, ca=True)

    @property
    def root(self) -> str:
        """What clients trust, as PEM."""
        return self._root.public_bytes(_PEM).decode()

    @property
    def chain(self) -> str:
        """What goes behind a certificate, as PEM."""
        return self._between.public_bytes(_PEM).decode()

    def certificate(self, *hosts: str, key: Key, days: tuple[float, float] = (-1, 90)) -> str:
        """Return a certificate for hosts, names or addresses, valid from and to so many days from now, as PEM."""
        made = self._sign(hosts[0], key, "Test Issuer", self._key, hosts=hosts, days=days)
        return made.public_bytes(_PEM).decode()

    def pem(self, *hosts: str, days: tuple[float, float] = (-1, 90)) -> str:
        """Return certificate, chain and key for hosts, as HAProxy takes them."""
        key = ec.generate_private_key(ec.SECP256R1())
        return self.certificate(*hosts, key=key, days=days) + self.chain + text_of(key)

    @staticmethod
    def _sign(
        subject: str,
        key: Key,
        issuer: str,
        issuer_key: Key,
        *,
        hosts: tuple[str, ...] = (),
        ca: bool = False,
        days: tuple[float, float] = (-1, 90),
    ) -> x509.Certificate:
        now = dt.datetime.now(dt.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + dt.timedelta(days=days[0]))
            .not_valid_after(now + dt.timedelta(days=days[1]))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
        )
        if ca:
            usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
            builder = builder.add_extension(usage, critical=True)
        if hosts:
            names = x509.SubjectAlternativeName([_name(host) for host in hosts])
            builder = builder.add_extension(names, critical=False)
        return builder.sign(issuer_key, hashes.SHA256())


def _name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def main(arguments: list[str]) -> None:
    """Write the files, unless they are there."""
    folder = Path(arguments[0])
    folder.mkdir(parents=True, exist_ok=True)
    authority = Authority()
    (folder / "ca.pem").write_text(authority.root)
    for name, _, hosts in (argument.partition("=") for argument in arguments[1:]):
        (folder / f"{name}.pem").write_text(authority.pem(*hosts.split(",")))


if __name__ == "__main__":
    main(sys.argv[1:])
