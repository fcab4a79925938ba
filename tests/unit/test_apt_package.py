"""The task that installs packages: when apt is asked, and when its lists are read."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from apt_package import ActionModule

UNKNOWN = {"failed": True, "msg": "No package matching 'haproxy' is available"}
SUPERSEDED = {
    "failed": True,
    "msg": "'/usr/bin/apt-get install' failed: E: Failed to fetch http://x/h.deb  404  Not Found",
}
LOCKED = {"failed": True, "msg": "Failed to lock apt for exclusive operation"}
DONE = {"changed": True}


def task(packages: list[str], answers: list[dict[str, Any]], *, check: bool = False) -> tuple[ActionModule, list[Any]]:
    """Return the task with modules that answer what a test says, and the list that gets their calls."""
    arguments = {"packages": packages, "lock_timeout": "300"}
    fields = SimpleNamespace(action="apt_package", args=arguments, async_val=0, check_mode=check, diff=False)
    action = ActionModule(fields, SimpleNamespace(_shell=SimpleNamespace(tmpdir=None)), None, None, None, None)
    calls: list[Any] = []

    def answer(name: str, arguments: dict[str, Any], **_: object) -> dict[str, Any]:
        calls.append((name, arguments))
        return answers[len(calls) - 1]

    setattr(action, "_execute_module", answer)  # noqa: B010
    return action, calls


def found(*, installed: bool = False, complete: bool = False) -> dict[str, Any]:
    """Return what the look at the host's packages tells."""
    return {"changed": False, "installed": installed, "complete": complete}


def test_apt_is_not_asked_where_nothing_is_to_be_done() -> None:
    action, calls = task(["haproxy"], [found(installed=True, complete=True)])
    assert action.run() == found(installed=True, complete=True)
    assert calls == [("apt_installed", {"packages": ["haproxy"]})]


def test_lists_that_serve_are_not_read() -> None:
    action, calls = task(["docker-ce=5:29*"], [found(installed=True), DONE])
    assert action.run() == {"changed": True, "installed": True}
    assert calls[1:] == [
        (
            "ansible.builtin.apt",
            {"name": ["docker-ce=5:29*"], "install_recommends": False, "allow_downgrade": True, "lock_timeout": 300},
        )
    ]


@pytest.mark.parametrize("answer", [UNKNOWN, SUPERSEDED])
def test_lists_that_are_missing_or_old_are_read_once(answer: dict[str, Any]) -> None:
    action, calls = task(["haproxy"], [found(), answer, DONE])
    assert action.run() == {"changed": True, "installed": False}
    assert [arguments.get("update_cache") for _, arguments in calls] == [None, None, True]
    action, _ = task(["haproxy"], [found(), answer, dict(answer)])
    result = action.run()
    assert result["failed"]
    assert result["msg"].startswith(f"{answer['msg']}. The package lists were read anew before: ")
    # Whether they were is not known then.
    action, _ = task(["haproxy"], [found(), answer, LOCKED])
    assert action.run() == LOCKED | {"installed": False}


def test_check_mode_does_not_read_them() -> None:
    action, _ = task(["haproxy"], [found(), UNKNOWN], check=True)
    result = action.run()
    assert (result["changed"], result["installed"]) == (True, False)
    assert "would be read first" in result["msg"]


def test_another_failure_is_the_result() -> None:
    action, _ = task(["haproxy"], [found(), LOCKED])
    assert action.run() == LOCKED | {"installed": False}


INTERRUPTED = {"failed": True, "msg": "E: dpkg was interrupted, you must manually run 'sudo dpkg --configure -a'"}


def test_what_was_half_installed_is_finished_first() -> None:
    action, calls = task(["haproxy"], [found(), INTERRUPTED, {"rc": 0}, DONE])
    assert action.run() == {"changed": True, "installed": False}
    assert [name for name, _ in calls] == [
        *("apt_installed", "ansible.builtin.apt", "ansible.builtin.command", "ansible.builtin.apt")
    ]
    action, _ = task(["haproxy"], [found(), INTERRUPTED, {"failed": True, "stderr": "nginx is broken"}])
    result = action.run()
    assert result["failed"]
    assert result["msg"] == "dpkg was interrupted on this host, and `dpkg --configure -a` says: nginx is broken"
