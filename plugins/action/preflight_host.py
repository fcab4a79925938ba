"""The task `preflight_host`: one look at a host, with its facts, before anything is changed there.

What is wrong does not fail the task: the task `preflight_report` tells it, together with what is wrong elsewhere.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

_ARGUMENTS: dict[str, dict[str, Any]] = {
    # Whether nothing is looked at but that the host can be worked on.
    "brief": {"type": "bool", "default": False},
    # The supported releases of each distribution, and machines.
    "platforms": {"type": "dict", "required": True},
    "architectures": {"type": "list", "elements": "str", "required": True},
    "cloud_init": {"type": "path", "default": "/usr/bin/cloud-init"},
    "cloud_init_seconds": {"type": "int", "required": True},
    "apt_seconds": {"type": "int", "required": True},
    "disk_megabytes": {"type": "int", "required": True},
    "memory_megabytes": {"type": "int", "required": True},
    # Other hosts' places that this one must reach: `name`, `address` and `port`.
    "paths": {"type": "list", "elements": "dict", "default": []},
}
_FACTS = ["!all", "!min", "distribution", "platform"]
# What is waited for: why, and how to mend it where it lasts.
_WAITS = {
    "cloud-init": (
        "it is still being set up: its cloud-init ({0}) has not finished within {1} s and holds the packages",
        "See there what it waits for (cloud-init status --long, /var/log/cloud-init-output.log), or set "
        "preflight_cloud_init_seconds to more.",
    ),
    "apt": (
        "apt is locked by {0}, and has been for {1} s",
        "Wait until it is done, or see what it waits for (ps, /var/log/unattended-upgrades), or set "
        "preflight_apt_seconds to more.",
    ),
}


def platform_problems(
    facts: Mapping[str, Any], platforms: Mapping[str, Sequence[object]], architectures: Sequence[str]
) -> list[str]:
    """Return why the roles are not made for a host, a sentence each.

    Args:
        facts: as Ansible gathers them, with their prefix.
        platforms: releases by distribution: Debian's by major version, Ubuntu's by year and month.
        architectures: as ``uname`` names them.
    """
    problems = []
    name, version = facts.get("ansible_distribution"), str(facts.get("ansible_distribution_version"))
    releases = {version, str(facts.get("ansible_distribution_major_version"))}
    if not releases & set(map(str, platforms.get(str(name), []))):
        known = ", ".join(f"{each} {' and '.join(map(str, platforms[each]))}" for each in platforms)
        problems.append(f"It runs {name} {version}, which is not supported: use one of {known}.")
    if facts.get("ansible_architecture") not in architectures:
        machine = facts.get("ansible_architecture")
        problems.append(f"It is {machine}, which is not supported: use one of {', '.join(architectures)}.")
    return problems


class ActionModule(ActionBase):  # type: ignore[misc]
    """Looks at a host.

    The result has ``problems`` and ``notes``, sentences; ``unreached``, places with ``name``, ``address``, ``port`` and
    ``why``; ``clock``, between which two numbers of seconds the host's clock is ahead of this machine's; and
    ``ansible_facts``, those of the distribution and the machine.
    """

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Look, wait for what ends by itself, and return the result."""
        super().run(tmp, task_vars)
        _, given = self.validate_argument_spec(_ARGUMENTS)
        facts: dict[str, Any] = {}
        if not given["brief"]:
            facts = self._execute_module("ansible.builtin.setup", {"gather_subset": _FACTS}, task_vars=task_vars)
        if facts.get("failed") or facts.get("unreachable"):
            return facts
        limits = {"cloud-init": given["cloud_init_seconds"], "apt": given["apt_seconds"]}
        found = self._look(given, {}, task_vars)
        # Whatever holds it up is waited for in one go, and not in silence.
        left = {name: limits[name] for name in found.get("waits", {}) if limits[name] > 0}
        if left:
            host = (task_vars or {}).get("inventory_hostname")
            for name, seconds in left.items():
                words = found["waits"][name]
                Display().display(f"{host}: waiting for {name} ({words}), at most {seconds} s")
            found = self._look(given, left, task_vars)
        if found.get("failed") or found.get("unreachable"):
            return found
        known = facts.get("ansible_facts", {})
        problems = platform_problems(known, given["platforms"], given["architectures"]) if known else []
        for name, words in found["waits"].items():
            what, mend = _WAITS[name]
            said = what.format(words, limits[name])
            problems.append(f"{said[0].upper()}{said[1:]}. {mend}")
        return {
            "changed": False,
            "ansible_facts": known,
            "problems": problems + found["problems"],
            "notes": found["notes"],
            "unreached": found["unreached"],
            "clock": found["clock"],
        }

    def _look(
        self, given: Mapping[str, Any], wait: Mapping[str, int], task_vars: dict[str, Any] | None
    ) -> dict[str, Any]:
        arguments = {
            name: given[name] for name in ("brief", "cloud_init", "disk_megabytes", "memory_megabytes", "paths")
        }
        before = time.time()
        found: dict[str, Any] = self._execute_module(
            "host_state", {**arguments, "wait": dict(wait)}, task_vars=task_vars
        )
        if "began" in found:
            found["clock"] = [found["ended"] - time.time(), found["began"] - before]
        return found
