"""Ansible module: a lock that two deploys can't hold at once, a file that says who holds it and since when."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

DOCUMENTATION = """
module: deploy_lock
short_description: Take or release a lock against two deploys at once
description:
  - Taken atomically; a lock that another run holds is a failure that names the holder.
  - Released only where this run holds it.
options:
  path: {description: "The lock's file. Whoever locks the site uses the default.", type: path,
         default: /run/evenkeel-deploy.lock}
  state: {description: "Take or release; C(query) only reports who holds it.", type: str,
          choices: [present, absent, query], default: present}
  token: {description: "What tells this run from others.", type: str, default: ""}
  holder: {description: "Who takes it, and what for.", type: str, default: somebody}
  since: {description: "When it is taken.", type: str, default: ""}
  process: {description: "The process that takes it, as the filter this_run names it.", type: str, default: ""}
  gone: {description: "Tokens of runs that have ended; their locks are taken over.", type: list, elements: str,
         default: []}
  break_held: {description: "Take it from whoever holds it.", type: bool, default: false}
author: [evenkeel]
"""
EXAMPLES = """
- name: Take the lock
  deploy_lock: {token: "4711", holder: "me@here", since: "2026-01-01T00:00:00Z"}
"""
RETURN = """
held_by: {description: "The former holder whose lock was broken or taken over.", type: str, returned: where one was}
held: {description: "What the lock's file says: token, holder, since, process; empty where there is none.", type: dict,
       returned: state=query}
"""


class HeldError(Exception):
    """Another run holds the lock; its text says who and since when."""


def read(path: Path) -> dict[str, str] | None:
    """Return what the lock's file says; None where there is no lock."""
    try:
        text = path.read_text()
    except FileNotFoundError:
        return None
    try:
        content = json.loads(text)
    except ValueError:
        content = None
    # Whatever else lies there is a lock all the same.
    return {str(key): str(value) for key, value in content.items()} if isinstance(content, dict) else {}


def describe(content: dict[str, str]) -> str:
    """Return a lock's holder in words."""
    return f"{content.get('holder', 'somebody unknown')} since {content.get('since', 'an unknown time')}"


def take(path: Path, content: dict[str, str], break_held: bool = False, gone: Sequence[str] = ()) -> str | None:
    """Take the lock; return the holder whose lock was broken, if any.

    Args:
        path: the lock's file.
        content: what it shall say; its ``token`` tells this run from others.
        break_held: take it from whoever holds it.
        gone: tokens of runs that have ended, whose locks are taken over.

    Raises:
        HeldError: another run holds it.
    """
    draft = path.with_name(f"{path.name}.{content['token']}")
    draft.write_text(json.dumps(content))
    broken = None
    try:
        while True:
            try:
                # A link is made or it is not, and the file has its content from the start.
                os.link(draft, path)
            except FileExistsError:
                held = read(path)
                if held is not None and held.get("token") == content["token"]:
                    return broken
                if held is not None and not break_held and held.get("token") not in gone:
                    raise HeldError(describe(held)) from None
                if held is not None:
                    broken = describe(held)
                    path.unlink(missing_ok=True)
            else:
                return broken
    finally:
        draft.unlink(missing_ok=True)


def release(path: Path, token: str) -> bool:
    """Release the lock where ``token`` holds it; return whether it did."""
    held = read(path)
    if held is None or held.get("token") != token:
        return False
    path.unlink(missing_ok=True)
    return True


def run(parameters: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """Do what the module's parameters ask for, and return its result; raises HeldError."""
    path = Path(parameters["path"])
    held = read(path)
    mine = held is not None and held.get("token") == parameters["token"]
    if parameters["state"] == "query":
        return {"changed": False, "held": {} if held is None else {"token": "", **held}}
    if parameters["state"] == "absent":
        return {"changed": mine if check_mode else release(path, parameters["token"])}
    if check_mode:
        if (
            held is not None
            and not mine
            and not parameters["break_held"]
            and held.get("token") not in parameters["gone"]
        ):
            raise HeldError(describe(held))
        return {"changed": not mine}
    content = {key: parameters[key] for key in ("holder", "since", "token", "process")}
    broken = take(path, content, parameters["break_held"], parameters["gone"])
    return {"changed": not mine} | ({"held_by": broken} if broken else {})


def main() -> None:
    """Ansible's entry point."""
    from ansible.module_utils.basic import AnsibleModule

    module = AnsibleModule(
        argument_spec={
            # Here and nowhere else: two paths would be two locks.
            "path": {"type": "path", "default": "/run/evenkeel-deploy.lock"},
            "state": {"type": "str", "choices": ["present", "absent", "query"], "default": "present"},
            "token": {"type": "str", "default": "", "no_log": False},
            "holder": {"type": "str", "default": "somebody"},
            "since": {"type": "str", "default": ""},
            "process": {"type": "str", "default": ""},
            "gone": {"type": "list", "elements": "str", "default": []},
            "break_held": {"type": "bool", "default": False},
        },
        required_if=[("state", "present", ("token",)), ("state", "absent", ("token",))],
        supports_check_mode=True,
    )
    try:
        result = run(module.params, module.check_mode)
    except HeldError as error:
        module.fail_json(msg=f"Another run holds the lock: {error}.", held=str(error))
    except OSError as error:
        module.fail_json(msg=f"The lock {module.params['path']} can't be used: {error}.")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
