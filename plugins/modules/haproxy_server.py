"""Ansible module: drain, ready or report servers of an HAProxy through its runtime socket.

What HAProxy says is parsed by pure functions; only :class:`Runtime` and :func:`main` touch the host. Runs on the
balancer, with the distribution's Python.
"""

from __future__ import annotations

import csv
import socket
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

DOCUMENTATION = """
module: haproxy_server
short_description: Drain, ready or report servers of an HAProxy
description:
  - Reads and sets the administrative state of a server through HAProxy's runtime socket.
options:
  name: {description: "The server; without it all servers are reported.", type: str}
  backend: {description: "The backend that holds the servers.", type: str, default: app}
  socket: {description: "The runtime socket, level admin.", type: path, default: /run/haproxy/admin.sock}
  state: {description: "The wanted administrative state; without it the state is only reported.", type: str,
          choices: [drain, ready, maint]}
  wait: {description: "Seconds to wait for 0 sessions (drain, maint) or for UP (ready).", type: float, default: 0}
  keep_up: {description: "Refuse to take an UP server out unless so many others are UP.", type: int, default: 0}
  required: {description: "Fail where there is no socket or no such server.", type: bool, default: false}
author: [evenkeel]
"""
EXAMPLES = """
- name: Drain a server
  haproxy_server: {name: backend-2, state: drain, wait: 30}
"""
RETURN = """
known: {description: "Whether this HAProxy runs and has the server.", type: bool, returned: always}
reached: {description: "Whether what was waited for came about.", type: bool, returned: always}
server: {description: "name, status, admin, sessions, queue, last_check.", type: dict, returned: where known}
servers: {description: "The same of all servers of the backend.", type: list, returned: always}
"""

# The bits of srv_admin_state that an operator sets, here or in the configuration.
_MAINT = 0x01 | 0x04
_DRAIN = 0x08
_POLL_SECONDS = 0.1


class HaproxyError(Exception):
    """What HAProxy refused or answered unreadably; its text is the sentence the operator reads."""


@dataclass(frozen=True)
class Server:
    """A server as HAProxy sees it.

    Attributes:
        name: its name.
        status: what its checks say, such as ``UP``, ``DOWN 1/2``, ``DRAIN``, ``NOLB``, ``no check``.
        admin: what was ordered: ``ready``, ``drain`` or ``maint``.
        sessions: requests it is working on.
        queue: requests that wait for it.
        last_check: the last check's result, such as ``L7OK 200 in 2 ms``; empty where there is none.
    """

    name: str
    status: str
    admin: str
    sessions: int
    queue: int
    last_check: str

    @property
    def up(self) -> bool:
        """Whether it gets new requests."""
        return self.admin == "ready" and (self.status.split(" ")[0] == "UP" or self.status == "no check")


def parse_admin_states(text: str) -> dict[str, str]:
    """Return the administrative state by server from the answer to ``show servers state <backend>``."""
    lines = text.splitlines()
    header = next((line for line in lines if line.startswith("# ")), None)
    if header is None:
        raise HaproxyError(f"HAProxy says about its servers: {text.strip() or 'nothing'}")
    columns = header[2:].split()
    rows = [dict(zip(columns, line.split(), strict=False)) for line in lines if line[:1].isdigit() and " " in line]
    return {row["srv_name"]: _admin(int(row["srv_admin_state"])) for row in rows}


def _admin(bits: int) -> str:
    if bits & _MAINT:
        return "maint"
    return "drain" if bits & _DRAIN else "ready"


def parse_servers(stat: str, states: str, backend: str) -> list[Server]:
    """Return a backend's servers, in HAProxy's order.

    Args:
        stat: the answer to ``show stat``.
        states: the answer to ``show servers state <backend>``.
        backend: its name.
    """
    admins = parse_admin_states(states)
    return [
        Server(
            name=row["svname"],
            status=row["status"],
            admin=admins[row["svname"]],
            sessions=int(row["scur"] or 0),
            queue=int(row["qcur"] or 0),
            last_check=_last_check(row),
        )
        for row in csv.DictReader(stat.removeprefix("# ").splitlines())
        if row["pxname"] == backend and row["svname"] in admins
    ]


def _last_check(row: dict[str, str]) -> str:
    duration = row.get("check_duration")
    parts = [row.get("check_status"), row.get("check_code"), f"in {duration} ms" if duration else ""]
    return " ".join(part for part in parts if part)


def reached(server: Server, state: str | None) -> bool:
    """Return whether a server is where ``state`` leads to: UP, or without requests."""
    if state is None:
        return True
    return server.up if state == "ready" else server.sessions == server.queue == 0


def refusal(servers: list[Server], name: str, keep_up: int) -> str | None:
    """Return why a server may not be taken out now; None where it may."""
    others = sum(server.up for server in servers if server.name != name)
    if others >= keep_up or not any(server.up for server in servers if server.name == name):
        return None
    return f"{name} stays in: without it only {others} server(s) would be UP, and {keep_up} must be."


def unready(server: Server, backend: str, seconds: float) -> str:
    """Return the sentence about a server that did not come UP."""
    check = f"its last check says {server.last_check}" if server.last_check else "it was not checked yet"
    return (
        f"{server.name} of backend {backend} is {server.status} ({server.admin}), not UP, after {seconds:g} s: {check}."
    )


class Runtime:
    """HAProxy's runtime socket: a command and its answer on each connection."""

    def __init__(self, path: str) -> None:
        """Keep the socket's path."""
        self._path = path

    def ask(self, command: str) -> str:
        """Return the answer to a command; raises FileNotFoundError or ConnectionRefusedError where no HAProxy runs."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(10)
            connection.connect(self._path)
            connection.sendall(f"{command}\n".encode())
            return b"".join(iter(lambda: connection.recv(65536), b"")).decode()

    def servers(self, backend: str) -> list[Server]:
        """Return the backend's servers; an empty list where there is no such backend."""
        states = self.ask(f"show servers state {backend}")
        return [] if "find backend" in states else parse_servers(self.ask("show stat"), states, backend)


def await_state(look: Callable[[], list[Server]], name: str, state: str | None, seconds: float) -> list[Server]:
    """Return the servers as soon as ``name`` is where ``state`` leads to, or as they are after ``seconds``."""
    deadline = time.monotonic() + seconds
    while True:
        servers = look()
        if time.monotonic() >= deadline or any(reached(server, state) for server in servers if server.name == name):
            return servers
        time.sleep(_POLL_SECONDS)


def run(parameters: dict[str, Any], check_mode: bool, runtime: Runtime) -> dict[str, Any]:
    """Do what the module's parameters ask for, and return its result; raises HaproxyError."""
    name, backend, state = parameters["name"], parameters["backend"], parameters["state"]
    try:
        servers = runtime.servers(backend)
    except (FileNotFoundError, ConnectionRefusedError) as error:
        if parameters["required"]:
            raise HaproxyError(f"No HAProxy answers at {parameters['socket']}: {error.strerror}.") from error
        return {"changed": False, "known": False, "reached": False, "servers": []}
    found = {server.name: server for server in servers}
    result: dict[str, Any] = {"changed": False, "known": bool(servers) if name is None else name in found}
    if parameters["required"] and not result["known"]:
        raise HaproxyError(f"HAProxy has no server {name} in its backend {backend}.")
    if result["known"] and state is not None:
        result["changed"] = found[name].admin != state
        sentence = refusal(servers, name, parameters["keep_up"]) if state != "ready" and result["changed"] else None
        if sentence:
            raise HaproxyError(sentence)
        if not check_mode:
            if result["changed"] and (answer := runtime.ask(f"set server {backend}/{name} state {state}").strip()):
                raise HaproxyError(f"HAProxy refused to set {name} to {state}: {answer}")
            servers = await_state(lambda: runtime.servers(backend), name, state, parameters["wait"])
            found = {server.name: server for server in servers}
    if name in found:
        result["server"] = asdict(found[name])
    result["reached"] = name in found and reached(found[name], state)
    result["servers"] = [asdict(server) for server in servers]
    if state == "ready" and result["known"] and parameters["wait"] and not check_mode and not result["reached"]:
        gone = f"{name} left the backend {backend} while it was waited for."
        raise HaproxyError(unready(found[name], backend, parameters["wait"]) if name in found else gone)
    return result


def main() -> None:
    """Ansible's entry point."""
    from ansible.module_utils.basic import AnsibleModule

    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str"},
            "backend": {"type": "str", "default": "app"},
            "socket": {"type": "path", "default": "/run/haproxy/admin.sock"},
            "state": {"type": "str", "choices": ["drain", "ready", "maint"]},
            "wait": {"type": "float", "default": 0},
            "keep_up": {"type": "int", "default": 0},
            "required": {"type": "bool", "default": False},
        },
        required_by={"state": ["name"]},
        supports_check_mode=True,
    )
    try:
        result = run(module.params, module.check_mode, Runtime(module.params["socket"]))
    except HaproxyError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"HAProxy's socket {module.params['socket']} does not answer: {error}.")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
