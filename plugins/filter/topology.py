"""Filters that derive from the inventory who talks to whom.

They read inventory variables only, never facts: a host that is down, or outside ``--limit``, is listed all the same.
"""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError

# What HAProxy accepts as a server's name.
_NAME = re.compile(r"[A-Za-z0-9_.:-]+")


def topology_endpoints(
    names: Iterable[str],
    hostvars: Mapping[str, Mapping[str, Any]],
    port_variable: str,
    default_port: int,
) -> list[dict[str, Any]]:
    """Return ``[{"name": str, "address": str, "port": int}, …]`` in inventory order.

    Args:
        names: the hosts, usually a group.
        hostvars: Ansible's ``hostvars``.
        port_variable: the inventory variable that may hold the host's port.
        default_port: the port where that variable is not set; equal to the role's default, which is invisible here.

    Raises:
        AnsibleFilterError: a port that is not a number from 1 to 65535; names the host and the variable.
    """
    endpoints: list[dict[str, Any]] = []
    for name in names:
        variables = hostvars[name]
        address = variables.get("service_address") or variables.get("ansible_host") or name
        port = variables.get(port_variable, default_port)
        if not re.fullmatch(r"[0-9]{1,5}", str(port)) or not 1 <= int(port) <= 65535:
            raise AnsibleFilterError(
                f"{port_variable} of {name} is {port!r}: set it to a number from 1 to 65535 in the inventory."
            )
        endpoints.append({"name": str(name), "address": str(address), "port": int(port)})
    return endpoints


def topology_targets(endpoints: Iterable[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Return endpoints as scrape targets: ``[{"address": "ip:port", "instance": name}, …]``.

    Args:
        endpoints: as :func:`topology_endpoints` returns them.
    """
    return [{"address": f"{host['address']}:{host['port']}", "instance": str(host["name"])} for host in endpoints]


def topology_urls(endpoints: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return endpoints as addresses for a browser, such as ``http://192.0.2.1:9090/``."""
    return [f"http://{host['address']}:{host['port']}/" for host in endpoints]


def topology_problems(backends: Sequence[Mapping[str, Any]], balancers: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what is wrong with the site's hosts, a sentence with its mend each; an empty list is a sound inventory.

    Args:
        backends: as :func:`topology_endpoints` returns them.
        balancers: likewise.
    """
    problems = [
        f"The inventory has no {what}: add at least one host to the group `{group}`."
        for hosts, what, group in ((backends, "backend", "backends"), (balancers, "balancer", "balancers"))
        if not hosts
    ]
    unique = {str(host["name"]): str(host["address"]) for host in [*backends, *balancers]}
    for name, address in unique.items():
        if not _NAME.fullmatch(name):
            problems.append(
                f"The host name `{name}` has characters HAProxy refuses: use letters, digits, `.`, `-`, `_`."
            )
        if not _is_address(address):
            problems.append(
                f"The service address of {name} is `{address}`, which is no IPv4 address: set `service_address` to the "
                "address where other hosts reach it."
            )
    lowered = Counter(name.lower() for name in unique)
    problems += [
        f"The host name `{name}` differs from another only in case: rename one of them."
        for name in unique
        if lowered[name.lower()] > 1
    ]
    problems += [
        f"{' and '.join(name for name, held in unique.items() if held == address)} share the address {address}: "
        "give each host a `service_address` (or `ansible_host`) of its own."
        for address, count in Counter(unique.values()).items()
        if count > 1
    ]
    used = {(str(host["name"]), int(host["port"])) for host in backends}
    problems += [
        f"{host['name']} is both backend and balancer, and both use port {host['port']}: "
        "set backend_app_port to another."
        for host in balancers
        if (str(host["name"]), int(host["port"])) in used
    ]
    return problems


def _is_address(text: str) -> bool:
    try:
        ipaddress.IPv4Address(text)
    except ValueError:
        return False
    return True


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {
            "topology_endpoints": topology_endpoints,
            "topology_problems": topology_problems,
            "topology_targets": topology_targets,
            "topology_urls": topology_urls,
        }
