"""Filters about certificates from an issuer (ACME): what is wrong with their settings, and how they are shared."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

_EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
_DIRECTORY = re.compile(r"https://[^/\s]+(/\S*)?")


def acme_problems(
    services: Sequence[Mapping[str, Any]], balancers: Iterable[str], hostvars: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    """Return what is wrong with certificates from an issuer, a sentence each that names setting and mend.

    Args:
        services: as ``services_described`` returns them.
        balancers: their names.
        hostvars: Ansible's ``hostvars``.
    """
    problems: list[str] = []
    automatic = False
    for service in services:
        tls = service["tls"] if isinstance(service.get("tls"), Mapping) else {}
        names = f"site_services.{service['name']}.tls.automatic", "hosts"
        # The guide's API has settings of its own.
        if service.get("guide"):
            names = "backend_app_tls_automatic", "backend_app_hosts"
        problems += _service_problems(*names, service, tls)
        automatic = automatic or tls.get("automatic") is True
    if automatic:
        for name in balancers:
            problems += _settings_problems(hostvars[name])
    return list(dict.fromkeys(problems))


def _service_problems(said: str, hosts: str, service: Mapping[str, Any], tls: Mapping[str, Any]) -> Iterator[str]:
    automatic = tls.get("automatic", False)
    if not isinstance(automatic, bool):
        yield f"{said} is `{automatic}`: write true or false."
    if automatic is not True:
        return
    own = [key for key in ("file", "pem") if tls.get(key)]
    if own:
        yield f"{said.removesuffix('.automatic')} has both automatic and {own[0]}: leave one of them out."
    if not service["hosts"]:
        yield f"{said} is true, but the service has no `{hosts}`: name those the certificate is for."
    for host in service["hosts"]:
        if _is_address(host):
            yield f"{said} is true, and `{hosts}` has the address {host}: name a host; issuers certify names."


def _is_address(text: object) -> bool:
    try:
        ipaddress.ip_address(str(text))
    except ValueError:
        return False
    return True


def _settings_problems(variables: Mapping[str, Any]) -> Iterator[str]:
    def said(name: str, otherwise: Any = "") -> Any:
        try:
            value = variables.get(name, otherwise)
        except Exception:  # noqa: BLE001 - what can't be computed is said by settings_problems
            return otherwise
        return otherwise if value is None else value

    if not _EMAIL.fullmatch(str(said("acme_email"))):
        what = f"is `{said('acme_email')}`, which is no address" if said("acme_email") else "is not set"
        yield f"acme_email {what}: set it to an address that somebody reads; the issuer wants one for the account."
    if str(said("acme_accept_tos", False)).lower() not in {"true", "yes", "on", "1"}:
        yield (
            "acme_accept_tos is not true: set it to true once you have read the issuer's terms of service, and agree "
            "(Let's Encrypt's are at letsencrypt.org/repository)."
        )
    directory = said("acme_directory")
    if directory and not _DIRECTORY.fullmatch(str(directory)):
        yield f"acme_directory is `{directory}`: write the address of the issuer's directory, with https:// before it."
    files = acme_files({"ca": said("acme_ca_file"), "hook": said("acme_dns_hook")}, str(said("inventory_dir")))
    for setting, path, mark, what in (
        ("acme_ca_file", files["ca"], "-----BEGIN CERTIFICATE-----", "no PEM file with a certificate"),
        ("acme_dns_hook", files["hook"], "#!", "no program, whose first line says `#!` and what runs it"),
    ):
        if path:
            yield from _file_problems(setting, path, mark, what)
    if said("acme_dns_env", {}) and not files["hook"]:
        yield "acme_dns_env is set without acme_dns_hook, which would read it: set that too, or leave both out."


def _file_problems(setting: str, path: str, mark: str, what: str) -> Iterator[str]:
    try:
        text = Path(path).read_text(errors="replace")
    except OSError as error:
        why = f"can't be read ({error.strerror})"
        yield f"{setting} is {path}, which {why}: name a file on the machine that runs Ansible."
        return
    if not (text.startswith(mark) if mark == "#!" else mark in text):
        yield f"{setting} is {path}, which is {what}: name another file."


def acme_files(given: Mapping[str, Any], folder: str) -> dict[str, str]:
    """Return files on this machine by absolute paths; empty stays empty.

    Args:
        given: paths, by any names.
        folder: what they are relative to.
    """
    return {name: str(Path(folder, str(path)).expanduser()) if path else "" for name, path in given.items()}


def acme_shared(
    results: Iterable[Mapping[str, Any]], peers: Sequence[Mapping[str, Any]], paths: Mapping[str, str]
) -> dict[str, Any]:
    """Return what a balancer lets the others do and knows of them: the texts of three files of SSH.

    Args:
        results: what each of them said, as Ansible registers a loop over ``peers``: its key, its host's keys, its port.
        peers: the other balancers, as ``firewall_sources`` returns them.
        paths: ``folder``, where the program's key is, ``user``, whom they log in as, and ``program``.

    Returns:
        ``authorized_keys``, ``known_hosts`` and ``ssh_config``; ``complete``, whether all have answered.
    """
    said = {each["item"]["name"]: _identity(str(each.get("stdout") or "")) for each in results if "item" in each}
    texts = dict.fromkeys(("authorized_keys", "known_hosts", "ssh_config"), "# Written by evenkeel, role acme.\n")
    complete = True
    command = f"/usr/bin/sudo -n /usr/bin/python3 -I {paths['program']} receive"
    for peer in peers:
        key, host_keys, port = said.get(peer["name"], ("", [], 22))
        complete = complete and bool(key and host_keys)
        if not (key and host_keys):
            continue
        # A name would have to be looked up backwards, which sshd does not do.
        sources = [address for address in peer["from"] if _is_address(address)]
        limit = f'from="{",".join(sources)}",' if sources else ""
        texts["authorized_keys"] += f'restrict,{limit}command="{command}" {key} {peer["name"]}\n'
        texts["known_hosts"] += "".join(f"{peer['name']} {each}\n" for each in host_keys)
        options = {
            "HostName": peer["address"],
            "HostKeyAlias": peer["name"],
            "Port": port,
            "User": paths["user"],
            "IdentityFile": f"{paths['folder']}/id_ed25519",
            "IdentitiesOnly": "yes",
            "UserKnownHostsFile": f"{paths['folder']}/known_hosts",
            "GlobalKnownHostsFile": "/dev/null",
            "StrictHostKeyChecking": "yes",
            "UpdateHostKeys": "no",
            "BatchMode": "yes",
            "ConnectTimeout": 5,
            "LogLevel": "ERROR",
        }
        lines = "".join(f"  {name} {value}\n" for name, value in options.items())
        texts["ssh_config"] += f"Host {peer['name']}\n{lines}"
    return {**texts, "complete": complete}


def _identity(text: str) -> tuple[str, list[str], int]:
    """Return a balancer's own key, its host's keys and SSH's port; empty where it did not say."""
    keys = [" ".join(line.split()[:2]) for line in text.splitlines() if re.match(r"(ssh|ecdsa|sk)-", line)]
    ports = [int(port) for port in re.findall(r"^port (\d+)$", text, re.MULTILINE)]
    if not keys or "evenkeel-certificate" not in text.splitlines()[0]:
        return "", [], 22
    return keys[0], keys[1:], next(iter(ports), 22)


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {
            "acme_files": acme_files,
            "acme_problems": acme_problems,
            "acme_shared": acme_shared,
        }
