"""Filters that derive from the inventory which ports of a host answer to whom, and say what is wrong with that.

They read inventory variables only, never facts: a host that is down, or outside ``--limit``, is let in all the same.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

# Where a host's own programs listen, which is where its connections may come from too.
_OWN = ("backend_app_address", "haproxy_address", "haproxy_stats_address", "pushgateway_address", "prometheus_address")
# Interfaces as the kernel names them, with nftables' wildcard at the end.
_INTERFACE = re.compile(r"[A-Za-z0-9_.:@-]+\*?")


def firewall_addresses(
    names: Iterable[str], hostvars: Mapping[str, Mapping[str, Any]], resolved: Mapping[str, str] | None = None
) -> list[str]:
    """Return the addresses that connections of hosts come from, as the inventory knows them.

    Args:
        names: the hosts.
        hostvars: Ansible's ``hostvars``.
        resolved: the address by name, of hosts whose service address is a name.
    """
    found: dict[str, None] = {}
    for name in names:
        variables = hostvars[name]
        service = variables.get("service_address") or variables.get("ansible_host") or name
        own = [variables.get(variable) for variable in (*_OWN, "grafana_address")]
        service = (resolved or {}).get(str(service), str(service))
        found |= dict.fromkeys([service, *(str(each) for each in own if _is_own(each))])
        found |= dict.fromkeys(str(each) for each in variables.get("firewall_addresses") or [])
    return list(found)


def firewall_mixed(
    clients: Iterable[str],
    endpoints: Iterable[Mapping[str, Any]],
    hostvars: Mapping[str, Mapping[str, Any]],
    resolved: Mapping[str, str] | None = None,
) -> list[str]:
    """Return which hosts ask others by a version of IP in which those don't know them, a sentence each.

    Args:
        clients: the hosts that ask.
        endpoints: whom, as ``topology_endpoints`` returns them. What is a name still is passed over.
        hostvars: Ansible's ``hostvars``.
        resolved: the address by name.
    """
    problems, asked = [], [(each["name"], each["address"]) for each in endpoints]
    for client in clients:
        try:
            sources = {_version(text) for text in firewall_addresses([client], hostvars, resolved)}
        except Exception:  # noqa: BLE001 - whatever a template raises; settings_problems says what is wrong
            continue
        if 0 in sources:
            continue
        for version in (4, 6):
            others = [name for name, address in asked if name != client and _version(address) == version]
            if others and version not in sources:
                problems.append(
                    f"{client} reaches {', '.join(dict.fromkeys(others))} by IPv{version}, and of {client} only "
                    f"IPv{10 - version} is known, which firewalls there and chaos.yml must know: add the IPv{version} "
                    f"address that it comes from to firewall_addresses of {client}."
                )
    return problems


def _version(text: object) -> int:
    """Return 4 or 6, of an address or a network; 0 of anything else."""
    try:
        return ipaddress.ip_network(str(text), strict=False).version
    except ValueError:
        return 0


def firewall_sources(
    endpoints: Iterable[Mapping[str, Any]],
    hostvars: Mapping[str, Mapping[str, Any]],
    resolved: Mapping[str, str] | None = None,
) -> list[dict[str, Any]]:
    """Return hosts with where their connections come from: ``[{"name": str, "address": str, "from": [str, …]}, …]``.

    Args:
        endpoints: as ``topology_endpoints`` returns them.
        hostvars: Ansible's ``hostvars``.
        resolved: the address by name.
    """
    return [
        {
            "name": each["name"],
            "address": each["address"],
            "from": firewall_addresses([each["name"]], hostvars, resolved),
        }
        for each in endpoints
    ]


def _is_own(text: object) -> bool:
    try:
        address = ipaddress.ip_address(str(text))
    except ValueError:
        return False
    return not (address.is_unspecified or address.is_loopback)


def firewall_app_ports(services: Iterable[Mapping[str, Any]]) -> list[int]:
    """Return the host's ports of services, those that stand in during a roll-out too.

    Args:
        services: as ``topology_services_here`` has them.
    """
    return [int(service[key]) for service in services for key in ("host_port", "surge_port") if service[key]]


def firewall_problems(hostvars: Mapping[str, Mapping[str, Any]], names: Sequence[str]) -> list[str]:
    """Return what is wrong with the firewall's settings, a sentence each with host, variable and mend.

    Args:
        hostvars: Ansible's ``hostvars``.
        names: the hosts of the site.
    """
    said: dict[str, list[str]] = {}
    for name in names:
        for problem in _problems(hostvars[name]):
            said.setdefault(problem, []).append(name)
    return [problem.replace("{hosts}", ", ".join(hosts)) for problem, hosts in said.items()]


def _problems(variables: Mapping[str, Any]) -> Iterator[str]:
    for key in ("admin_networks", "firewall_admin_networks", "firewall_addresses", "haproxy_trusted_proxies"):
        for text in _listed(variables, key):
            wrong = _network_problem(str(text))
            if wrong:
                yield f"{key} of {{hosts}} has `{text}`, which {wrong}: write an address or a network, as 192.0.2.0/24."
    for port in _listed(variables, "firewall_open_ports"):
        if not re.fullmatch(r"[0-9]{1,5}", str(port)) or not 1 <= int(str(port)) <= 65535:
            yield f"firewall_open_ports of {{hosts}} has `{port}`: write numbers from 1 to 65535."
    for interface in _listed(variables, "firewall_trusted_interfaces"):
        if not _INTERFACE.fullmatch(str(interface)):
            yield (
                f"firewall_trusted_interfaces of {{hosts}} has `{interface}`, which names no interface: write it as "
                "`ip link` does, with `*` at its end for all that begin so."
            )


def _listed(variables: Mapping[str, Any], key: str) -> Sequence[Any]:
    """Return a setting that is a list; what is none is told of by ``settings_problems``."""
    try:
        value = variables.get(key)
    except Exception:  # noqa: BLE001 - whatever a template raises
        return []
    return value if isinstance(value, Sequence) and not isinstance(value, str | bytes) else []


def _network_problem(text: str) -> str:
    try:
        network = ipaddress.ip_network(text)
    except ValueError as error:
        return "has bits set behind its network" if "host bits" in str(error) else "is no address and no network"
    # To name everybody is to have none.
    return "is everybody" if network.prefixlen == 0 else ""


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {
            "firewall_addresses": firewall_addresses,
            "firewall_app_ports": firewall_app_ports,
            "firewall_mixed": firewall_mixed,
            "firewall_problems": firewall_problems,
            "firewall_sources": firewall_sources,
        }
