"""The task `chaos_mark`: a mark in the timeline of a chaos run (docs/report.md).

Ansible's own process writes it. A command would start Python twice, on the machine that sends the load.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase

sys.path.append(str(Path(__file__).resolve().parents[2] / "src"))

from evenkeel.chaos.record.timeline import Mark, add
from evenkeel.errors import EvenkeelError

_ARGUMENTS = {
    "folder": {"type": "path", "required": True},
    "name": {"type": "str", "required": True},
    "text": {"type": "str", "default": ""},
    # Seconds since the epoch.
    "at": {"type": "float"},
}


class ActionModule(ActionBase):  # type: ignore[misc]
    """Appends one mark."""

    _requires_connection = False
    _supports_check_mode = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Write the mark, made now unless ``at`` says when, and return the result."""
        now = time.time()
        super().run(tmp, task_vars)
        _, given = self.validate_argument_spec(_ARGUMENTS)
        try:
            add(Path(given["folder"]), Mark(given["at"] or now, given["name"], given["text"]))
        except EvenkeelError as error:
            return {"failed": True, "msg": str(error)}
        return {"changed": True}
