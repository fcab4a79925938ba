"""Looks, before anything of the project is read, whether it can be: the version of Ansible, its settings, collections.

Ansible reads plugins of this kind beside a playbook, whatever its settings say, and asks them while it reads the
inventory. Later would be too late: an ansible-core that is too old ends with a parser's words, and one that has not
read ansible.cfg finds no role.
"""

from __future__ import annotations

import importlib.util
import shlex
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from ansible import constants, context
from ansible.errors import AnsibleError
from ansible.plugins.vars import BaseVarsPlugin
from ansible.release import __version__ as core

DOCUMENTATION = """
name: guard
short_description: refuses what can't run the project's playbooks
description: It sets no variable.
options:
  stage:
    type: str
    choices: [inventory]
    default: inventory
    description: Asked once, with the inventory.
"""

PROJECT = Path(__file__).resolve().parents[1]
# The first with strict conditionals, which the roles are written for.
OLDEST_CORE = (2, 19)


def version_problem(version: str) -> str:
    """Return what is wrong with a version of ansible-core, or nothing."""
    if tuple(int(part) for part in version.split(".")[:2]) >= OLDEST_CORE:
        return ""
    oldest = ".".join(map(str, OLDEST_CORE))
    return f"ansible-core {version} is too old: {oldest} or newer is needed; `make` installs the tested one in .venv."


def settings_problem(roles: list[str], settings: str | None, folder: Path) -> str:
    """Return why the project's ansible.cfg is not in force, or nothing.

    Args:
        roles: the folders where Ansible looks for roles.
        settings: the ansible.cfg that it has read, None where it has read none.
        folder: where it was started.
    """
    if PROJECT / "roles" in [Path(path).resolve() for path in roles]:
        return ""
    project = shlex.quote(str(PROJECT))
    mend = f"export ANSIBLE_CONFIG={project}/ansible.cfg"
    if settings:
        return f"Ansible has read {settings} instead of the project's ansible.cfg: {mend}"
    if folder.resolve() == PROJECT and folder.stat().st_mode & stat.S_IWOTH:
        return f"Every user may write to {project}, so Ansible ignores its ansible.cfg: chmod o-w {project}, or {mend}"
    return f"Ansible has not read the project's ansible.cfg: start it in {project}, or {mend}"


def collections_problem(names: list[str]) -> str:
    """Return which collections are missing, or nothing."""
    missing = [name for name in names if not importlib.util.find_spec(f"ansible_collections.{name}")]
    if not missing:
        return ""
    return (
        f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not installed: ansible-galaxy collection install "
        f"-r {shlex.quote(str(PROJECT))}/requirements.yml; `make` installs all in .venv."
    )


def options_problem(options: Mapping[str, Any]) -> str:
    """Return which option of the command line would leave out what the rest of the run needs, or nothing."""
    if not options.get("start_at_task"):
        return ""
    return (
        "--start-at-task leaves out the checks, and what the tasks before it find out for those after it: leave it "
        "out. What is as it should be is passed over in seconds."
    )


class VarsModule(BaseVarsPlugin):  # type: ignore[misc]  # Ansible has no types.
    """Asked for variables, it looks once whether the project can run, and has none."""

    passed = False

    def get_vars(self, loader: Any, path: str, entities: Any) -> dict[str, Any]:
        """Return no variables.

        Raises:
            AnsibleError: the project can't run; says why and how to mend it.
        """
        super().get_vars(loader, path, entities)
        if not VarsModule.passed:
            collections = yaml.safe_load((PROJECT / "requirements.yml").read_text())["collections"]
            problem = (
                version_problem(core)
                or settings_problem(constants.DEFAULT_ROLES_PATH, constants.CONFIG_FILE, Path.cwd())
                or collections_problem([item["name"] for item in collections])
                or options_problem(context.CLIARGS)
            )
            if problem:
                raise AnsibleError(problem)
            VarsModule.passed = True
        return {}
