"""Ansible module: which services an HAProxy keeps in maintenance, and whether one of them is.

They stand in a map that HAProxy reads at its start. The file is changed first, then the running process: so a reload
or a reboot forgets nothing, and a run that was killed between the two is mended by the next one. Runs on the balancer,
with the distribution's Python.
"""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

DOCUMENTATION = """
module: haproxy_maintenance
short_description: Put services behind an HAProxy into maintenance, or end that
description:
  - Changes a map of HAProxy, on the disk and in the running process. Without a reload, and for good.
  - Without I(service) and I(known) it only says what is in maintenance.
options:
  service: {description: "The service that is meant.", type: str, default: ""}
  active: {description: "Whether it is to be in maintenance.", type: bool, default: false}
  known: {description: "The services there are; others are forgotten.", type: list, elements: str}
  path: {description: "The map's file; a service a line.", type: path,
         default: /var/lib/evenkeel/haproxy/maintenance.map}
  socket: {description: "The runtime socket, level admin.", type: path, default: /run/haproxy/admin.sock}
  required: {description: "Fail where the map is not there, or the running HAProxy does not read it.", type: bool,
             default: false}
author: [evenkeel]
"""
EXAMPLES = """
- name: Put the shop into maintenance
  haproxy_maintenance: {service: shop, active: true}
"""
RETURN = """
services: {description: "Those in maintenance: as the running process says; where none runs, as the file says.",
           type: list, returned: always}
"""

Ask = Callable[[str], str]


class MaintenanceError(Exception):
    """What can't be done, or what HAProxy refused; its text is the sentence the operator reads."""


def entries(lines: Iterable[str], column: int = 0) -> list[str]:
    """Return the services of a map's lines, sorted; in HAProxy's answer an address comes before them (column 1)."""
    words = (line.split() for line in lines if not line.startswith("#"))
    return sorted({each[column] for each in words if len(each) > column})


def running(ask: Ask, path: str) -> list[str] | None:
    """Return the services in the running process's map; None where it has no such map.

    Raises:
        FileNotFoundError, ConnectionRefusedError: no HAProxy runs.
    """
    answer = ask(f"show map {path}")
    return None if answer.startswith("Unknown map") else entries(answer.splitlines(), 1)


def write(path: Path, services: Iterable[str]) -> None:
    """Replace the map's file in one step; comments stay."""
    comments = [line for line in path.read_text().splitlines() if line.startswith("#")]
    new = path.with_suffix(".new")
    with new.open("w") as file:
        file.writelines(f"{line}\n" for line in [*comments, *(f"{service} on" for service in services)])
        os.fchmod(file.fileno(), 0o644)
        file.flush()
        # It is to outlive a power cut too.
        os.fsync(file.fileno())
    new.replace(path)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keep out others that would change the same map."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def order(ask: Ask, command: str) -> None:
    """Tell HAProxy to change its map; raises MaintenanceError where it says anything about it."""
    answer = ask(command).strip()
    if answer:
        raise MaintenanceError(f"HAProxy refused `{command}`: {answer}")


def run(parameters: dict[str, Any], check_mode: bool, ask: Ask) -> dict[str, Any]:
    """Do what the module's parameters ask for, and return its result; raises MaintenanceError."""
    path = Path(parameters["path"])
    changes = bool(parameters["service"] or parameters["known"] is not None)
    with alone(path.parent) if changes and not check_mode and path.is_file() else nullcontext():
        try:
            live, runs = running(ask, str(path)), True
        except (FileNotFoundError, ConnectionRefusedError):
            live, runs = None, False
        here = path.is_file()
        if parameters["required"] and (not here or (runs and live is None)):
            raise MaintenanceError("HAProxy does not know of maintenance here, so nothing was changed: run site.yml.")
        held = entries(path.read_text().splitlines()) if here else []
        if here and changes:
            return change(parameters, held, live, None if check_mode else ask)
        return {"changed": False, "services": held if not runs else live or []}


def change(parameters: dict[str, Any], held: list[str], live: list[str] | None, ask: Ask | None) -> dict[str, Any]:
    """Bring file and process to what is wanted and return the module's result; without ``ask`` nothing is done.

    Args:
        parameters: the module's.
        held: the services in the file.
        live: those in the running process; None where it has no such map, or none runs.
        ask: asks the process.

    Raises:
        MaintenanceError: HAProxy refused it.
    """
    path, service, known = Path(parameters["path"]), parameters["service"], parameters["known"]
    kept = [name for name in held if name != service and (known is None or name in known)]
    wanted = sorted([*kept, service] if parameters["active"] else kept)
    changed = wanted != held or live not in (None, wanted)
    if ask is None or not changed:
        return {"changed": changed, "services": held if live is None else live}
    if wanted != held:
        write(path, wanted)
    if live is not None:
        for name in [name for name in live if name not in wanted]:
            order(ask, f"del map {path} {name}")
        for name in [name for name in wanted if name not in live]:
            order(ask, f"add map {path} {name} on")
    return {"changed": True, "services": wanted}


def ask(path: str, command: str) -> str:
    """Return the answer of a runtime socket; raises FileNotFoundError, ConnectionRefusedError where no HAProxy runs."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(10)
        connection.connect(path)
        connection.sendall(f"{command}\n".encode())
        return b"".join(iter(lambda: connection.recv(65536), b"")).decode()


def main() -> None:
    """Ansible's entry point."""
    from ansible.module_utils.basic import AnsibleModule

    module = AnsibleModule(
        argument_spec={
            "service": {"type": "str", "default": ""},
            "active": {"type": "bool", "default": False},
            "known": {"type": "list", "elements": "str"},
            "path": {"type": "path", "default": "/var/lib/evenkeel/haproxy/maintenance.map"},
            "socket": {"type": "path", "default": "/run/haproxy/admin.sock"},
            "required": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    try:
        result = run(module.params, module.check_mode, partial(ask, module.params["socket"]))
    except MaintenanceError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"The maintenance map {module.params['path']} can't be used: {error}.")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
