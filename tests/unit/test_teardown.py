"""What teardown.yml says at its end."""

from __future__ import annotations

from typing import Any

from teardown import teardown_problems, teardown_report


def result(*removed: str, **left: list[str]) -> dict[str, Any]:
    """Return what a role's teardown.yml registers."""
    return {"removed": list(removed), "left": left}


LOST = {"unreachable": True, "msg": "gone"}
HOSTS: dict[str, dict[str, Any]] = {
    "lb": {"haproxy_teardown": result("/etc/a", packages=["haproxy"]), "haproxy_bind_port": 80},
    "one": {
        "backend_app_teardown": result("container backend_shop", "/etc/b", packages=[]),
        "docker_teardown": result(volumes=["x", "y"], engine=["daemon.json stays."], running=["Docker's engine"]),
    },
    "two": {
        "backend_app_teardown": LOST,
        "docker_teardown": result(volumes=["z"], engine=["daemon.json stays."], running=["Docker's engine"]),
    },
    "far": {},
}


def test_report_says_what_went_and_what_stays() -> None:
    assert teardown_report(HOSTS, list(HOSTS), check_mode=False) == [
        "lb has lost 0 containers and 1 files and folders.",
        "one has lost 1 containers and 1 files and folders.",
        "two had nothing of this project's to remove.",
        "Packages stay installed: haproxy on lb.",
        "Still running: Docker's engine on one, two.",
        "Volumes stay: 2 on one; 1 on two.",
        "one, two: daemon.json stays.",
    ]


def test_check_mode_names_all_that_would_go() -> None:
    lines = teardown_report(HOSTS, ["lb", "one"], check_mode=True)
    assert lines[:2] == ["lb would lose /etc/a.", "one would lose container backend_shop, /etc/b."]


def test_host_that_failed_or_was_silent_is_named() -> None:
    hosts = {**HOSTS, "two": {**HOSTS["two"], "teardown_failed": "Remove it: no."}}
    assert teardown_problems(hosts, list(hosts), ["lb", "one", "two"]) == [
        "two was not finished: Remove it: no. Mend that and run teardown.yml again.",
        "far can't be reached or worked on, so nothing was removed there: mend that and run teardown.yml again.",
    ]
    assert teardown_problems(HOSTS, ["lb"], ["lb"]) == []
