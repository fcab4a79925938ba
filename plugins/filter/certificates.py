"""Filters about certificates for TLS at the front door: what is wrong with them, and what HAProxy gets of them.

They run on the machine that runs Ansible, with the library ``cryptography``, which Ansible itself needs.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleFilterError
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

# The name of the certificate of the whole site; no service can be called so.
SITE = "site"
# HAProxy takes a certificate at run time in one command of 16 kB.
MOST_BYTES = 15_000
# With a smaller one the distributions' OpenSSL refuses the certificate.
_FEWEST_BITS = 2048
_BLOCK = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----\s.*?-----END \1-----", re.DOTALL)


class CertificateError(Exception):
    """Why a certificate can't be used, and how to mend that; its text goes behind the setting's name."""


def _text(given: Mapping[str, Any]) -> str:
    """Return the PEM that ``file`` or ``pem`` gives; raises CertificateError."""
    if given.get("pem"):
        return str(given["pem"])
    path = Path(str(given["file"]))
    try:
        return path.read_text(encoding="ascii")
    except OSError as error:
        raise CertificateError(
            f"is {path}, which can't be read ({error.strerror}): name a file on the machine that runs Ansible."
        ) from None
    except UnicodeDecodeError:
        raise CertificateError(
            f"is {path}, which is no PEM: convert it, so that it begins with -----BEGIN CERTIFICATE-----."
        ) from None


def _certificates(blocks: Iterable[tuple[str, str]]) -> list[x509.Certificate]:
    found = []
    for kind, block in blocks:
        if kind == "CERTIFICATE":
            try:
                found.append(x509.load_pem_x509_certificate(block.encode()))
            except ValueError:
                raise CertificateError(
                    f"has a certificate that can't be read (the {_ordinal(len(found) + 1)}): copy it anew."
                ) from None
    if not found:
        raise CertificateError("has no certificate in it: put the certificate, its chain and its key into it.")
    return found


def _ordinal(number: int) -> str:
    return {1: "first", 2: "second", 3: "third"}.get(number, f"{number}th")


def _key(blocks: Sequence[tuple[str, str]]) -> PrivateKeyTypes:
    keys = [block for kind, block in blocks if kind.endswith("PRIVATE KEY")]
    if not keys:
        raise CertificateError(
            "has no private key in it: append the key's file to it (cat fullchain.pem privkey.pem >both.pem)."
        )
    if len(keys) > 1:
        raise CertificateError(f"has {len(keys)} private keys in it: leave the one of the first certificate.")
    if "ENCRYPTED" in keys[0]:
        raise CertificateError(
            "has a key that is encrypted, which HAProxy can't open at boot: decrypt it (openssl pkey -in key.pem), and "
            "protect the file with Ansible's vault as `pem` instead."
        )
    try:
        return serialization.load_pem_private_key(keys[0].encode(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise CertificateError("has a private key that can't be read: copy it anew.") from None


def _public(key: Any) -> bytes:
    return bytes(
        key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo),
    )


def names_of(certificate: x509.Certificate) -> list[str]:
    """Return the host names that a certificate is for, in lower case; its common name counts for no client any more."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return []
    return [name.lower() for name in names.get_values_for_type(x509.DNSName)]


def covers(names: Iterable[str], host: str) -> bool:
    """Return whether one of a certificate's names is the host's; ``*`` stands for its first label alone."""
    return bool({host.lower(), "*." + host.lower().partition(".")[2]} & set(names))


def read(given: Mapping[str, Any]) -> tuple[str, list[x509.Certificate]]:
    """Return a PEM, of which only the key and the certificates are left, and its certificates, its own first.

    Args:
        given: ``file``, a path on this machine, or ``pem``, the text itself.

    Raises:
        CertificateError: HAProxy could not use it.
    """
    blocks = [(found[1], found[0]) for found in _BLOCK.finditer(_text(given).replace("\r\n", "\n"))]
    if not blocks:
        raise CertificateError("is no PEM: it has no line such as -----BEGIN CERTIFICATE-----.")
    certificates, key = _certificates(blocks), _key(blocks)
    own = _public(key.public_key())
    fits = [number for number, each in enumerate(certificates) if _public(each.public_key()) == own]
    if not fits:
        raise CertificateError("has a private key that does not fit its certificate: put the two together that belong.")
    if fits[0] != 0:
        raise CertificateError(
            f"has the key of its {_ordinal(fits[0] + 1)} certificate: put that one first, and its chain behind it."
        )
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size < _FEWEST_BITS:
        raise CertificateError(f"has a key of {key.key_size} bits: HAProxy takes one of {_FEWEST_BITS} or more.")
    kept = [block for kind, block in blocks if kind == "CERTIFICATE" or kind.endswith("PRIVATE KEY")]
    # Without empty lines, by one of which HAProxy knows a command's end.
    text = "".join(re.sub(r"\s*\n\s*", "\n", block) + "\n" for block in kept)
    if len(text) > MOST_BYTES:
        raise CertificateError(
            f"has {len(text)} bytes, and HAProxy can change one of at most {MOST_BYTES} while it runs: leave out what "
            "clients have themselves (the root's certificate)."
        )
    return text, certificates


def _check_time(certificate: x509.Certificate, now: dt.datetime) -> None:
    if certificate.not_valid_after_utc <= now:
        raise CertificateError(f"expired on {certificate.not_valid_after_utc:%Y-%m-%d}: get a new certificate.")
    if certificate.not_valid_before_utc > now:
        raise CertificateError(
            f"is valid only from {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC on: look at this machine's "
            "clock, or wait."
        )


def _given(name: str, given: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with how a certificate is given."""
    if given.get("file") and given.get("pem"):
        yield f"{name} has both file and pem: one of them says which certificate it is."
    elif not (given.get("file") or given.get("pem")):
        yield f"{name} has neither file nor pem: name the file of its certificate, chain and key."


def certificates_problems(
    services: Sequence[Mapping[str, Any]],
    certificates: Mapping[str, Mapping[str, Any]],
    sites: Iterable[Mapping[str, Any]],
    now: dt.datetime | None = None,
) -> list[str]:
    """Return what is wrong with the certificates, a sentence each that names service and key.

    Args:
        services: as ``services_described`` returns them.
        certificates: ``{service: {"file": str, "pem": str}}``, as ``services_certificates`` returns them.
        sites: the same of the whole site, as each balancer has it.
        now: the time; without it, the clock's.
    """
    moment = now or dt.datetime.now(dt.UTC)
    listed = [site for site in sites if site.get("file") or site.get("pem")]
    problems = []
    for service in services:
        if service["name"] in certificates:
            given, name = certificates[service["name"]], f"site_services.{service['name']}.tls"
            problems += [*_given(name, given)] or [*_problems(f"{name}.", given, service["hosts"], moment)]
            problems += _unreachable(name, service, bool(listed))
    own = {*certificates, *(service["name"] for service in services if (service.get("tls") or {}).get("automatic"))}
    theirs = [host for service in services if service["name"] not in own for host in service["hosts"]]
    for site in listed:
        both = site.get("file") and site.get("pem")
        problems += (
            ["haproxy_tls_file and haproxy_tls_pem are both set: one of them says which certificate it is."]
            if both
            else _problems("haproxy_tls_", site, theirs, moment)
        )
    return list(dict.fromkeys(problems))


def site_certificates(balancers: Iterable[str], hostvars: Mapping[str, Mapping[str, Any]]) -> list[dict[str, str]]:
    """Return what each balancer's variables say of the site's own certificate."""
    found = []
    for name in balancers:
        try:
            variables = hostvars[name]
            given = {key: str(variables.get(f"haproxy_tls_{key}") or "") for key in ("file", "pem")}
            folder = str(variables.get("inventory_dir") or "")
        except Exception:  # noqa: BLE001 - what can't be computed is said by settings_problems
            continue
        found.append({**given, "file": str(Path(folder, given["file"]).expanduser()) if given["file"] else ""})
    return found


def _problems(name: str, given: Mapping[str, Any], hosts: Iterable[str], now: dt.datetime) -> Iterator[str]:
    key = f"{name}{'pem' if given.get('pem') else 'file'}"
    try:
        _, certificates = read(given)
        _check_time(certificates[0], now)
    except CertificateError as error:
        yield f"{key} {error}"
        return
    names = names_of(certificates[0])
    left = [host for host in hosts if not covers(names, host)]
    if left:
        yield (
            f"{key} is a certificate for {', '.join(names) or 'no host name'}, and not for {', '.join(left)}: get one "
            "that names all hosts, or take them out of `hosts`."
        )


def _unreachable(name: str, service: Mapping[str, Any], site: bool) -> Iterator[str]:
    if not service["hosts"] and (site or not service["default"]):
        why = "haproxy_tls_file (or _pem) has the one for all other names" if site else "it is not the default one"
        yield (
            f"{name} is set, but the service has no `hosts`, by which a certificate is chosen, and {why}: name its "
            "hosts, or leave its `tls` out."
        )


def certificates_read(
    certificates: Mapping[str, Mapping[str, Any]], site: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """Return what HAProxy gets: ``{name: {"pem": str, "expires": int}}``; the site's own is called ``site``.

    Args:
        certificates: ``{service: {"file": str, "pem": str}}``.
        site: the same of the whole site; empty where it has none.

    ``expires`` is in seconds since 1970.

    Raises:
        AnsibleFilterError: one of them can't be used.
    """
    given = {**certificates, **({SITE: site} if site.get("file") or site.get("pem") else {})}
    found = {}
    for name, each in given.items():
        try:
            text, chain = read(each)
        except CertificateError as error:
            raise AnsibleFilterError(f"The certificate of {name} {error}") from None
        found[name] = {"pem": text, "expires": int(chain[0].not_valid_after_utc.timestamp())}
    return found


def certificates_list(services: Sequence[Mapping[str, Any]], names: Iterable[str], folder: str) -> list[str]:
    """Return the lines of HAProxy's crt-list: which certificate is shown to whom.

    The first is for clients that ask for no name, or for one that no line has (``!*``): the site's own, or the one of
    the service that gets what nobody else is asked for. Where there is neither, such clients are refused.

    Args:
        services: with ``name``, ``hosts`` and ``default``.
        names: those that have a certificate of their own, and ``site``.
        folder: where the certificates lie.
    """
    own = set(names)
    usual = certificates_usual(services, own)
    others = [service for service in services if service["name"] in own - {usual}]
    return [
        *([f"{folder}/{usual}.pem !*"] if usual else []),
        *(f"{folder}/{each['name']}.pem {' '.join(host.lower() for host in each['hosts'])}" for each in others),
    ]


def certificates_usual(services: Sequence[Mapping[str, Any]], names: Iterable[str]) -> str:
    """Return whose certificate is for all names that no other has; empty where such clients are refused."""
    own = set(names)
    defaults = [service["name"] for service in services if service["default"] and service["name"] in own]
    return SITE if SITE in own else defaults[0] if defaults else ""


def services_secured(
    services: Iterable[Mapping[str, Any]], site: Mapping[str, Any], names: Iterable[str] = ()
) -> list[str]:
    """Return the names of the services that are asked by TLS.

    Args:
        services: with their ``tls``.
        site: ``file`` and ``pem`` of the site's own certificate, which is for all services without one.
        names: those that have a certificate besides.
    """
    every, own = bool(site.get("file") or site.get("pem")), set(names)
    return [service["name"] for service in services if every or service.get("tls") or service["name"] in own]


def balancers_secured(
    balancers: Iterable[str], hostvars: Mapping[str, Mapping[str, Any]], services: Sequence[Mapping[str, Any]]
) -> list[str]:
    """Return the balancers that have a certificate, the site's own or a service's."""
    return [
        name for name in balancers if services_secured(services, hostvars[name].get("topology_site_certificate") or {})
    ]


def services_urls(services: Iterable[Mapping[str, Any]], address: str, port: object) -> list[str]:
    """Return where services are asked by TLS, each at its first host name, or else at the address."""
    suffix = "" if str(port) == "443" else f":{port}"
    address = f"[{address}]" if ":" in address else address
    return list(dict.fromkeys(f"https://{next(iter(each['hosts']), address)}{suffix}/" for each in services))


def certificates_notes(
    balancers: Iterable[str], hostvars: Mapping[str, Mapping[str, Any]], now: float | None = None
) -> list[str]:
    """Return until when the balancers' certificates are valid, a line for each and its end.

    Args:
        balancers: their names.
        hostvars: Ansible's ``hostvars``, with what status.yml registered as ``status_certificates``.
        now: seconds since 1970; without it, the clock's.
    """
    answers = {name: str((hostvars[name].get("status_certificates") or {}).get("content", "")) for name in balancers}
    moment = dt.datetime.now(dt.UTC).timestamp() if now is None else now
    said: dict[tuple[str, str], list[str]] = {}
    for balancer, text in answers.items():
        for name, seconds in re.findall(r'not_after_seconds{certificate="([a-z0-9-]+)"} ([0-9.e+]+)', text):
            end = dt.datetime.fromtimestamp(float(seconds), dt.UTC)
            days = int((float(seconds) - moment) // 86_400)
            left = f"for {days} days" if days >= 0 else "EXPIRED"
            said.setdefault((name, f"until {end:%Y-%m-%d} ({left})"), []).append(balancer)
    return [f"The certificate `{name}` is valid {until}: {', '.join(who)}." for (name, until), who in said.items()]


class FilterModule:
    """What Ansible looks for in this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {
            "balancers_secured": balancers_secured,
            "certificates_list": certificates_list,
            "certificates_notes": certificates_notes,
            "certificates_problems": certificates_problems,
            "certificates_read": certificates_read,
            "certificates_usual": certificates_usual,
            "services_secured": services_secured,
            "site_certificates": site_certificates,
            "services_urls": services_urls,
        }
