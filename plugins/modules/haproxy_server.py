"""Ansible module: drain, ready or report servers of an HAProxy through its runtime socket.

What HAProxy says is parsed by pure functions; only :class:`Runtime` and :func:`main` touch the host. Runs on the
balancer, with the distribution's Python.
"""

from __future__ import annotations

import csv
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

DOCUMENTATION = """
module: haproxy_server
short_description: Drain, ready or report servers of an HAProxy
description:
  - Reads and sets the administrative state of a server through HAProxy's runtime socket.
  - Keeps a note of each drain that a roll-out makes, from before it is made until it has ended. So what a killed
    roll-out has left drained is told from what an operator has drained.
options:
  name: {description: "The server; without it all servers are reported.", type: str}
  backend: {description: "The backend that holds the servers; without it, every one that has such servers.", type: str,
            default: ""}
  socket: {description: "The runtime socket, level admin.", type: path, default: /run/haproxy/admin.sock}
  state: {description: "The wanted administrative state; without it the state is only reported.", type: str,
          choices: [drain, ready, maint]}
  wait: {description: "Seconds to wait for 0 sessions (drain, maint) or for UP (ready).", type: float, default: 0}
  keep_up: {description: "Refuse to take an UP server out unless so many others are UP.", type: int, default: 0}
  required: {description: "Fail where there is no socket or no such server.", type: bool, default: false}
  roll_out:
    description:
      - A roll-out asks, and not an operator. It drains only what is ready, with a note, and readies only what has one.
      - With C(state=ready) and without I(name), every server that has a note is readied. None of them has to come UP.
    type: bool
    default: false
  notes: {description: "The folder of the notes.", type: path, default: /run/evenkeel-drained}
  address: {description: "Where HAProxy shall find the server from now on, with I(port); as its configuration says
            without it.", type: str}
  port: {description: "See I(address).", type: int}
  up: {description: "Without I(state): servers to wait for until they are UP, unless somebody has drained them. A list
       for each backend.", type: dict, default: {}}
  settled: {description: "With I(up): so many seconds the process must have run, or each server that is not drained must
            have passed a check of it by HTTP. A new process has its predecessor's states until its own checks say
            otherwise.", type: float, default: 0}
author: [evenkeel]
"""
EXAMPLES = """
- name: Drain a server
  haproxy_server: {name: backend-2, state: drain, wait: 30}
"""
RETURN = """
known: {description: "Whether this HAProxy runs and has the server.", type: bool, returned: always}
reached: {description: "Whether what was waited for came about.", type: bool, returned: always}
server: {description: "backend, name, status, admin, sessions, queue, last_check, address, checked.", type: dict,
         returned: where known}
servers: {description: "The same of all servers.", type: list, returned: always}
noted: {description: "Names of the servers that a roll-out has drained.", type: list, returned: always}
down: {description: "Servers of I(up) that are not UP and that nobody has drained, a sentence each, by backend/name.",
       type: dict, returned: always}
left_out: {description: "Whether an operator, and no roll-out, has taken the server out.", type: bool,
           returned: where one is changed}
"""

# The bits of srv_admin_state that an operator sets. A third one, 0x04, only says that the server was `disabled` in the
# configuration: it stays when the server is readied.
_MAINT = 0x01
_DRAIN = 0x08
# Of a large site an answer is megabytes, and after a reload it may be asked for half a minute.
_POLL_SECONDS, _CHECKED_POLL_SECONDS = 0.1, 0.5


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
        address: where HAProxy finds it, such as ``192.0.2.1:80`` or ``[2001:db8::1]:80``.
        backend: the backend that holds it.
        checked: whether this process has had an answer to a check by HTTP; what it shows before is its predecessor's.
    """

    name: str
    status: str
    admin: str
    sessions: int
    queue: int
    last_check: str
    address: str = ""
    backend: str = ""
    checked: bool = False

    @property
    def up(self) -> bool:
        """Whether it gets new requests."""
        return self.admin == "ready" and (self.status.split(" ")[0] == "UP" or self.status == "no check")


def parse_states(text: str) -> dict[str, tuple[str, str]]:
    """Return (administrative state, address) by server from the answer to ``show servers state <backend>``."""
    lines = text.splitlines()
    header = next((line for line in lines if line.startswith("# ")), None)
    if header is None:
        raise HaproxyError(f"HAProxy says about its servers: {text.strip() or 'nothing'}")
    columns = header[2:].split()
    rows = [dict(zip(columns, line.split(), strict=False)) for line in lines if line[:1].isdigit() and " " in line]
    return {
        row["srv_name"]: (_admin(int(row["srv_admin_state"])), _place(row["srv_addr"], row["srv_port"])) for row in rows
    }


def _place(address: str, port: object) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


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
    known = parse_states(states)
    return [
        Server(
            name=row["svname"],
            status=row["status"],
            admin=known[row["svname"]][0],
            sessions=int(row["scur"] or 0),
            queue=int(row["qcur"] or 0),
            last_check=_last_check(row),
            address=known[row["svname"]][1],
            backend=backend,
            checked=row["check_code"] not in {"", "0"},
        )
        for row in csv.DictReader(stat.removeprefix("# ").splitlines())
        if row["pxname"] == backend and row["svname"] in known
    ]


def _last_check(row: dict[str, str]) -> str:
    duration = row.get("check_duration")
    parts = [row.get("check_status"), row.get("check_code"), f"in {duration} ms" if duration else ""]
    return " ".join(part for part in parts if part)


def reached(server: Server, state: str | None) -> bool:
    """Return whether a server is where ``state`` leads to: UP, without requests, or well by a check (``checked``)."""
    if state is None:
        return True
    if state == "checked":
        # One whose last check failed is `UP 3/4`.
        return server.checked and server.status == "UP"
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
    state = f"{server.status} ({server.admin})"
    return f"{server.name} of backend {backend} is {state}, not UP, after {seconds:.3g} s: {check}."


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

    def backends(self) -> list[str]:
        """Return the names of the backends that have servers."""
        lines = self.ask("show servers state").splitlines()
        rows = (line.split() for line in lines if line[:1].isdigit() and " " in line)
        return list(dict.fromkeys(row[1] for row in rows))


def await_state(
    look: Callable[[], list[Server]], names: Sequence[str], state: str | None, seconds: float
) -> list[Server]:
    """Return the servers as soon as all ``names`` are where ``state`` leads to, or as they are after ``seconds``."""
    deadline = time.monotonic() + seconds
    while True:
        servers = look()
        found = {server.name: server for server in servers}
        if time.monotonic() >= deadline or all(name in found and reached(found[name], state) for name in names):
            return servers
        time.sleep(_CHECKED_POLL_SECONDS if state == "checked" else _POLL_SECONDS)


class Notes:
    """Which servers a roll-out has drained: an empty file each, made before the drain and removed after it."""

    def __init__(self, folder: str, backend: str) -> None:
        """Keep the folder's path; a reboot, which ends every drain, empties it."""
        self._folder = Path(folder) / backend
        self._files = "*" if backend else "*/*"

    def names(self) -> list[str]:
        """Return the servers' names."""
        return sorted({path.name for path in self._folder.glob(self._files)})

    def add(self, name: str) -> None:
        """Note a drain that is about to be made."""
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / name).touch()

    def remove(self, name: str) -> None:
        """Forget a drain that has ended, or has become an operator's."""
        (self._folder / name).unlink(missing_ok=True)


class Change:
    """What is done to a server."""

    def __init__(self, runtime: Runtime, notes: Notes, parameters: dict[str, Any]) -> None:
        """Keep whom to ask and what is wanted."""
        self.wanted = parameters
        self._runtime, self._notes, self._backend = runtime, notes, parameters["backend"]

    def look(self) -> list[Server]:
        """Return the servers as they are now."""
        return self._runtime.servers(self._backend)

    def uptime(self) -> float:
        """Return for how many seconds the process has run."""
        lines = (line.partition(":") for line in self._runtime.ask("show info").splitlines())
        return float(next((value for key, _, value in lines if key == "Uptime_sec"), 0))

    def _order(self, server: Server, order: str) -> None:
        answer = self._runtime.ask(f"set server {self._backend}/{server.name} {order}").strip()
        # A changed address is answered with what changed.
        if answer and "changed" not in answer and "no need to change" not in answer:
            raise HaproxyError(f"HAProxy refused to set {server.name} to {order.removeprefix('state ')}: {answer}")

    def _moves(self, server: Server) -> bool:
        if not (self.wanted["address"] and self.wanted["port"]):
            return False
        return server.address != _place(self.wanted["address"], self.wanted["port"])

    def would_change(self, server: Server) -> bool:
        """Return whether :meth:`make` has something to do."""
        return self._moves(server) or (server.admin != self.wanted["state"] and not self.left_alone(server))

    def left_alone(self, server: Server) -> bool:
        """Return whether the server's state is an operator's, which a roll-out leaves as it is."""
        return bool(self.wanted["roll_out"]) and server.admin != "ready" and server.name not in self._notes.names()

    def make(self, server: Server) -> None:
        """Drain or ready a server; raises HaproxyError."""
        state, roll_out = self.wanted["state"], self.wanted["roll_out"]
        if self._moves(server):
            self._order(server, f"addr {self.wanted['address']} port {self.wanted['port']}")
        if self.left_alone(server):
            return
        # The note comes before the drain and goes after it. A run that is killed between leaves one too many, never one
        # too few.
        if roll_out and state != "ready":
            self._notes.add(server.name)
        if server.admin != state:
            self._order(server, f"state {state}")
        if not roll_out or state == "ready":
            self._notes.remove(server.name)


def change_one(server: Server, servers: list[Server], change: Change, check_mode: bool) -> dict[str, Any]:
    """Drain or ready one server and wait for what that leads to; return what the module says of it."""
    wanted, state = change.wanted, change.wanted["state"]
    changed, left_out = change.would_change(server), change.left_alone(server)
    result: dict[str, Any] = {"changed": changed, "left_out": left_out}
    sentence = refusal(servers, server.name, wanted["keep_up"]) if changed and state != "ready" else None
    if sentence:
        raise HaproxyError(sentence)
    if check_mode:
        return result
    change.make(server)
    if left_out or not wanted["wait"]:
        return result
    after = await_state(change.look, [server.name], state, wanted["wait"])
    found = next((one for one in after if one.name == server.name), None)
    if state == "ready" and found is None:
        raise HaproxyError(f"{server.name} left the backend {wanted['backend']} while it was waited for.")
    if state == "ready" and found and not found.up:
        raise HaproxyError(unready(found, wanted["backend"], wanted["wait"]))
    return result


def end_noted(servers: list[Server], notes: Notes, change: Change, check_mode: bool) -> dict[str, Any]:
    """Ready every server that a roll-out has left drained, and wait for them; return what the module says of it."""
    noted = notes.names()
    if noted and not check_mode:
        for server in servers:
            if server.name in noted:
                change.make(server)
        # One that has left the site since has no drain to end.
        for name in set(noted) - {server.name for server in servers}:
            notes.remove(name)
        known = [server.name for server in servers if server.name in noted]
        await_state(change.look, known, "ready", change.wanted["wait"])
    return {"changed": bool(noted), "noted": noted}


def find_down(servers: list[Server], change: Change) -> dict[str, str]:
    """Return a sentence for each server that should be UP and is not, after the time that it may take."""
    backend, wait, settled = change.wanted["backend"], change.wanted["wait"], change.wanted["settled"]
    up = change.wanted["up"].get(backend, [])
    held = {server.name for server in servers if server.admin != "ready"}
    names = [name for name in up if name not in held]
    if settled:
        # What is said at the end of a run rests on the others too. One that the configuration disables is not checked.
        checked = [server.name for server in servers if server.admin == "ready" and server.status != "MAINT"]
        await_state(change.look, checked, "checked", settled - change.uptime())
    after = await_state(change.look, names, "ready", wait) if up else servers
    found = {server.name: server for server in after}
    return {
        f"{backend}/{name}": unready(found[name], backend, wait)
        if name in found
        else f"HAProxy does not know {name} of backend {backend}."
        for name in up
        if name not in found or (found[name].admin == "ready" and not found[name].up)
    }


def run(parameters: dict[str, Any], check_mode: bool, runtime: Runtime) -> dict[str, Any]:
    """Do what the module's parameters ask for, and return its result; raises HaproxyError."""
    try:
        backends = [parameters["backend"]] if parameters["backend"] else runtime.backends()
    except (FileNotFoundError, ConnectionRefusedError):
        backends = [""]
    asked = list(dict.fromkeys([*backends, *parameters["up"]])) if backends != [""] else backends
    if len(asked) > 1 and parameters["name"] and parameters["state"] not in {None, "ready"}:
        # All or none: nothing is taken out of one backend before the others are asked.
        for backend in asked:
            refuse(parameters | {"backend": backend}, runtime)
    # The time is for all of them together. Where every one is asked, one without such a server is nothing wrong.
    end = time.monotonic() + parameters["wait"]
    results = []
    for number, backend in enumerate(asked):
        left = max(end - time.monotonic(), 0.001) if parameters["wait"] and number else parameters["wait"]
        required = parameters["required"] and (bool(parameters["backend"]) or backends == [""])
        one = {**parameters, "backend": backend, "wait": left, "required": required}
        results.append(run_one(one, check_mode, runtime))
    whole = merged(results)
    if parameters["required"] and not whole["known"]:
        raise HaproxyError(f"HAProxy has no server {parameters['name'] or ''}".rstrip() + ".")
    return whole


def refuse(parameters: dict[str, Any], runtime: Runtime) -> None:
    """Raise HaproxyError where a server may not be taken out of a backend now."""
    servers = runtime.servers(parameters["backend"])
    change = Change(runtime, Notes(parameters["notes"], parameters["backend"]), parameters)
    server = next((server for server in servers if server.name == parameters["name"]), None)
    if server and change.would_change(server):
        sentence = refusal(servers, server.name, parameters["keep_up"])
        if sentence:
            raise HaproxyError(sentence)


def merged(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the results of several backends as one."""
    known = [result for result in results if result["known"]]
    whole: dict[str, Any] = {
        "changed": any(result["changed"] for result in results),
        "known": bool(known),
        "reached": bool(known) and all(result["reached"] for result in known),
        "servers": [server for result in results for server in result["servers"]],
        "noted": sorted({name for result in results for name in result["noted"]}),
        "down": {name: text for result in results for name, text in result["down"].items()},
    }
    if any("left_out" in result for result in results):
        whole["left_out"] = any(result.get("left_out") for result in results)
    busiest = max((result["server"] for result in known if "server" in result), key=_sessions, default=None)
    return whole | ({"server": busiest} if busiest else {})


def _sessions(server: dict[str, Any]) -> int:
    return int(server["sessions"])


def run_one(parameters: dict[str, Any], check_mode: bool, runtime: Runtime) -> dict[str, Any]:
    """Do it in one backend; raises HaproxyError."""
    name, backend, state = parameters["name"], parameters["backend"], parameters["state"]
    notes = Notes(parameters["notes"], backend)
    result: dict[str, Any] = {"changed": False, "known": False, "reached": False, "servers": [], "down": {}}
    try:
        servers = runtime.servers(backend)
    except (FileNotFoundError, ConnectionRefusedError) as error:
        if parameters["required"]:
            raise HaproxyError(f"No HAProxy answers at {parameters['socket']}: {error.strerror}.") from error
        down = {f"{at}/{one}": "No HAProxy runs here." for at, names in parameters["up"].items() for one in names}
        return result | {"noted": notes.names(), "down": down}
    change = Change(runtime, notes, parameters)
    server = next((server for server in servers if server.name == name), None)
    if parameters["required"] and (server is None if name else not servers):
        raise HaproxyError(f"HAProxy has no server {name} in its backend {backend}.")
    if server and state:
        result |= change_one(server, servers, change, check_mode)
    elif state == "ready" and not name:
        result |= end_noted(servers, notes, change, check_mode)
    else:
        result["down"] = find_down(servers, change)
    after = {one.name: one for one in change.look()}
    if name in after:
        result |= {"server": asdict(after[name]), "reached": reached(after[name], state)}
    result["known"] = name in after if name else bool(after)
    return {"noted": notes.names()} | result | {"servers": [asdict(one) for one in after.values()]}


def main() -> None:
    """Ansible's entry point."""
    from ansible.module_utils.basic import AnsibleModule

    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str"},
            "backend": {"type": "str", "default": ""},
            "socket": {"type": "path", "default": "/run/haproxy/admin.sock"},
            "state": {"type": "str", "choices": ["drain", "ready", "maint"]},
            "wait": {"type": "float", "default": 0},
            "keep_up": {"type": "int", "default": 0},
            "required": {"type": "bool", "default": False},
            "roll_out": {"type": "bool", "default": False},
            "notes": {"type": "path", "default": "/run/evenkeel-drained"},
            "address": {"type": "str"},
            "port": {"type": "int"},
            "up": {"type": "dict", "default": {}},
            "settled": {"type": "float", "default": 0},
        },
        required_together=[("address", "port")],
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
