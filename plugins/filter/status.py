"""The filter behind status.yml: one table of backends, versions and states."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

HEADER = ("SERVICE", "BACKEND", "VERSION", "CONTAINER", "BALANCER", "STATE", "SESSIONS", "LAST CHECK")
_BUILT = re.compile(r"evenkeel\.local/backend_[a-z0-9-]+:")


def status_table(
    services: Iterable[Mapping[str, Any]], balancers: Iterable[str], hostvars: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    """Return the table's lines: one row for each server of each service at each balancer.

    Args:
        services: with ``name`` and ``servers``.
        balancers: their inventory names.
        hostvars: Ansible's ``hostvars``, with what status.yml registered as ``status_container`` (lines of `name image
            state`, on the backends) and ``status_servers`` (the module haproxy_server's report, on the balancers).
    """
    listed = list(balancers)
    if not listed:
        raise AnsibleFilterError("The inventory has no balancer to ask.")
    rows = [HEADER]
    for service in services:
        for name in (server["name"] for server in service["servers"]):
            found = _container(f"backend_{service['name']}", hostvars[name].get("status_container") or {})
            for balancer in listed:
                state = _state(service["name"], name, hostvars[balancer].get("status_servers") or {})
                rows.append((service["name"], name, *found, balancer, *state))
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _container(name: str, result: Mapping[str, Any]) -> tuple[str, str]:
    """Return version and state of a container."""
    # Nothing registered: the host is outside --limit.
    if not result or result.get("unreachable"):
        return "?", "unreachable" if result else "not asked"
    lines = (line.split(" ") for line in str(result.get("stdout", "")).splitlines())
    found = {line[0]: line[1:] for line in lines if len(line) == 3}
    return (_BUILT.sub("", found[name][0], 1), found[name][1]) if name in found else ("-", "none")


def _state(service: str, name: str, report: Mapping[str, Any]) -> tuple[str, str, str]:
    """Return state, sessions and last check of a service's server in a balancer's report."""
    if not report or report.get("unreachable") or "servers" not in report:
        return ("balancer unreachable" if report.get("unreachable") else "not asked", "?", "")
    server = next(
        (server for server in report["servers"] if (server["backend"], server["name"]) == (service, name)), None
    )
    if server is None:
        return "unknown there", "-", ""
    status, admin = str(server["status"]), str(server["admin"])
    state = status if admin == "ready" or status.startswith(admin.upper()) else f"{status} ({admin})"
    return state, str(server["sessions"]), str(server["last_check"])


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {"status_table": status_table}
