"""Filters that derive from the inventory who talks to whom.

They read inventory variables only, never facts: a host that is down, or outside ``--limit``, is listed all the same.
"""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleFilterError
from jinja2 import pass_context

# What HAProxy accepts as a server's name.
_NAME = re.compile(r"[A-Za-z0-9_.:-]+")
# Where a service listens elsewhere than at the host's service address, the others must look for it there. The front is
# not among them: its address may be one that moves from balancer to balancer.
_ADDRESSES = {
    "backend_app_port": ["backend_app_address"],
    "grafana_port": ["grafana_address"],
    "haproxy_stats_port": ["haproxy_stats_address", "haproxy_address"],
    "prometheus_port": ["prometheus_address"],
    "pushgateway_port": ["pushgateway_address"],
}
# Listening at all of them is not an address to ask.
_EVERY = {"", "*", "0.0.0.0", "::"}
# A host's name in DNS. With a last part of digits alone it is an address that somebody mistyped.
_DNS_NAME = re.compile(
    r"(?=.{1,253}$)(?:[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9])?\.)*"
    r"(?![0-9]+$)[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
)


def topology_endpoints(
    names: Iterable[str],
    hostvars: Mapping[str, Mapping[str, Any]],
    port_variable: str,
    default_port: int,
    resolved: Mapping[str, str] | None = None,
) -> list[dict[str, Any]]:
    """Return ``[{"name": str, "address": str, "port": int}, …]`` in inventory order.

    Args:
        names: the hosts, usually a group.
        hostvars: Ansible's ``hostvars``.
        port_variable: the inventory variable that may hold the host's port.
        default_port: the port where that variable is not set; equal to the role's default, which is invisible here.
        resolved: the address by name, of hosts whose service address is a name.

    Raises:
        AnsibleFilterError: a port that is not a number from 1 to 65535; names the host and the variable.
    """
    return [
        {**host, "address": topology_fixed(host["address"], resolved)}
        for host in (_endpoint(str(name), hostvars[name], port_variable, default_port) for name in names)
    ]


def topology_fixed(address: object, resolved: Mapping[str, str] | None = None) -> str:
    """Return a host's address in its one form: of a name the address that it has, of IPv6 the short one.

    Args:
        address: an address, or a name.
        resolved: the address by name; a name that is not in it stays what it is.
    """
    text = (resolved or {}).get(str(address), str(address))
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return text


def host_port(address: object, port: object) -> str:
    """Return ``address:port`` as URLs and programs take it: ``192.0.2.1:80``, ``[2001:db8::1]:80``."""
    bare = str(address).strip("[]")
    return f"[{bare}]:{port}" if ":" in bare else f"{bare}:{port}"


def topology_names(names: Iterable[str], hostvars: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Return, by host, the names that service addresses are; the others are addresses.

    Args:
        names: the hosts.
        hostvars: Ansible's ``hostvars``. A host whose variables can't be read is left out.
    """
    sound = _sound(names, hostvars, "", 1, service=True)
    return {host["name"]: host["address"] for host in sound if _is_dns_name(host["address"])}


def topology_targets(endpoints: Iterable[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Return endpoints as scrape targets: ``[{"address": "ip:port", "instance": name}, …]``.

    Args:
        endpoints: as :func:`topology_endpoints` returns them.
    """
    return [{"address": host_port(host["address"], host["port"]), "instance": str(host["name"])} for host in endpoints]


def topology_urls(endpoints: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return endpoints as addresses for a browser, such as ``http://192.0.2.1:9090/``."""
    return [f"http://{host_port(host['address'], host['port'])}/" for host in endpoints]


def topology_secret(path: str) -> str:
    """Return what a file holds, without white space at its ends; empty where there is no such file.

    Raises:
        AnsibleFilterError: a file that is there and can't be read.
    """
    file = Path(path).expanduser()
    try:
        return file.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise AnsibleFilterError(
            f"{path} is there and can't be read ({reason}): make it readable for who runs Ansible, or name another "
            "with grafana_password_file."
        ) from error


@pass_context
def known_or_empty(context: Any, name: str) -> list[Any]:
    """Return a variable's value, a list; empty where wrong settings keep it from being computed.

    Args:
        context: Jinja's.
        name: the variable.
    """
    try:
        return list(context[name])
    except Exception:  # noqa: BLE001 - whatever a template raises; settings_problems says what is wrong
        return []


def topology_problems(
    backends: Sequence[Mapping[str, Any]],
    balancers: Sequence[Mapping[str, Any]],
    others: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
) -> list[str]:
    """Return what is wrong with the site's hosts, a sentence with its mend each; an empty list is a sound inventory.

    Args:
        backends: as :func:`topology_endpoints` returns them.
        balancers: likewise.
        others: what else listens, by the setting of its port, likewise.
    """
    problems = [
        f"The inventory has no {what}: add at least one host to the group `{group}`."
        for hosts, what, group in ((backends, "backend", "backends"), (balancers, "balancer", "balancers"))
        if not hosts
    ]
    listeners = {"backend_app_port": backends, "haproxy_bind_port": balancers, **(others or {})}
    unique = {str(host["name"]): topology_fixed(host["address"]) for hosts in listeners.values() for host in hosts}
    for name, address in unique.items():
        if not _NAME.fullmatch(name):
            problems.append(
                f"The host name `{name}` has characters HAProxy refuses: use letters, digits, `.`, `-`, `_`."
            )
        wrong = _address_problem(address)
        if wrong:
            problems.append(
                f"The service address of {name} is `{address}`, which {wrong}: set `service_address` to the address or "
                "the name by which other hosts reach it."
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
    return problems + _taken_twice(listeners)


def site_problems(
    hostvars: Mapping[str, Mapping[str, Any]],
    backends: Sequence[str],
    balancers: Sequence[str],
    monitoring: Sequence[str] = (),
) -> list[str]:
    """Return the same as :func:`topology_problems`, of the hosts' variables.

    A host whose variables can't be read is left out: the filter ``settings_problems`` says why.

    Args:
        hostvars: Ansible's ``hostvars``.
        backends: the names of the hosts.
        balancers: likewise.
        monitoring: likewise, those of Prometheus and Grafana.
    """
    listeners = {
        setting: list(_sound(names, hostvars, setting, port, service=True))
        for names, settings in (
            (backends, {"backend_app_port": 80, "pushgateway_port": 9091}),
            (balancers, {"haproxy_bind_port": 80, "haproxy_stats_port": 8404}),
            (monitoring, {"prometheus_port": 9090, "grafana_port": 3000}),
        )
        for setting, port in settings.items()
    }
    listeners["haproxy_tls_bind_port"] = [
        host
        for host in _sound(balancers, hostvars, "haproxy_tls_bind_port", 443, service=True)
        if _secured(host, backends, hostvars)
    ]
    first, second = listeners.pop("backend_app_port"), listeners.pop("haproxy_bind_port")
    described = _described(first, hostvars)
    # Where services are described, the guide's port is nobody's.
    first = [{**host, "port": 0} for host in first] if described else first
    problems = topology_problems(first, second, listeners | described)
    if backends and not first:
        problems = [problem for problem in problems if "has no backend" not in problem]
    if balancers and not second:
        problems = [problem for problem in problems if "has no balancer" not in problem]
    # Those who listen at an address of their own: the balancers must tell them apart.
    shared = [topology_fixed(host["address"]) for host in _sound(backends, hostvars, "backend_app_port", 80)]
    ways = {topology_fixed(host["address"]) for host in first}
    return problems + [
        f"backend_app_address is {address} on {count} backends: set it for each host to an address of its own, where "
        "the balancers reach it, or leave it out."
        for address, count in Counter(shared).items()
        if count > 1 and address not in ways
    ]


def _secured(host: Mapping[str, Any], backends: Sequence[str], hostvars: Mapping[str, Mapping[str, Any]]) -> bool:
    """Return whether a balancer has a certificate, the site's own or a service's."""
    try:
        site = any(hostvars[host["name"]]["topology_site_certificate"].values())
        return site or any(service["tls"] for service in hostvars[backends[0]]["topology_services_told"])
    except Exception:  # noqa: BLE001 - whatever a template raises; services_problems says what is wrong
        return False


def _described(
    backends: Sequence[Mapping[str, Any]], hostvars: Mapping[str, Mapping[str, Any]]
) -> dict[str, list[dict[str, Any]]]:
    """Return where described services listen, by the setting of their port; empty where the guide's API runs."""
    listeners: dict[str, list[dict[str, Any]]] = {}
    for host in backends:
        try:
            variables = hostvars[host["name"]]
            if not variables.get("site_services"):
                continue
            told = [service for service in variables["topology_services_told"] if not service["guide"]]
            services = [service for service in told if service["group"] in variables["group_names"]]
            ports = {
                f"site_services.{service['name']}.{key}": int(service[key])
                for service in services
                for key in ("host_port", "surge_port")
                if service[key]
            }
            if any(service["drain"] == "host" for service in services):
                ports["backend_app_agent_port"] = int(variables["topology_agent_port"])
        except Exception:  # noqa: BLE001 - whatever a template raises; services_problems says what is wrong
            continue
        for setting, port in ports.items():
            listeners.setdefault(setting, []).append({**host, "port": port})
    return listeners


def _taken_twice(listeners: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    held: dict[tuple[str, int], list[str]] = {}
    for setting, hosts in listeners.items():
        for host in hosts:
            held.setdefault((str(host["name"]), int(host["port"])), []).append(setting)
    return [
        f"{' and '.join(settings)} of {name} are both {port}: set one of them to another port."
        for (name, port), settings in held.items()
        # That pair has a sentence of its own.
        if len(settings) > 1 and settings != ["backend_app_port", "haproxy_bind_port"]
    ]


def _sound(
    names: Iterable[str], hostvars: Mapping[str, Mapping[str, Any]], setting: str, port: int, service: bool = False
) -> Iterator[dict[str, Any]]:
    for name in names:
        try:
            yield _endpoint(str(name), hostvars[name], setting, port, service)
        except Exception:  # noqa: BLE001 - whatever a template raises
            continue


def _endpoint(
    name: str, variables: Mapping[str, Any], port_variable: str, default_port: int, service: bool = False
) -> dict[str, Any]:
    """Return one endpoint, at the host's service address where ``service`` says so."""
    listens = [] if service else [variables.get(variable) for variable in _ADDRESSES.get(port_variable, [])]
    at = next((str(address) for address in listens if address is not None and str(address) not in _EVERY), None)
    address = at or variables.get("service_address") or variables.get("ansible_host") or name
    port = variables.get(port_variable, default_port)
    if not re.fullmatch(r"[0-9]{1,5}", str(port)) or not 1 <= int(port) <= 65535:
        raise AnsibleFilterError(
            f"{port_variable} of {name} is {port!r}: set it to a number from 1 to 65535 in the inventory."
        )
    return {"name": name, "address": str(address), "port": int(port)}


def _is_dns_name(text: str) -> bool:
    return bool(_DNS_NAME.fullmatch(text))


def _address_problem(text: str) -> str:
    """Return why other hosts can't reach one at an address or a name; empty where they may."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return "" if _is_dns_name(text) else "is neither an address nor a name"
    if address.is_link_local:
        return "counts on one network only, and on each host by the name of another interface"
    if address.is_unspecified or address.is_multicast:
        return "is no single host's"
    if isinstance(address, ipaddress.IPv6Address):
        if address.scope_id:
            return "has a zone, which counts on one host only"
        if address.ipv4_mapped:
            return f"is the IPv4 address {address.ipv4_mapped} in the form of IPv6"
    return ""


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {
            "host_port": host_port,
            "known_or_empty": known_or_empty,
            "site_problems": site_problems,
            "topology_endpoints": topology_endpoints,
            "topology_fixed": topology_fixed,
            "topology_names": topology_names,
            "topology_problems": topology_problems,
            "topology_secret": topology_secret,
            "topology_targets": topology_targets,
            "topology_urls": topology_urls,
        }
