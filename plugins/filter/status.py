"""The filter behind status.yml: one table of backends, versions and states."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

HEADER = ("BACKEND", "VERSION", "CONTAINER", "BALANCER", "STATE", "SESSIONS", "LAST CHECK")
OWN_IMAGES = "evenkeel.local/backend_app:"


def status_table(
    backends: Iterable[str], balancers: Iterable[str], hostvars: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    """Return the table's lines: one row for each backend at each balancer.

    Args:
        backends: their inventory names.
        balancers: likewise.
        hostvars: Ansible's ``hostvars``, with what status.yml registered as ``status_container`` (`image state`, on the
            backends) and ``status_servers`` (the module haproxy_server's report, on the balancers).
    """
    listed = list(balancers)
    if not listed:
        raise AnsibleFilterError("The inventory has no balancer to ask.")
    rows = [HEADER]
    for name in backends:
        version, container = _container(hostvars[name].get("status_container") or {})
        for balancer in listed:
            state = _state(name, hostvars[balancer].get("status_servers") or {})
            rows.append((name, version, container, balancer, *state))
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _container(result: Mapping[str, Any]) -> tuple[str, str]:
    """Return version and state of a backend's container."""
    # Nothing registered: the host is outside --limit.
    if not result or result.get("unreachable"):
        return "?", "unreachable" if result else "not asked"
    image, _, state = str(result.get("stdout", "")).partition(" ")
    return (image.removeprefix(OWN_IMAGES), state) if state else ("-", "none")


def _state(name: str, report: Mapping[str, Any]) -> tuple[str, str, str]:
    """Return state, sessions and last check of a server in a balancer's report."""
    if not report or report.get("unreachable") or "servers" not in report:
        return ("balancer unreachable" if report.get("unreachable") else "not asked", "?", "")
    server = next((server for server in report["servers"] if server["name"] == name), None)
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
