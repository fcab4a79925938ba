"""Ansible module: find files that a running service has not read, since it started before they were written.

Runs on the host, with the distribution's Python, 3.9 or newer.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

DOCUMENTATION = """
module: unread_files
short_description: Find files that a running service has not read
description:
  - For services that read their files at their start only. A run that was cut off has written them, and with it ended
    the handler that would have restarted the service. No later run finds the files changed.
  - It changes nothing. It is I(changed) where there are such files, so that it notifies the handler.
options:
  service: {description: "The unit's name.", type: str, required: true}
  files: {description: "The files; one that is not there counts as read.", type: list, elements: path, required: true}
author: [evenkeel]
"""
EXAMPLES = """
- name: Look for what it has not read
  unread_files: {service: grafana-server, files: [/etc/grafana/grafana.ini]}
  notify: Restart grafana
"""
RETURN = """
unread: {description: "Those that are newer than the service's process.", type: list, returned: always}
"""

_PROPERTIES = "--property=MainPID,ExecMainStartTimestampMonotonic"


def started_at(said: str, now: float, monotonic: float) -> float | None:
    """Return when a service's process started, in seconds since the epoch; None where none runs.

    Args:
        said: what ``systemctl show`` says of MainPID and ExecMainStartTimestampMonotonic, in microseconds.
        now: seconds since the epoch.
        monotonic: seconds of the clock that systemd counts by, at the same moment.
    """
    found = dict(line.partition("=")[::2] for line in said.splitlines())
    since = found.get("ExecMainStartTimestampMonotonic", "")
    if found.get("MainPID", "0") == "0" or not since.isdigit():
        return None
    # Not the time of day that it started at: the clock may have been set since.
    return now - (monotonic - int(since) / 1e6)


def unread(files: Iterable[Path], started: float | None) -> list[str]:
    """Return which files were written after a service started; none where it does not run."""
    return [str(path) for path in files if started is not None and path.exists() and path.stat().st_mtime > started]


def main() -> None:
    """Run as an Ansible module."""
    from ansible.module_utils.basic import AnsibleModule

    arguments: dict[str, Any] = {
        "service": {"type": "str", "required": True},
        "files": {"type": "list", "elements": "path", "required": True},
    }
    module = AnsibleModule(arguments, supports_check_mode=True)
    command = ["systemctl", "show", module.params["service"], _PROPERTIES]
    try:
        run = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
        started = started_at(run.stdout, time.time(), time.monotonic())
        found = unread(map(Path, module.params["files"]), started)
    except (OSError, subprocess.TimeoutExpired) as error:
        module.fail_json(msg=f"Nobody can tell what {module.params['service']} has read: {error}.")
    module.exit_json(changed=bool(found), unread=found)


if __name__ == "__main__":
    main()
