"""Ansible module: find what somebody else set up on a host where a role would put its own, before anything is changed.

What the kernel, dpkg and the engine say is parsed by pure functions; only :class:`Host`, :class:`Engine` and
:func:`main` touch the host. Runs there with the distribution's Python, 3.9 or newer.
"""

from __future__ import annotations

import contextlib
import fnmatch
import hashlib
import http.client
import ipaddress
import json
import os
import re
import socket
import stat
import subprocess
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DOCUMENTATION = """
module: foreign
short_description: Find what somebody else set up where a role would put its own
description:
  - Looks at files, folders, containers and ports. What this project did not make is somebody else's.
  - Fails with everything that it found in one message, unless I(adopt) is true. Then the role may replace it, and
    I(state=adopt) keeps it under another name, C(<path>.before-evenkeel), first. An earlier copy is never overwritten.
  - A port that somebody else's program holds is a failure in any case. No role stops a program that is not its own.
options:
  role: {description: "The role that asks, which has a setting C(<role>_adopt).", type: str, required: true}
  adopt: {description: "Whether the role may replace what is there.", type: bool, default: false}
  state: {description: "C(adopt) keeps copies, unless in check mode; C(check) changes nothing.", type: str,
          choices: [check, adopt], default: check}
  problems: {description: "What is wrong with the role's settings, a sentence each, with its mend.", type: list,
             elements: str, default: []}
  files:
    description:
      - Files that the role writes.
      - "I(path); I(marks), a list of regular expressions of which one is found in what this project wrote; I(package),
        whose own unchanged configuration is nobody's; I(samples), files whose unchanged copy is nobody's."
    type: list
    elements: dict
    default: []
  uses:
    description:
      - Files and folders that do not tell whose they are, such as programs and databases.
      - "I(paths); I(ours), files of which one is there wherever they are this project's; I(marks), which it then has;
        I(adopting), what adopting does to them, in words; I(copy), whether files are kept under another name."
    type: list
    elements: dict
    default: []
  folders:
    description: Folders that the role empties of other files, I(path) and I(marks) as in I(files).
    type: list
    elements: dict
    default: []
  containers:
    description: Containers that the role makes, I(name) and I(marks), which are looked for in C(docker inspect).
    type: list
    elements: dict
    default: []
  ports:
    description:
      - Ports that the role listens on.
      - "I(address), I(port); I(units) and I(containers), who may hold it already; I(setting), the name of the variable
        that chooses another one."
      - "I(without_ipv6): IPv6 alone is meant, and this is to be done where the kernel has none."
    type: list
    elements: dict
    default: []
  listeners:
    description:
      - All ports that answer elsewhere than at the host itself, which the role would close.
      - "I(known), the ports that are this project's or were named; I(adopting), what adopting does to the others;
        I(setting), the name of the variable that lists those that stay open. None are looked for where it is empty."
    type: dict
    default: {}
  packages:
    description:
      - Packages that the role installs, which somebody may hold.
      - "I(name), C(name) or C(name=version), with C(*) in the version; I(setting), the name of the variable that
        chooses the version."
    type: list
    elements: dict
    default: []
author: [evenkeel]
"""
EXAMPLES = """
- name: preflight | Look for what somebody else set up
  foreign:
    role: haproxy
    adopt: "{{ haproxy_adopt }}"
    files: [{path: /etc/haproxy/haproxy.cfg, marks: [evenkeel], package: haproxy}]
    ports: [{address: 10.0.0.1, port: 80, units: [haproxy.service], setting: haproxy_bind_port}]
    state: adopt
"""
RETURN = """
found: {description: "What is somebody else's, a sentence each.", type: list, returned: always}
rows: {description: "The same in parts, I(what) and I(mend), where it fails.", type: list, returned: failure}
kept: {description: "The names it was (or would be) kept under.", type: list, returned: always}
"""

_SUFFIX = ".before-evenkeel"
_LISTEN = "0A"
_NAMES_SHOWN = 5
_ENGINE_SECONDS = 10
_STOP_SECONDS = 60
# Enough for every configuration; a mark is in the first lines.
_READ_BYTES = 4 << 20


_TEXTS: dict[str, Any] = {"type": "list", "elements": "str", "default": []}
_TEXT: dict[str, Any] = {"type": "str", "default": ""}
_PATH: dict[str, Any] = {"type": "path", "required": True}


def _dicts(**options: dict[str, Any]) -> dict[str, Any]:
    return {"type": "list", "elements": "dict", "default": [], "options": options}


ARGUMENTS: dict[str, dict[str, Any]] = {
    "role": {"type": "str", "required": True},
    "adopt": {"type": "bool", "default": False},
    "state": {"type": "str", "choices": ["check", "adopt"], "default": "check"},
    "problems": _TEXTS,
    "files": _dicts(path=_PATH, marks=_TEXTS, package=_TEXT, samples=_TEXTS),
    "uses": _dicts(
        paths={"type": "list", "elements": "path", "required": True},
        ours={"type": "list", "elements": "path", "required": True},
        marks=_TEXTS,
        adopting={"type": "str", "required": True},
        copy={"type": "bool", "default": True},
    ),
    "folders": _dicts(path=_PATH, marks=_TEXTS),
    "containers": _dicts(name={"type": "str", "required": True}, marks=_TEXTS),
    "ports": _dicts(
        address={"type": "str", "required": True},
        port={"type": "int", "required": True},
        units=_TEXTS,
        containers=_TEXTS,
        setting=_TEXT,
        without_ipv6=_TEXT,
    ),
    "listeners": {
        "type": "dict",
        "default": {},
        "options": {
            "known": {"type": "list", "elements": "int", "default": []},
            "adopting": _TEXT,
            "setting": _TEXT,
        },
    },
    "packages": _dicts(name={"type": "str", "required": True}, setting=_TEXT),
}


class ForeignError(Exception):
    """What could not be looked at; its text is the sentence the operator reads."""


@dataclass(frozen=True)
class Listener:
    """A listening TCP socket: its address as text, such as ``10.0.0.1`` or ``::``, its port, and its inode."""

    address: str
    port: int
    inode: str


@dataclass(frozen=True)
class Holder:
    """A process that holds a socket.

    Attributes:
        pid: its number.
        name: the program's name, such as ``nginx``.
        unit: the systemd unit it belongs to; empty where it belongs to none.
        container: the id of the container it runs in; empty where it runs in none.
    """

    pid: int
    name: str
    unit: str
    container: str

    @property
    def words(self) -> str:
        """The process in words."""
        return f"{self.name} (process {self.pid}{f' of {self.unit}' if self.unit else ''})"


@dataclass(frozen=True)
class Container:
    """A container.

    Attributes:
        name: its name.
        identity: its id, 64 digits.
        image: the image it was made of, as it was named.
        state: such as ``running`` or ``exited``.
        ports: the published ``(address, port)`` of a running one, TCP only.
    """

    name: str
    identity: str
    image: str
    state: str
    ports: tuple[tuple[str, int], ...]

    @property
    def words(self) -> str:
        """The container in words."""
        return f"container {self.name} (image {self.image}, {self.state})"


@dataclass(frozen=True)
class Find:
    """Something that is somebody else's.

    Attributes:
        sentence: what it is.
        adopting: what adopting it does; empty where it can't be adopted.
        otherwise: how to go on without adopting it.
    """

    sentence: str
    adopting: str
    otherwise: str


def parse_listeners(text: str) -> list[Listener]:
    """Return the listening sockets in the text of ``/proc/net/tcp`` or ``tcp6``, whose first line is a heading."""
    rows = (line.split() for line in text.splitlines()[1:])
    return [
        Listener(_address(row[1].partition(":")[0]), int(row[1].partition(":")[2], 16), row[9])
        for row in rows
        if len(row) > 9 and row[3] == _LISTEN
    ]


def _address(digits: str) -> str:
    """Return the address that the kernel writes as words of four bytes, lowest byte first."""
    raw = b"".join(bytes.fromhex(digits[at : at + 8])[::-1] for at in range(0, len(digits), 8))
    address = ipaddress.ip_address(raw)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


def overlap(one: str, other: str) -> bool:
    """Return whether two sockets of these addresses get in each other's way; a name could be any address."""
    try:
        first, second = ipaddress.ip_address(one.strip("[]")), ipaddress.ip_address(other.strip("[]"))
    except ValueError:
        return True
    return first == second or first.is_unspecified or second.is_unspecified


def parse_conffiles(text: str) -> dict[str, str]:
    """Return the MD5 sum by path from dpkg's field ``Conffiles``."""
    rows = (line.split() for line in text.splitlines())
    return {row[0]: row[1] for row in rows if len(row) >= 2 and row[0].startswith("/")}


def parse_cgroup(text: str) -> tuple[str, str]:
    """Return ``(unit, container id)`` from the text of ``/proc/<pid>/cgroup``; empty where there is none."""
    lines = [line.split(":", 2) for line in text.splitlines() if line.count(":") >= 2]
    # A hybrid machine has both trees, and systemd uses one of them.
    path = "\n".join(line[2] for line in lines if line[1] in {"", "name=systemd"})
    units = re.findall(r"[^/\n]+\.(?:service|scope|socket)(?=/|$)", path, re.MULTILINE)
    container = re.findall(r"(?:^|[/-])([0-9a-f]{64})(?=\.scope|/|$)", path, re.MULTILINE)
    return (units[-1] if units else "", container[-1] if container else "")


def parse_sockets(text: str) -> dict[str, list[tuple[str, int]]]:
    """Return the ``(address, port)`` by unit from ``systemctl show --type=socket --property=Id,Listen``."""
    found: dict[str, list[tuple[str, int]]] = {}
    for block in re.split(r"\n\s*\n", text):
        name = re.search(r"^Id=(.+)$", block, re.MULTILINE)
        places = re.findall(r"^Listen=(\S+):(\d+) \(Stream\)$", block, re.MULTILINE)
        if name and places:
            found[name[1]] = [(address.strip("[]"), int(port)) for address, port in places]
    return found


def parse_containers(answer: Iterable[Mapping[str, Any]]) -> list[Container]:
    """Return the containers in the engine's answer to ``/containers/json?all=1``."""
    return [
        Container(
            name=str((each.get("Names") or [each["Id"][:12]])[0]).lstrip("/"),
            identity=str(each["Id"]),
            image=str(each.get("Image", "")),
            state=str(each.get("State", "")),
            ports=tuple(
                sorted(
                    (str(port.get("IP") or "0.0.0.0"), int(port["PublicPort"]))
                    for port in each.get("Ports") or []
                    if port.get("PublicPort") and port.get("Type", "tcp") == "tcp"
                )
            ),
        )
        for each in answer
    ]


def marked(text: str, marks: Sequence[str]) -> bool:
    """Return whether one of the marks (regular expressions) is in the text, by which it is this project's."""
    return any(re.search(mark, text, re.MULTILINE) for mark in marks)


def some(names: Sequence[str]) -> str:
    """Return the first few names and how many more there are."""
    more = len(names) - _NAMES_SHOWN
    return ", ".join(names[:_NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")


def free_name(path: Path, content: bytes | None) -> tuple[Path, bool]:
    """Return the name for a copy of ``path`` and whether the same content is there already.

    Args:
        path: the file.
        content: what it holds; None for a link, which is kept as a link.
    """
    number = 0
    while True:
        name = path.with_name(f"{path.name}{_SUFFIX}{f'.{number}' if number else ''}")
        if not os.path.lexists(name):
            return name, False
        same_link = content is None and name.is_symlink() and name.readlink() == path.readlink()
        if same_link or (content is not None and name.is_file() and name.read_bytes() == content):
            return name, True
        number += 1


def keep(path: Path, name: Path) -> None:
    """Make a copy of a file or link under a name that is free, with owner, rights and times, whole or not at all."""
    draft = name.with_name(f".{name.name}.draft")
    with contextlib.suppress(FileNotFoundError):
        draft.unlink()
    name.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.is_symlink():
        draft.symlink_to(path.readlink())
        draft.rename(name)
        return
    about = path.stat()
    # Nobody else reads it before it has its owner and rights.
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(path.read_bytes())
        file.flush()
        os.fsync(file.fileno())
        os.fchown(file.fileno(), about.st_uid, about.st_gid)
        os.fchmod(file.fileno(), stat.S_IMODE(about.st_mode) & 0o777)
    os.utime(draft, ns=(about.st_atime_ns, about.st_mtime_ns))
    draft.rename(name)


class _SocketConnection(http.client.HTTPConnection):
    """HTTP through a Unix socket."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Engine:
    """Docker's engine, asked through its socket."""

    def __init__(self, path: str = "/run/docker.sock") -> None:
        """Name the engine's socket."""
        self._path = path

    def ask(self, method: str, path: str, body: Any = None, seconds: float = _ENGINE_SECONDS) -> Any:
        """Return the engine's answer; None where it has no content.

        Raises:
            ForeignError: it does not answer, or refuses.
        """
        connection = _SocketConnection(self._path, seconds)
        try:
            headers = {"Content-Type": "application/json"}
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            text = answer.read()
            if answer.status >= 400:
                raise ForeignError(f"Docker's engine refuses {path}: {text.decode(errors='replace').strip()}")
            return json.loads(text) if text.strip() else None
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise ForeignError(
                f"Docker's engine does not answer ({error or type(error).__name__}), so nobody can tell which "
                "containers run here. See `journalctl -u docker`, and run this again once `docker ps` answers."
            ) from error
        finally:
            connection.close()

    def containers(self) -> list[Container]:
        """Return all containers, stopped ones too."""
        return parse_containers(self.ask("GET", "/containers/json?all=1"))

    def put_aside(self, container: Container, name: str) -> None:
        """Stop a container for good and rename it: all that is in it stays."""
        path = f"/containers/{container.identity}"
        self.ask("POST", f"{path}/update", {"RestartPolicy": {"Name": "no", "MaximumRetryCount": 0}})
        self.ask("POST", f"{path}/stop", seconds=_STOP_SECONDS)
        self.ask("POST", f"{path}/rename?name={urllib.parse.quote(name)}")


class Host:
    """What this host says of itself, each thing asked once and only where it is needed."""

    def __init__(self, root: Path = Path("/"), engine: Engine | None = None) -> None:
        """Name the folder that holds the host's files, and its engine."""
        self._root = root
        self._engine = engine or Engine()
        self._containers: list[Container] | None = None
        self._processes: dict[str, list[Holder]] | None = None

    @property
    def engine(self) -> Engine:
        """The engine."""
        return self._engine

    def listeners(self) -> list[Listener]:
        """Return all listening TCP sockets."""
        found: list[Listener] = []
        for name in ("tcp", "tcp6"):
            # A kernel without IPv6 has no tcp6.
            with contextlib.suppress(FileNotFoundError):
                found += parse_listeners((self._root / "proc/net" / name).read_text())
        return found

    def _pids(self) -> Iterator[Path]:
        return (path for path in (self._root / "proc").iterdir() if path.name.isdigit())

    def holders(self, inode: str) -> list[Holder]:
        """Return the processes that hold a socket."""
        if self._processes is None:
            self._processes = {}
            for process in self._pids():
                # Processes end meanwhile.
                with contextlib.suppress(OSError):
                    self._note(process, self._processes)
        return self._processes.get(inode, [])

    @staticmethod
    def _note(process: Path, found: dict[str, list[Holder]]) -> None:
        holder = None
        for handle in (process / "fd").iterdir():
            with contextlib.suppress(OSError):
                target = str(handle.readlink())
                if target.startswith("socket:["):
                    if holder is None:
                        unit, container = parse_cgroup((process / "cgroup").read_text())
                        name = (process / "comm").read_text().strip()
                        holder = Holder(int(process.name), name, unit, container)
                    found.setdefault(target[8:-1], []).append(holder)

    def containers(self) -> list[Container]:
        """Return the engine's containers; none where no engine runs: to ask would start it (docker.socket)."""
        if self._containers is None:
            self._containers = self._engine.containers() if self._engine_runs() else []
        return self._containers

    def _engine_runs(self) -> bool:
        for process in self._pids():
            with contextlib.suppress(OSError):
                if (process / "comm").read_text().strip() == "dockerd":
                    return True
        return False

    def sockets(self) -> dict[str, list[tuple[str, int]]]:
        """Return what systemd listens on for its units."""
        command = ["systemctl", "show", "--type=socket", "--property=Id,Listen", "*"]
        return parse_sockets(_output(command))

    def conffiles(self, package: str) -> dict[str, str]:
        """Return the MD5 sum by path of a package's configuration as it came; empty where it is not known here."""
        return parse_conffiles(_output(["dpkg-query", "--show", "--showformat=${Conffiles}\n", package]))

    def package(self, name: str) -> tuple[str, bool]:
        """Return a package's version, empty where it is not installed, and whether it is held."""
        form = "--showformat=${Version}\t${db:Status-Want}\t${db:Status-Status}\n"
        words = _output(["dpkg-query", "--show", form, name]).rstrip("\n").split("\t")
        if len(words) != 3:
            return "", False
        return (words[0] if words[2] == "installed" else ""), words[1] == "hold"

    def has_ipv6(self) -> bool:
        """Return whether the kernel knows IPv6 at all."""
        return Path("/proc/net/if_inet6").exists()

    def can_bind(self, address: str, port: int) -> bool:
        """Return whether a socket may be bound; an address that is not here is no conflict."""
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, port))
            except OSError as error:
                return error.errno != 98
            return True


def _output(command: list[str]) -> str:
    try:
        run = subprocess.run(
            command, check=False, capture_output=True, text=True, env=os.environ | {"LC_ALL": "C"}, timeout=30
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return run.stdout


class Search:
    """One search: what it found, and what is to be kept under which name."""

    def __init__(self, host: Host) -> None:
        """Begin with nothing found on the host."""
        self._host = host
        self.found: list[Find] = []
        self.copies: list[tuple[Path, Path]] = []
        self.aside: list[tuple[Container, str]] = []
        self.kept: list[str] = []
        # A program that listens by IPv4 and IPv6 is told of once.
        self._told: set[tuple[int, frozenset[str]]] = set()

    def file(self, path: Path, marks: Sequence[str], package: str = "", samples: Sequence[str] = ()) -> None:
        """Look at a file that the role writes."""
        if not os.path.lexists(path):
            return
        link = f", a link to {path.readlink()}," if path.is_symlink() else ""
        if path.is_dir():
            sentence = f"{path}{link} is a folder, where a file of this project belongs"
            self.found.append(Find(sentence, "", "move it away"))
            return
        if (not link or path.exists()) and self._nobodys(path, marks, package, samples):
            return
        name, there = free_name(path, None if link else path.read_bytes())
        if not there:
            self.copies.append((path, name))
        self.kept.append(str(name))
        sentence = f"{path}{link} was not written by this project"
        self.found.append(Find(sentence, f"replaces it and keeps it as {name}", "move it away"))

    def _nobodys(self, path: Path, marks: Sequence[str], package: str, samples: Sequence[str]) -> bool:
        """Whether a file is this project's, or holds nothing that anybody wrote."""
        if not path.is_file():
            # A device: /dev/null masks a unit.
            return False
        with path.open("rb") as file:
            content = file.read(_READ_BYTES)
        if not content.strip() or marked(content.decode(errors="replace"), marks):
            return True
        if any(Path(sample).is_file() and Path(sample).read_bytes() == content for sample in samples):
            return True
        # MD5 is what dpkg keeps.
        sum_ = hashlib.md5(content, usedforsecurity=False).hexdigest()
        return bool(package) and self._host.conffiles(package).get(str(path)) == sum_

    def use(self, path: Path, ours: Sequence[Path], marks: Sequence[str], adopting: str, copy: bool) -> None:
        """Look at what does not tell whose it is."""
        empty = path.is_dir() and not any(path.iterdir())
        if not os.path.lexists(path) or empty or any(each.is_file() and self._is_marked(each, marks) for each in ours):
            return
        if copy and (path.is_file() or path.is_symlink()):
            name, there = free_name(path, None if path.is_symlink() else path.read_bytes())
            if not there:
                self.copies.append((path, name))
            self.kept.append(str(name))
            adopting = f"{adopting} and keeps a copy as {name}"
        self.found.append(Find(f"{path} was not made by this project", adopting, "move it away"))

    @staticmethod
    def _is_marked(path: Path, marks: Sequence[str]) -> bool:
        with path.open("rb") as file:
            return not marks or marked(file.read(_READ_BYTES).decode(errors="replace"), marks)

    def folder(self, path: Path, marks: Sequence[str]) -> None:
        """Look at a folder that the role empties of other files."""
        if not path.is_dir():
            if os.path.lexists(path):
                self.found.append(Find(f"{path} is not a folder", "", "move it away"))
            return
        entries = sorted(each for each in path.rglob("*") if each.is_symlink() or not each.is_dir())
        others = [each for each in entries if not self._nobodys(each, marks, "", ())]
        if not others:
            return
        beside = path.with_name(f"{path.name}{_SUFFIX}")
        for each in others:
            name, there = self._name_beside(each, beside / each.relative_to(path))
            if not there:
                self.copies.append((each, name))
        self.kept.append(str(beside))
        names = some([str(each.relative_to(path)) for each in others])
        sentence = f"{path} holds files that this project did not write: {names}"
        self.found.append(Find(sentence, f"removes them and keeps them in {beside}", "move them away"))

    @staticmethod
    def _name_beside(path: Path, wanted: Path) -> tuple[Path, bool]:
        if not os.path.lexists(wanted):
            return wanted, False
        content = None if path.is_symlink() else path.read_bytes()
        if content is not None and wanted.is_file() and wanted.read_bytes() == content:
            return wanted, True
        return free_name(wanted, content)

    def container(self, name: str, marks: Sequence[str]) -> None:
        """Look at a container that the role makes."""
        there = {each.name: each for each in self._host.containers()}
        container = there.get(name)
        if container is None:
            return
        about = self._host.engine.ask("GET", f"/containers/{container.identity}/json")
        if marked(json.dumps(about, indent=1, sort_keys=True), marks):
            return
        other, number = f"{name}{_SUFFIX}", 0
        while other in there:
            number += 1
            other = f"{name}{_SUFFIX}.{number}"
        self.aside.append((container, other))
        self.kept.append(f"container {other}")
        sentence = f"the {container.words} was not made by this project"
        adopting = f"stops it and keeps it, stopped, as {other}"
        self.found.append(Find(sentence, adopting, f"give it another name (`docker rename {name} ...`)"))

    def package(self, name: str, pattern: str, setting: str) -> None:
        """Look whether somebody holds a package that the role would install, in a version like the pattern."""
        version, held = self._host.package(name)
        if not held or (version and fnmatch.fnmatchcase(version, pattern or "*")):
            return
        sentence = f"{name} is held{f' at {version}' if version else ''} (apt-mark showhold), and "
        sentence += f"{pattern} is to be installed" if pattern else "is not installed"
        otherwise = f"apt-mark unhold {name}"
        if version and setting:
            otherwise += f", or set {setting} to what is there"
        self.found.append(Find(sentence, "", otherwise))

    def port(
        self,
        address: str,
        port: int,
        units: Sequence[str] = (),
        containers: Sequence[str] = (),
        setting: str = "",
        without_ipv6: str = "",
    ) -> None:
        """Look who listens on a port of the role's."""
        if without_ipv6 and not self._host.has_ipv6():
            self.found.append(
                Find(f"port {port} is to be opened for IPv6, which this kernel has not", "", without_ipv6)
            )
            return
        ours = {*containers, *(container.name for container, _ in self.aside)}
        listeners = [
            each
            for each in self._host.listeners()
            if each.port == port and overlap(address, each.address) and not (without_ipv6 and ":" not in each.address)
        ]
        published = [
            each
            for each in self._host.containers()
            if any(
                number == port and overlap(address, host)
                for host, number in each.ports
                if not without_ipv6 or ":" in host
            )
        ]
        who = [f"the {each.words}" for each in published if each.name not in ours]
        # Docker's own proxies hold the ports of its containers, which are known already.
        proxies = {"docker-proxy"} if published else set()
        who += self._strangers(address, port, listeners, {*units}, ours, proxies)
        told = (port, frozenset(who))
        if who and told not in self._told:
            self._told.add(told)
            sentence = f"port {port} of {address} is taken by {some(sorted(set(who)))}"
            otherwise = f"choose another one with {setting}, or stop what holds it" if setting else "stop what holds it"
            self.found.append(Find(sentence, "", otherwise))

    def others(self, known: Sequence[int], adopting: str, setting: str) -> None:
        """Look who listens on ports that nobody named, where others than the host itself reach them."""
        places = [(each.address, each.port) for each in self._host.listeners()]
        places += [place for each in self._host.containers() for place in each.ports]
        who: dict[int, set[str]] = {}
        for address, port in places:
            if port not in known and not ipaddress.ip_address(address).is_loopback:
                who.setdefault(port, set()).update(self._holders(address, port))
        if who:
            names = [f"{port}, held by {some(sorted(who[port]))}" for port in sorted(who)]
            ports = ", ".join(map(str, sorted(who)))
            one = len(who) == 1
            sentence = f"{'a port answers' if one else 'ports answer'} here that this project knows nothing of: "
            otherwise = f"leave {'it' if one else 'them'} open with {setting}: [{ports}]"
            self.found.append(Find(sentence + "; ".join(names), adopting, otherwise))

    def _holders(self, address: str, port: int) -> list[str]:
        listeners = [each for each in self._host.listeners() if each == Listener(address, port, each.inode)]
        published = [each for each in self._host.containers() if (address, port) in each.ports]
        # Docker's own proxies hold the ports of its containers, which are named already.
        proxies = {"docker-proxy"} if published else set()
        return [f"the {each.words}" for each in published] + self._strangers(
            address, port, listeners, set(), set(), proxies
        )

    def _strangers(
        self,
        address: str,
        port: int,
        listeners: Sequence[Listener],
        units: set[str],
        ours: set[str],
        programs: set[str],
    ) -> list[str]:
        """Return in words who holds the listening sockets, apart from these units, containers and programs."""
        names = {each.identity: each for each in self._host.containers()}
        who: list[str] = []
        for listener in listeners:
            holders = self._host.holders(listener.inode)
            inside = [names[each.container] for each in holders if each.container in names]
            sockets = [
                unit
                for unit, places in (self._host.sockets().items() if any(each.pid == 1 for each in holders) else ())
                if any(number == port and overlap(listener.address, place) for place, number in places)
            ]
            if units & {*sockets, *(each.unit for each in holders)} or ours & {each.name for each in inside}:
                continue
            if programs & {each.name for each in holders}:
                continue
            # A socket of :: alone may leave the port to IPv4, which only the kernel can tell.
            if listener.address == "::" and ":" not in address and self._host.can_bind(address, port):
                continue
            who.append(_words(holders, inside, sockets))
        return who


def _words(holders: Sequence[Holder], inside: Sequence[Container], sockets: Sequence[str]) -> str:
    if inside:
        return f"the {inside[0].words}"
    if sockets:
        return f"systemd for {sockets[0]}"
    return holders[0].words if holders else "a program that does not show itself"


def search(parameters: Mapping[str, Any], host: Host) -> Search:
    """Return what is somebody else's among what the module's parameters name; raises ForeignError."""
    result = Search(host)
    for each in parameters["files"]:
        result.file(Path(each["path"]), each["marks"], each["package"], each["samples"])
    for each in parameters.get("uses") or []:
        for path in each["paths"]:
            result.use(Path(path), [Path(file) for file in each["ours"]], each["marks"], each["adopting"], each["copy"])
    for each in parameters["folders"]:
        result.folder(Path(each["path"]), each["marks"])
    for each in parameters["containers"]:
        result.container(each["name"], each["marks"])
    for each in parameters.get("packages") or []:
        name, _, pattern = each["name"].partition("=")
        result.package(name, pattern, each["setting"])
    for each in parameters["ports"]:
        result.port(**each)
    listeners = parameters.get("listeners") or {}
    if listeners.get("setting"):
        result.others(listeners["known"], listeners["adopting"], listeners["setting"])
    return result


def refusal(role: str, found: Sequence[Find], adopt: bool) -> str:
    """Return why the role goes no further; empty where it may."""
    parts = [f"{row['what']} {row['mend']}" for row in rows(role, found, adopt)]
    if not parts:
        return ""
    return f"Role {role} changed nothing here, since somebody else set up what it would take. {' '.join(parts)}"


def rows(role: str, found: Sequence[Find], adopt: bool) -> list[dict[str, str]]:
    """Return the same in parts: ``what`` is there, and the ``mend``."""
    parts = []
    for find in found:
        if not (adopt and find.adopting):
            adopting = f"{role}_adopt: true {find.adopting}; or " if find.adopting else ""
            what = f"{find.sentence[0].upper()}{find.sentence[1:]}."
            parts.append({"what": what, "mend": f"To go on: {adopting}{find.otherwise}."})
    return parts


def adopt(result: Search, engine: Engine) -> bool:
    """Keep under another name what was found; return whether anything had to be done."""
    for path, name in result.copies:
        keep(path, name)
    for container, other in result.aside:
        engine.put_aside(container, other)
    return bool(result.copies or result.aside)


def main() -> None:
    """Ansible's entry point."""
    from ansible.module_utils.basic import AnsibleModule

    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    parameters = module.params
    host = Host()
    try:
        result = search(parameters, host)
        sentences = [*parameters["problems"], refusal(parameters["role"], result.found, parameters["adopt"])]
        problem = " ".join(sentence for sentence in sentences if sentence)
        found = [find.sentence for find in result.found]
        if problem:
            parts = [{"what": sentence, "mend": ""} for sentence in parameters["problems"]]
            parts += rows(parameters["role"], result.found, parameters["adopt"])
            module.fail_json(msg=problem, found=found, kept=[], rows=parts)
        changed = bool(result.copies or result.aside) and parameters["state"] == "adopt"
        if changed and not module.check_mode:
            adopt(result, host.engine)
    except ForeignError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"What is on this host can't be looked at: {error}.")
    module.exit_json(changed=changed, found=found, kept=result.kept)


if __name__ == "__main__":
    main()
