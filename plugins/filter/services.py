"""Filters of the services' descriptions: with all their keys, with their servers, and what follows from them.

A description is what ``site_services`` says of one service (docs/services.md). Roles get it with every key there is,
so that none of them knows a default: ``None`` means "as the role's own settings say".
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

Service = dict[str, Any]

_GUIDE_IMAGE = "evenkeel.local/backend_app:"
# Every key, and what it means to leave it out. Mappings are merged.
_ABSENT: Service = {
    "image": "",
    "build": {},
    "version": "",
    "command": None,
    "port": 0,
    "host_port": 0,
    "surge_port": 0,
    "env": {},
    "secret_env": {},
    "secrets": {},
    "volumes": [],
    "tmpfs": [],
    "user": "",
    "read_only": False,
    "capabilities": None,
    "memory": "",
    "pids_limit": 4096,
    "cpus": 0,
    "extra_hosts": {},
    "log": {"driver": "", "options": {}},
    "ready": {"path": "", "status": 200, "host": "", "command": None, "seconds": None},
    "drain": "host",
    "stop_seconds": None,
    "group": "backends",
    "hosts": [],
    "paths": [],
    "default": False,
    "retry": {"statuses": [], "methods": None, "never": []},
    "answer_times": None,
    "timeout": "",
    "tunnel": "1h",
    "balance": None,
    "max_requests": None,
    "sticky": "",
    "rate_limit": {"requests": 0, "seconds": 1, "concurrent": None},
    "allow": [],
    "deny": [],
    "tls": {},
    "load": "",
    "metrics": "",
    "maintenance_page": "",
}

_NUMBERS = ("port", "host_port", "surge_port", "stop_seconds", "max_requests", "cpus", "pids_limit")
# What may be made of anything.
_INNER = {"command", "env", "secret_env", "secrets", "volumes", "tmpfs", "extra_hosts"}
# What goes into the container.
_CONTAINER = (
    "command",
    "env",
    "secret_env",
    "volumes",
    "tmpfs",
    "user",
    "read_only",
    "capabilities",
    "memory",
    "pids_limit",
    "cpus",
    "extra_hosts",
    "log",
)


def services_described(
    services: Mapping[str, Any],
    guide: Mapping[str, Any],
    asked: Mapping[str, str] | None = None,
    inner: bool = True,
    folder: str = "",
) -> list[Service]:
    """Return every service with its name and all its keys, in the order of the description.

    Args:
        services: the descriptions by name; ``services_problems`` says what is wrong with them.
        guide: the description that counts where there is none; that service is called ``app``.
        asked: ``version`` to run instead of the described one, and ``service``, of which; empty where there is but one.
        inner: whether with what matters in the container alone. Other hosts can't ask for that: it may be made of what
            only the host itself knows.
        folder: what a build's folder and a maintenance page are relative to.
    """
    own = isinstance(services, Mapping) and bool(services)
    given = services if own else {"app": guide}
    version, of = ((asked or {}).get(key) or "" for key in ("version", "service"))
    described = []
    for name, entry in given.items():
        if isinstance(entry, Mapping):
            wanted = {"version": version} if version and of in {"", name} else {}
            described.append(_described(str(name), entry, wanted, inner, folder) | {"guide": not own})
    # Who is alone gets everything, and so does the one that says nothing of what it is asked for.
    for service in described:
        service["default"] = service["default"] or not (service["hosts"] or service["paths"])
    return described


def _described(name: str, entry: Mapping[str, Any], wanted: Mapping[str, str], inner: bool, folder: str) -> Service:
    service: Service = {"name": name}
    for key, absent in _ABSENT.items():
        if key in _INNER and not inner:
            continue
        # Key by key: whoever takes all of them computes those too that only the host itself can.
        value = wanted[key] if key in wanted else entry.get(key, absent)
        if isinstance(absent, dict) and absent and isinstance(value, Mapping):
            value = absent | dict(value)
        service[key] = value
    for key in _NUMBERS:
        service[key] = _number(service[key])
    service["host_port"] = service["host_port"] or service["port"]
    _find_here(service, folder)
    numbered = {
        "ready": ("status", "seconds"),
        "retry": ("statuses",),
        "rate_limit": ("requests", "seconds", "concurrent"),
    }
    for part, keys in numbered.items():
        if isinstance(service[part], Mapping):
            numbers = {key: _number(service[part][key]) for key in keys}
            service[part] = {**service[part], **numbers}
    if isinstance(service["answer_times"], list | tuple):
        service["answer_times"] = [
            {key: _number(value) for key, value in limit.items()} if isinstance(limit, Mapping) else limit
            for limit in service["answer_times"]
        ]
    ready = service["ready"]
    if isinstance(ready, Mapping):
        service["ready"] = {**ready, "host": ready["host"] or next(iter(_texts(service["hosts"])), "")}
    service["routes"] = _routes(_texts(service["hosts"]), _texts(service["paths"]))
    service["reference"] = _reference(service["image"], str(service["version"]))
    return service


def _find_here(service: Service, folder: str) -> None:
    """Make paths on this machine absolute, or Ansible and the filters would look for them in places of their own."""
    if isinstance(service["build"], Mapping) and service["build"].get("folder"):
        whole = Path(folder, str(service["build"]["folder"])).expanduser()
        service["build"] = {**service["build"], "folder": str(whole)}
    if service["maintenance_page"] and isinstance(service["maintenance_page"], str):
        service["maintenance_page"] = str(Path(folder, service["maintenance_page"]).expanduser())
    if isinstance(service["tls"], Mapping) and service["tls"]:
        # Descriptions are looped over, and what is looped over is shown: the certificate's own text, with its key, is
        # where services_certificates gives it, and nowhere else.
        given = certificate_given(service["tls"], folder)
        service["tls"] = {
            **service["tls"],
            **given,
            "pem": secrets_digest({"pem": given["pem"]} if given["pem"] else {}),
        }


def certificate_given(tls: Mapping[str, Any], folder: str = "") -> dict[str, str]:
    """Return where a certificate is, its ``file`` here, as an absolute path, and its ``pem``; empty is not given."""
    file = tls.get("file")
    return {"file": str(Path(folder, str(file)).expanduser()) if file else "", "pem": str(tls.get("pem") or "")}


def services_certificates(services: Mapping[str, Any], folder: str = "") -> dict[str, dict[str, str]]:
    """Return the services' own certificates, ``{service: {"file": str, "pem": str}}``; secrets, for balancers alone.

    Args:
        services: the descriptions by name.
        folder: what their files are relative to.
    """
    return {
        str(name): certificate_given(entry["tls"], folder)
        for name, entry in (services.items() if isinstance(services, Mapping) else ())
        if isinstance(entry, Mapping) and isinstance(entry.get("tls"), Mapping) and _has_own(entry["tls"])
    }


def _has_own(tls: Mapping[str, Any]) -> bool:
    return bool(tls) and not (tls.get("automatic") is True and not (tls.get("file") or tls.get("pem")))


def services_automatic(services: Iterable[Service]) -> list[dict[str, Any]]:
    """Return the services whose certificate an issuer gives, ``[{"name": str, "hosts": [str, …]}, …]``."""
    return [
        {"name": service["name"], "hosts": [str(host).lower() for host in service.get("hosts") or []]}
        for service in services
        if isinstance(service.get("tls"), Mapping) and service["tls"].get("automatic") is True
    ]


def _number(value: Any) -> Any:
    """Return a number that was given as a text (``-e``, quotes) as a number, and so those of a list."""
    if isinstance(value, list | tuple):
        return [_number(item) for item in value]
    if isinstance(value, str) and re.fullmatch(r"-?\d+(\.\d+)?", value):
        return float(value) if "." in value else int(value)
    return value


def _texts(value: object) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list | tuple) else []


def _routes(hosts: Sequence[str], paths: Sequence[str]) -> list[str]:
    """Return what leads to a service: ``host/path/``.

    It ends in a slash, and so does what is looked up: /api is the beginning of /api/x, and not of /apix. A service that
    names no host is found under ``*``.
    """
    if not (hosts or paths):
        return []
    return [f"{host.lower()}{path.rstrip('/')}/" for host in hosts or ["*"] for path in paths or ["/"]]


def _reference(image: object, version: str) -> str:
    """Return an image's reference; ``version`` takes the place of its tag or digest."""
    text = str(image or "")
    if not text or not version:
        return text
    repository = text.partition("@")[0]
    folder, slash, name = repository.rpartition("/")
    mark = "@" if ":" in version else ":"
    return f"{folder}{slash}{name.partition(':')[0]}{mark}{version}"


def services_of_host(services: Iterable[Service], name: str, groups: Mapping[str, Sequence[str]]) -> list[Service]:
    """Return the services that run on a host."""
    return [service for service in services if name in groups.get(str(service["group"]), [])]


def services_with_servers(
    services: Iterable[Service], endpoints: Sequence[Mapping[str, Any]], hostvars: Mapping[str, Any], groups: Any
) -> list[Service]:
    """Return the services with ``servers``, as :func:`topology_endpoints` returns hosts, in inventory order.

    Args:
        services: as :func:`services_described` returns them.
        endpoints: the backends, with their addresses.
        hostvars: Ansible's ``hostvars``, with ``topology_services_told`` and ``topology_agent_port`` of each backend.
        groups: Ansible's ``groups``.
    """
    # Each look into Ansible's own costs as much as it has hosts.
    members = {str(name): frozenset(hosts) for name, hosts in groups.items()}
    said: dict[str, dict[str, Service]] = {}
    agents: dict[str, int] = {}
    for host in endpoints:
        variables = hostvars[host["name"]]
        said[host["name"]] = {each["name"]: each for each in variables["topology_services_told"]}
        agents[host["name"]] = int(variables["topology_agent_port"])
    return [
        {
            **service,
            "servers": [
                {
                    **host,
                    **_ports(said[host["name"]].get(service["name"], service)),
                    "agent_port": agents[host["name"]],
                }
                for host in endpoints
                if host["name"] in members.get(service["group"], ())
            ],
        }
        for service in services
    ]


def _ports(service: Service) -> dict[str, int]:
    return {"port": int(service["host_port"]), "surge_port": int(service["surge_port"])}


def services_versions(services: Iterable[Service]) -> list[str]:
    """Return what the services are asked to run: their images' references, or the versions of what is built."""
    return [str(service["reference"] or service["version"]) for service in services]


def services_alone(services: Iterable[Service]) -> list[str]:
    """Return the names of the services that have but one server."""
    return [service["name"] for service in services if len(service["servers"]) == 1]


def services_jobs(services: Iterable[Service]) -> list[dict[str, Any]]:
    """Return Prometheus' jobs for the services that have metrics, as ``prometheus_scrape_jobs`` takes them."""
    return [
        {
            "name": f"backend_{service['name']}",
            "metrics_path": service["metrics"],
            "targets": [
                {"address": _place(server["address"], server["port"]), "instance": server["name"]}
                for server in service["servers"]
            ],
        }
        for service in services
        if service["metrics"]
    ]


def _place(address: str, port: int) -> str:
    # As topology.py's host_port: one filter plugin can't ask another.
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def services_map(services: Iterable[Service]) -> list[str]:
    """Return the lines of HAProxy's map from what clients ask for to services: ``host/path/ service``."""
    return [f"{route} {service['name']}" for service in services for route in service.get("routes", [])]


def services_claims(services: Iterable[Service], address: str, agent_port: int) -> dict[str, list[dict[str, Any]]]:
    """Return what the services take on a host, as the module ``foreign`` asks: ``files``, ``containers`` and ``ports``.

    Args:
        services: those of the host.
        address: where they listen.
        agent_port: where the host itself says whether it goes down.
    """
    listed = list(services)
    units = ["backend_app_announce", *(["backend_app_agent"] if any(map(_needs_agent, listed)) else [])]
    claims: dict[str, list[dict[str, Any]]] = {
        "files": [{"path": f"/etc/systemd/system/{unit}.service", "marks": ["Written by evenkeel"]} for unit in units],
        "containers": [],
        "ports": [],
    }
    for service in listed:
        name = f"backend_{service['name']}"
        # As releases wrote them that did not say so, and ran nothing but the guide's API.
        former = (
            [["Description=Start of backend_app's container"], ['"BACKEND_NAME=']]
            if name == "backend_app"
            else [[], []]
        )
        claims["files"].append(
            {"path": f"/etc/systemd/system/{name}.service", "marks": ["Written by evenkeel", *former[0]]}
        )
        containers = [name, f"{name}_former", f"{name}_next"]
        marks = [rf'"evenkeel.service": *"{service["name"]}"', *former[1]]
        claims["containers"] += [{"name": container, "marks": marks} for container in containers]
        setting = "backend_app_port" if service["guide"] else f"site_services.{service['name']}.host_port"
        claims["ports"].append(
            {"address": address, "port": service["host_port"], "containers": containers, "setting": setting}
        )
        if service["surge_port"]:
            setting = f"site_services.{service['name']}.surge_port"
            claims["ports"].append(
                {"address": address, "port": service["surge_port"], "containers": containers, "setting": setting}
            )
    if any(map(_needs_agent, listed)):
        claims["ports"].append(
            {
                "address": address,
                "port": agent_port,
                "units": ["backend_app_agent.service"],
                "setting": "backend_app_agent_port",
            }
        )
    return claims


def services_strays(containers: Iterable[Mapping[str, Any]], services: Iterable[Service]) -> list[str]:
    """Return the names of containers that run a service of ours, and that no service describes any more.

    Args:
        containers: as ``docker_host_info`` lists them, with ``Names``, ``Image`` and ``Labels``.
        services: those of the host.
    """
    known = {f"backend_{service['name']}" for service in services}
    found = []
    for container in containers:
        name = container["Names"][0].lstrip("/")
        # Former releases ran the guide's API alone, and gave it no label.
        ours = "evenkeel.service" in (container.get("Labels") or {}) or container["Image"].startswith(_GUIDE_IMAGE)
        if ours and name.removesuffix("_former").removesuffix("_next") not in known:
            found.append(name)
    return sorted(found)


def _needs_agent(service: Service) -> bool:
    return bool(service["drain"] == "host")


def service_hash(service: Service) -> str:
    """Return a hash of what a container of the service is made with, besides image and ports; 12 hexadecimal digits."""
    kept = {key: service[key] for key in _CONTAINER}
    return hashlib.sha256(json.dumps(kept, sort_keys=True, default=str).encode()).hexdigest()[:12]


def secrets_digest(secrets: Mapping[str, Any]) -> str:
    """Return a hash of secrets, 12 hexadecimal digits; empty where there are none."""
    if not secrets:
        return ""
    texts = json.dumps(service_texts(secrets), sort_keys=True)
    return hashlib.sha256(texts.encode()).hexdigest()[:12]


def service_texts(values: Mapping[str, Any]) -> dict[str, str]:
    """Return an environment whose values are texts, as Docker takes them; true and false are written so."""
    return {
        str(name): str(value).lower() if isinstance(value, bool) else "" if value is None else str(value)
        for name, value in values.items()
    }


def one_service(services: Sequence[Service], wanted: object, needed: bool) -> str:
    """Return what is wrong with ``-e service=``, a sentence; empty where nothing is.

    Args:
        services: as :func:`services_described` returns them.
        wanted: the service; empty where it was not said.
        needed: whether it must be said where there are several.
    """
    names = [service["name"] for service in services]
    if wanted and wanted not in names:
        near = difflib.get_close_matches(str(wanted), names, 1, 0.6)
        hint = f" (`{near[0]}` is meant?)" if near else ""
        there = f"there {'is' if len(names) == 1 else 'are'} {', '.join(names)}"
        return f"`{wanted}` is no service of this inventory{hint}: {there}."
    if needed and not wanted and len(names) > 1:
        return f"Which service is meant was not said: write -e service=<{' or '.join(names)}>."
    return ""


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {
            "certificate_given": certificate_given,
            "one_service": one_service,
            "services_described": services_described,
            "secrets_digest": secrets_digest,
            "service_hash": service_hash,
            "service_texts": service_texts,
            "services_versions": services_versions,
            "services_alone": services_alone,
            "services_automatic": services_automatic,
            "services_certificates": services_certificates,
            "services_jobs": services_jobs,
            "services_claims": services_claims,
            "services_map": services_map,
            "services_strays": services_strays,
            "services_of_host": services_of_host,
            "services_with_servers": services_with_servers,
        }
