"""Filters about HAProxy's settings."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleFilterError

# HAProxy's units of time, in milliseconds; without one it is milliseconds.
_UNITS = {"us": 0.001, "ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}

# What a service is without a word of it.
_PLAIN: dict[str, Any] = {
    "drain": "app",
    "timeout": "",
    "tunnel": "1h",
    "sticky": "",
    "rate_limit": {"requests": 0, "concurrent": None},
    "allow": [],
    "deny": [],
    "hosts": [],
    "maintenance_page": "",
}


def haproxy_milliseconds(time: object) -> float:
    """Return a time as HAProxy reads it, such as ``500ms`` or ``2s``, in milliseconds; raises AnsibleFilterError."""
    found = re.fullmatch(r"(\d+)(us|ms|s|m|h|d)?", str(time))
    if not found:
        raise AnsibleFilterError(f"{time!r} is no time for HAProxy: write a number and us, ms, s, m, h or d.")
    return int(found[1]) * _UNITS[found[2] or "ms"]


def haproxy_claims(addresses: Sequence[str], ports: Mapping[str, int]) -> list[dict[str, Any]]:
    """Return what the front door takes on a host, as the module ``foreign`` asks.

    Args:
        addresses: where it is; of ``::`` IPv6 alone is taken.
        ports: by setting.
    """
    return [
        {
            "address": address,
            "port": port,
            "units": ["haproxy.service", "haproxy.socket"],
            "setting": setting,
            "without_ipv6": "set haproxy_bind_address to 0.0.0.0" if address == "::" else "",
        }
        for setting, port in ports.items()
        for address in addresses
    ]


def haproxy_longest(times: Iterable[str]) -> str:
    """Return the longest of some times, as it is written; raises AnsibleFilterError."""
    return max(times, key=haproxy_milliseconds)


def _detection(settings: Mapping[str, Any], defaults: Mapping[str, Any], silence: str) -> int:
    def value(name: str) -> Any:
        return settings[name] if name in settings else defaults[name]

    def time(name: str) -> float:
        return haproxy_milliseconds(value(f"haproxy_{name}"))

    # HAProxy gives a check's connection no longer than its interval.
    connect = min(time("timeout_connect"), time("check_interval"))
    limit = connect if silence == "gone" else time("check_timeout")
    fall = int(value("haproxy_check_fall"))
    return int(time("check_interval") + (fall - 1) * time("check_fast_interval") + fall * limit)


def haproxy_detection(
    balancers: Iterable[Mapping[str, Any]], silence: str, defaults: Mapping[str, Any] | None = None
) -> int:
    """Return after how many milliseconds, at most, a silent server is DOWN at all balancers.

    At worst it falls silent just after a check. Then a whole interval passes, and then checks that fail, each up to its
    time limit. That is the connection's for a host that is gone, and the check's for a process that accepts and never
    answers.

    Args:
        balancers: of each, the role's ``haproxy_check_*`` and ``haproxy_timeout_connect``, by name.
        silence: ``gone`` or ``hung``.
        defaults: the role's, for what a balancer does not set.

    Raises:
        AnsibleFilterError: another kind of silence, or no time.
    """
    if silence not in ("gone", "hung"):
        raise AnsibleFilterError(f"haproxy_detection knows gone and hung, not {silence!r}.")
    return max((_detection(each, defaults or {}, silence) for each in balancers), default=0)


def _cookie(service: str, server: str) -> str:
    """Return what a client's cookie says of its server: the same at every balancer, and not its name."""
    return hashlib.sha256(f"{service}/{server}".encode()).hexdigest()[:12]


def haproxy_services_whole(services: Iterable[Mapping[str, Any]], unsaid: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return services with all that HAProxy's configuration says of one.

    Args:
        services: each with its ``name``; the other keys as ``services_described`` returns them.
        unsaid: what counts where a service does not say ``balance``, ``max_requests``, ``servers``, ``ready``,
            ``retry`` (``failures``, ``methods``, ``never``), ``answer_times`` or how many ``concurrent`` requests one
            client may have (``rate_limit``).

    The servers of one with ``sticky`` get ``cookie``, 12 hexadecimal digits.
    """
    whole = []
    for given in services:
        said = {key: value for key, value in given.items() if value is not None}
        alone = not (said.get("hosts") or said.get("paths"))
        service = {**_PLAIN, "default": alone, **unsaid, **said}
        if "retry" in said and "failures" not in said["retry"]:
            # What is no status has nothing to do with the application. And nothing at all is nothing.
            kinds = [kind for kind in unsaid["retry"]["failures"] if not str(kind).isdigit()]
            statuses = [str(status) for status in said["retry"]["statuses"]] if unsaid["retry"]["failures"] else []
            service["retry"] = {
                "failures": kinds + statuses,
                "methods": said["retry"]["methods"] or unsaid["retry"]["methods"],
                "never": [*unsaid["retry"]["never"], *said["retry"]["never"]],
            }
        if "ready" in said and not said["ready"]["path"] and not said["ready"]["command"]:
            service["ready"] = {**said["ready"], "path": unsaid["ready"]["path"]}
        if service["rate_limit"].get("concurrent") is None:
            service["rate_limit"] = {**service["rate_limit"], "concurrent": unsaid["concurrent"]}
        if service["sticky"]:
            service["servers"] = [
                {**server, "cookie": _cookie(service["name"], server["name"])} for server in service["servers"]
            ]
        whole.append(service)
    return whole


def haproxy_private(services: Iterable[Mapping[str, Any]], paths: Iterable[str]) -> list[str]:
    """Return the paths that no client is served, each with and without a slash at its end; none where there are none.

    Args:
        services: with their ``metrics``, which are for Prometheus.
        paths: of all services.
    """
    listed = list(paths)
    if not listed:
        return []
    metrics = [service["metrics"] for service in services if service.get("metrics")]
    bare = dict.fromkeys(path.rstrip("/") for path in [*listed, *metrics])
    return [path for each in bare if each for path in (each, f"{each}/")]


def haproxy_pages(services: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Return where the services' maintenance pages lie on the balancer, by their files here.

    Args:
        services: with their ``maintenance_page``.

    Raises:
        AnsibleFilterError: a page can't be read.
    """
    pages = {}
    for path in filter(None, (service["maintenance_page"] for service in services)):
        try:
            content = Path(path).read_bytes()
        except OSError as error:
            raise AnsibleFilterError(f"The maintenance page {path} can't be read: {error.strerror}.") from error
        # Named by what is in it: a configuration and its pages belong together.
        pages[path] = f"/etc/haproxy/evenkeel-{hashlib.sha256(content).hexdigest()[:12]}.html"
    return pages


class FilterModule:
    """What Ansible looks for in this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {
            "haproxy_detection": haproxy_detection,
            "haproxy_pages": haproxy_pages,
            "haproxy_private": haproxy_private,
            "haproxy_claims": haproxy_claims,
            "haproxy_longest": haproxy_longest,
            "haproxy_milliseconds": haproxy_milliseconds,
            "haproxy_services_whole": haproxy_services_whole,
        }
