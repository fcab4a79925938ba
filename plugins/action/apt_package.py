"""The task `apt_package`: packages as they are wanted; apt is asked only where there is something to do.

A new host has no package lists, and those of another may be old. Then they are read, and apt is asked once more. Lists
that serve are not read again: one repository of somebody else that is gone would stop the run. What was half installed
when the host went down is finished first.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ansible.plugins.action import ActionBase

_ARGUMENTS = {
    # `name` or `name=version`, with `*` in the version.
    "packages": {"type": "list", "elements": "str", "required": True},
    # How many seconds another run of apt or dpkg is waited for.
    "lock_timeout": {"type": "int", "required": True},
}
# What apt says where its lists are missing or older than the archive.
_LISTS = re.compile(r"No package matching|no available installation candidate|Failed to fetch")
# What apt says where a host went down while packages were installed, and what mends that.
_INTERRUPTED = "dpkg was interrupted"
_FINISH = [
    *("env", "DEBIAN_FRONTEND=noninteractive"),
    *("dpkg", "--force-confdef", "--force-confold", "--configure", "--pending"),
]


def _lists_lack(result: Mapping[str, Any]) -> bool:
    return bool(result.get("failed")) and _LISTS.search(str(result.get("msg"))) is not None


class ActionModule(ActionBase):  # type: ignore[misc]
    """Installs packages.

    The result is that of ``ansible.builtin.apt``, with ``installed``: whether all were there before, in any version.
    """

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Look, install what is missing or of another version, and return the result."""
        super().run(tmp, task_vars)
        _, given = self.validate_argument_spec(_ARGUMENTS)
        packages = given["packages"]
        found: dict[str, Any] = self._execute_module("apt_installed", {"packages": packages}, task_vars=task_vars)
        if found.get("failed") or found["complete"]:
            return found
        arguments = {
            "name": packages,
            "install_recommends": False,
            "allow_downgrade": any("=" in package for package in packages),
            "lock_timeout": given["lock_timeout"],
        }
        result = self._asked(arguments, task_vars)
        if _lists_lack(result) and self._task.check_mode:
            result = {"changed": True, "msg": "The package lists are missing or old. They would be read first."}
        elif _lists_lack(result):
            result = self._asked(arguments | {"update_cache": True}, task_vars)
            if _lists_lack(result):
                result["msg"] = (
                    f"{str(result['msg']).rstrip('. ')}. The package lists were read anew before: see that the version "
                    "is right, and what sources.list, sources.list.d and preferences.d in /etc/apt say."
                )
        return result | {"installed": found["installed"]}

    def _asked(self, arguments: dict[str, Any], task_vars: dict[str, Any] | None) -> dict[str, Any]:
        """Return what apt answers, once what was half installed is finished."""
        result: dict[str, Any] = self._execute_module("ansible.builtin.apt", arguments, task_vars=task_vars)
        if not result.get("failed") or _INTERRUPTED not in str(result.get("msg")):
            return result
        finished = self._execute_module("ansible.builtin.command", {"argv": _FINISH}, task_vars=task_vars)
        if finished.get("failed"):
            said = f"{finished.get('stdout', '')}\n{finished.get('stderr', '')}".strip() or finished.get("msg")
            return {**result, "msg": f"{_INTERRUPTED} on this host, and `dpkg --configure -a` says: {said}"}
        return dict(self._execute_module("ansible.builtin.apt", arguments, task_vars=task_vars))
