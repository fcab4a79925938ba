"""Filters about hosts whose service address is a name: which address it is, and what is wrong with it."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Mapping
from typing import Any

# What a name has on a host: {"addresses": [str], "why": str}, as the module `host_names` says it.
Answers = Mapping[str, Mapping[str, Any]]


def names_answers(
    site: Iterable[str], hostvars: Mapping[str, Mapping[str, Any]], names: Mapping[str, str]
) -> dict[str, dict[str, Mapping[str, Any]]]:
    """Return, by name and host, what those hosts say of it that use it.

    A host's own word for its own name counts only where no other host was asked: on Debian and Ubuntu it is often
    127.0.1.1 there.

    Args:
        site: the hosts.
        hostvars: Ansible's ``hostvars``, with what was asked (the task's ``preflight_names``).
        names: by host, the name that its service address is.
    """
    asked = {str(host): hostvars[host].get("preflight_names") or {} for host in site}
    said = {host: each["names"] for host, each in asked.items() if "names" in each}
    found = {}
    for name in dict.fromkeys(names.values()):
        answers = {host: each[name] for host, each in said.items()}
        others = {host: each for host, each in answers.items() if names.get(host) != name}
        found[name] = others or answers
    return found


def names_addresses(answers: Mapping[str, Answers]) -> dict[str, str]:
    """Return the address by name, of those that have one; of IPv4 and IPv6 the former.

    Args:
        answers: as :func:`names_answers` returns them.
    """
    chosen = {name: [each for answer in said.values() for each in _chosen(answer)] for name, said in answers.items()}
    return {name: addresses[0] for name, addresses in chosen.items() if addresses}


def names_problems(answers: Mapping[str, Answers], names: Mapping[str, str]) -> list[str]:
    """Return what is wrong with names that are service addresses, a sentence with its mend each.

    Args:
        answers: as :func:`names_answers` returns them.
        names: by host, the name that its service address is.
    """
    problems = []
    for host, name in names.items():
        said = answers.get(name, {})
        wrong = {asked: _problem(answer) for asked, answer in said.items()}
        begin = f"The service address of {host} is the name `{name}`, which "
        if not said:
            problems.append(f"{begin}no host of this run could be asked for: see above why none answers.")
        for words in dict.fromkeys(each for each in wrong.values() if each):
            where = _listed([asked for asked, each in wrong.items() if each == words])
            problems.append(
                f"{begin}{words} on {where}: let DNS, or /etc/hosts there, say the one address by which {host} is "
                "reached, or set service_address to it."
            )
        places: dict[str, list[str]] = {}
        for asked, answer in said.items() if not any(wrong.values()) else ():
            places.setdefault(_chosen(answer)[0], []).append(asked)
        if len(places) > 1:
            each = " and ".join(f"{address} on {_listed(hosts)}" for address, hosts in places.items())
            problems.append(
                f"{begin}is {each}: let it be the same on every host, or set service_address to an address that is."
            )
    return problems


def names_shared(names: Mapping[str, str], resolved: Mapping[str, str], known: Mapping[str, str]) -> list[str]:
    """Return which hosts turn out to be at one address, a sentence each.

    Args:
        names: by host, the name that its service address is.
        resolved: the address by name.
        known: the address of each host, where it is known.
    """
    whole = {**known, **{host: resolved[name] for host, name in names.items() if name in resolved}}
    held: dict[str, list[str]] = {}
    for host, address in whole.items():
        held.setdefault(address, []).append(host)
    return [
        f"{' and '.join(hosts)} share the address {address}, as their names say: give each host a `service_address` of "
        "its own."
        for address, hosts in held.items()
        if len(hosts) > 1 and any(host in names for host in hosts)
    ]


def _chosen(answer: Mapping[str, Any]) -> list[str]:
    """Return the addresses of the kind that is taken."""
    addresses = [str(each) for each in answer["addresses"]]
    return [each for each in addresses if ":" not in each] or addresses


def _problem(answer: Mapping[str, Any]) -> str:
    chosen = _chosen(answer)
    if not chosen:
        return f"has no address ({str(answer['why']).rstrip('.')})"
    if len(chosen) > 1:
        return f"has {len(chosen)} addresses ({', '.join(chosen)})"
    address = ipaddress.ip_address(chosen[0])
    if address.is_loopback or address.is_unspecified or address.is_link_local or address.is_multicast:
        return f"is {address}, where no other host is reached,"
    return ""


def _listed(hosts: list[str]) -> str:
    shown = hosts if len(hosts) <= 4 else [*hosts[:3], f"{len(hosts) - 3} more"]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {
            "names_addresses": names_addresses,
            "names_answers": names_answers,
            "names_problems": names_problems,
            "names_shared": names_shared,
        }
