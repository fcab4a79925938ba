"""Ansible module: bring a certificate to a HAProxy, on its disk and in the running process, without a reload.

The running process gets it first, and the disk right after: what is on the disk has been loaded. So a run that was
killed in between is mended by the next one, which finds the disk's still to be the old one. Runs on the balancer, with
the distribution's Python.
"""

from __future__ import annotations

import hashlib
import os
import re
import socket
import ssl
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

DOCUMENTATION = """
module: haproxy_certificate
short_description: Bring a certificate to a HAProxy without a reload
description:
  - Writes a PEM file for root alone, and loads it into the running HAProxy where that has read the file.
  - A HAProxy that does not know the file gets it with its next configuration.
options:
  path: {description: "The file, as HAProxy's crt-list names it.", type: path, required: true}
  pem: {description: "Key, certificate and chain; without empty lines.", type: str, required: true}
  expires: {description: "The certificate's end, in seconds since 1970.", type: int, required: true}
  map: {description: "HAProxy's map of the ends, by the names of the files.", type: path,
        default: /var/lib/evenkeel/haproxy/certificates.map}
  socket: {description: "The runtime socket, level admin.", type: path, default: /run/haproxy/admin.sock}
author: [evenkeel]
"""
EXAMPLES = """
- name: Bring the shop's certificate
  haproxy_certificate: {path: /etc/haproxy/evenkeel-tls/shop.pem, pem: "{{ vault_shop_pem }}", expires: 1798761600}
"""
RETURN = """
loaded: {description: "Whether the running HAProxy was given it.", type: bool, returned: always}
"""

Ask = Callable[[str], str]
_KEY = re.compile(r"(-----BEGIN [A-Z ]*PRIVATE KEY-----\n).*?(\n-----END)", re.DOTALL)
_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----\n.*?-----END CERTIFICATE-----", re.DOTALL)
# What a host's file begins with, so that one knows whose it is. HAProxy passes over it.
HEAD = "# Written by evenkeel, role haproxy.\n"


class CertificateError(Exception):
    """What HAProxy refused; its text is the sentence the operator reads."""


def ask(path: str, command: str) -> str:
    """Return the answer of a runtime socket; raises FileNotFoundError, ConnectionRefusedError where no HAProxy runs."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(10)
        connection.connect(path)
        connection.sendall(f"{command}\n".encode())
        return b"".join(iter(lambda: connection.recv(65536), b"")).decode()


def masked(pem: str, former: str = "") -> str:
    """Return a PEM without its key; one that is not the former PEM's is said to be changed."""
    keys, others = _KEY.findall(pem), _KEY.search(former)
    other = bool(former and keys and (others is None or others[0] not in pem))
    return _KEY.sub(rf"\g<1>********{' (changed)' if other else ''}\g<2>", pem)


def fingerprint(pem: str) -> str:
    """Return the SHA-1 of a PEM's first certificate as HAProxy writes it; empty where there is none."""
    found = _CERTIFICATE.search(pem)
    return hashlib.sha1(ssl.PEM_cert_to_DER_cert(found[0])).hexdigest().upper() if found else ""


def loaded(ask: Ask, path: str) -> str | None:
    """Return the fingerprint of what the running process shows; None where it does not know the file, or none runs."""
    try:
        answer = ask(f"show ssl cert {path}")
    except (FileNotFoundError, ConnectionRefusedError):
        return None
    found = re.search(r"^SHA1 FingerPrint: *([0-9A-F]+)", answer, re.MULTILINE)
    return found[1] if found else None


def load(ask: Ask, path: str, pem: str) -> None:
    """Give the running process a certificate; raises CertificateError where it refuses."""
    # Of a run that was killed: there is one transaction at a time, and it would be in the way.
    for left in re.findall(r"^\*(\S+)", ask("show ssl cert"), re.MULTILINE):
        if Path(left).parent == Path(path).parent:
            ask(f"abort ssl cert {left}")
    for command, word in ((f"set ssl cert {path} <<\n{pem}", "Transaction"), (f"commit ssl cert {path}", "Success")):
        answer = ask(command)
        if word not in answer:
            ask(f"abort ssl cert {path}")
            raise CertificateError(f"HAProxy refused the certificate {path}: {' '.join(answer.split()) or 'no answer'}")


def draft(path: Path, text: str, mode: int) -> Path:
    """Write a file beside its place, whole and on the disk, and return it."""
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    # Nobody else can read it, not for a moment either.
    handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(text)
        os.fchmod(file.fileno(), mode)
        file.flush()
        os.fsync(file.fileno())
    return new


def note(ask: Ask, path: Path, name: str, expires: int, check_mode: bool) -> bool:
    """Note a certificate's end where Prometheus asks for it, in the file and in the process; whether it was another."""
    lines = path.read_text().splitlines() if path.exists() else []
    kept = [line for line in lines if line.split(" ")[0] != name]
    wanted = [*kept, f"{name} {expires}"]
    try:
        told = ask(f"get map {path} {name}")
    except (FileNotFoundError, ConnectionRefusedError):
        told = ""
    # Of a process that has no such map nothing is wanted.
    stale = "type=" in told and f'value="{expires}"' not in told
    if sorted(wanted) == sorted(lines) and not stale:
        return False
    if not check_mode:
        draft(path, "".join(f"{line}\n" for line in wanted), 0o644).replace(path)
        if stale:
            ask(f"{'set' if 'found=yes' in told else 'add'} map {path} {name} {expires}")
    return True


def run(parameters: dict[str, Any], check_mode: bool, ask: Ask) -> dict[str, Any]:
    """Do what the module's parameters ask for, and return its result; raises CertificateError, OSError."""
    path, pem = Path(parameters["path"]), parameters["pem"]
    before = path.read_text() if path.exists() else ""
    after = HEAD + pem
    shown = loaded(ask, str(path))
    stale = shown is not None and (before != after or shown != fingerprint(pem))
    changed = stale or before != after
    if changed and not check_mode:
        new = draft(path, after, 0o600)
        try:
            if stale:
                load(ask, str(path), pem)
            new.replace(path)
        finally:
            new.unlink(missing_ok=True)
    noted = note(ask, Path(parameters["map"]), path.stem, parameters["expires"], check_mode)
    return {"changed": changed or noted, "loaded": stale, "diff": diff(str(path), before, after)}


def diff(path: str, before: str, after: str) -> dict[str, str]:
    """Return the difference as Ansible shows it, without keys."""
    sides = {"before": masked(before), "after": masked(after, before)}
    return {**sides, "before_header": path, "after_header": path}


def main() -> None:
    """Ansible's entry point."""
    from ansible.module_utils.basic import AnsibleModule

    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "pem": {"type": "str", "required": True, "no_log": True},
            "expires": {"type": "int", "required": True},
            "map": {"type": "path", "default": "/var/lib/evenkeel/haproxy/certificates.map"},
            "socket": {"type": "path", "default": "/run/haproxy/admin.sock"},
        },
        supports_check_mode=True,
    )
    try:
        result = run(module.params, module.check_mode, partial(ask, module.params["socket"]))
    except CertificateError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"The certificate {module.params['path']} can't be brought to HAProxy: {error}.")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
