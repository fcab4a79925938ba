"""Ansible module: put Docker's engine on a host where another one, its settings and its containers may be.

What decides is pure functions; only :class:`Host` and :func:`main` touch the host. Runs there with the distribution's
Python, 3.9 or newer.
"""

from __future__ import annotations

import contextlib
import copy
import fnmatch
import http.client
import importlib
import json
import os
import re
import socket
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

DOCUMENTATION = """
module: docker_engine
short_description: Docker's engine on a host that may have one already
description:
  - C(found) looks at what is there, and fails with everything in one message that the role must not change unasked. It
    changes nothing, but for a note of the containers that run on an engine about to be replaced.
  - C(guarded) lets the containers outlive the engine's restart, before a new version is installed.
  - C(configured) merges the options into I(path). What somebody else wrote there stays, and so does a key that this
    module never wrote. Keys that it wrote, which a record tells, follow I(options).
  - C(usable) says whether Ansible's container modules can look at the engine, without starting one.
  - C(running) restarts an engine that has not read its configuration, without losing a container, and waits for it.
  - C(released) takes out of I(path) what this module wrote there, once no container of anybody else's runs. The engine
    is not restarted. Where that is not safe, I(path) and the record stay, and I(left) says why.
options:
  state: {description: "What to do.", type: str, choices: [found, guarded, configured, running, usable, released],
          required: true}
  options: {description: "The wanted keys of daemon.json.", type: dict, default: {}}
  adopt: {description: "Whether somebody else's engine and settings may be replaced.", type: bool, default: false}
  packages: {description: "What is installed, C(name) or C(name=version) with C(*).", type: list, elements: str,
             default: []}
  conflicting: {description: "Packages that can't live beside it.", type: list, elements: str, default: []}
  path: {description: "The engine's configuration.", type: path, default: /etc/docker/daemon.json}
  folder: {description: "Where this module notes what it did.", type: path, default: /var/lib/evenkeel/docker}
  seconds: {description: "How long the engine may take to answer.", type: int, default: 60}
author: [evenkeel]
"""
EXAMPLES = """
- name: preflight | Look for an engine
  docker_engine: {state: found, options: {live-restore: true}, packages: ["docker-ce=5:29.8.2-*"]}
"""
RETURN = """
installed: {description: "The installed version of docker-ce; empty where there is none.", type: str, returned: found}
conflicting: {description: "The conflicting packages that are installed.", type: list, returned: found}
configure: {description: "Whether daemon.json would change.", type: bool, returned: found}
guard: {description: "Whether containers would not outlive a restart yet.", type: bool, returned: found}
restarts: {description: "Why a running engine would be restarted; empty where it would not.", type: list,
           returned: found}
usable: {description: "Whether container modules work here.", type: bool, returned: usable}
why: {description: "Why they do not, in a sentence; else empty.", type: str, returned: usable}
restarted: {description: "Whether the engine was restarted.", type: bool, returned: running}
removed: {description: "What was, or in check mode would be, removed.", type: list, returned: released}
left: {description: "By kind, what is still there: I(engine), I(running), I(volumes), I(images), I(copies).",
       type: dict, returned: released}
"""

_SUFFIX = ".before-evenkeel"
_ENGINE_PACKAGES = ("docker-ce", "containerd.io")
_COMMAND_SECONDS = 30
_JOURNAL_LINES = 6
_NOISE = re.compile(
    r"^(?:Start|Stopp|Listening|Closed|Reload)|Scheduled restart job|Deactivated successfully|Consumed .* CPU|"
    r"level=info|Start request repeated"
)
# Where containers and images are. With another value the engine finds none of them.
_STORE = ("data-root", "userns-remap", "storage-driver")
_DEFAULT_ROOT = "/var/lib/docker"
# The engine's flags whose names are not the key's.
_FLAG_KEYS = {"registry-mirror": "registry-mirrors", "log-opt": "log-opts", "insecure-registry": "insecure-registries"}
_FLAG_KEYS |= {
    "label": "labels",
    "g": "data-root",
    "graph": "data-root",
    "s": "storage-driver",
    "H": "hosts",
    "host": "hosts",
}


class EngineError(Exception):
    """What stops the role; its text is the sentence the operator reads."""

    problems: Sequence[str] = ()  # a sentence each, where there are several


@dataclass
class Merge:
    """daemon.json as it is to be.

    Attributes:
        result: the whole of it.
        owned: what in it is this project's: keys that it wrote, of lists the items.
        conflicts: what somebody else has set otherwise, a sentence each.
    """

    result: dict[str, Any] = field(default_factory=dict)
    owned: dict[str, Any] = field(default_factory=dict)
    conflicts: list[str] = field(default_factory=list)


def merge(
    theirs: Mapping[str, Any], ours: Mapping[str, Any], owned: Mapping[str, Any], adopt: bool, at: str = ""
) -> Merge:
    """Merge the wanted keys into what is there.

    Args:
        theirs: what is there.
        ours: what is wanted.
        owned: what of it this project wrote, as a former merge returned it.
        adopt: whether a key that somebody else has set otherwise is replaced.
        at: where in the file this is, for the sentences.
    """
    done = Merge()
    for key in [*theirs, *(key for key in ours if key not in theirs)]:
        there, wanted = theirs.get(key), ours.get(key)
        kind = type(there) if key not in ours or isinstance(wanted, type(there)) else None
        if kind is dict:
            _merge_group(done, key, (there or {}, wanted or {}, owned.get(key)), adopt, at)
        elif kind is list:
            _merge_list(done, key, there or [], wanted, owned.get(key))
        elif key in ours:
            _merge_value(done, key, (key in theirs, there), wanted, (key in owned, adopt), at)
        elif key not in owned:
            done.result[key] = there
    return done


def _merge_group(done: Merge, key: str, sides: tuple[Any, Any, Any], adopt: bool, at: str) -> None:
    there, wanted, mine = sides
    inner = merge(there, wanted, mine if isinstance(mine, dict) else {}, adopt, f"{at}{key}.")
    done.conflicts += inner.conflicts
    # A group of which only this project's keys were there goes with them.
    if inner.result or not mine:
        done.result[key] = inner.result
    if inner.owned:
        done.owned[key] = inner.owned


def _merge_list(done: Merge, key: str, there: list[Any], wanted: list[Any] | None, mine: Any) -> None:
    """Put this project's items first and leave somebody else's; its own that are wanted no more go."""
    former = mine if isinstance(mine, list) else []
    kept = [item for item in there if item not in (wanted or []) and item not in former]
    if wanted is not None or kept or mine is None:
        done.result[key] = [*(wanted or []), *kept]
    if wanted is not None:
        new = [item for item in wanted if item in former or item not in there]
        if new or mine is not None:
            done.owned[key] = new


def _merge_value(done: Merge, key: str, there: tuple[bool, Any], wanted: Any, may: tuple[bool, bool], at: str) -> None:
    """Write a key that is missing or may be replaced; say what is in the way otherwise."""
    (found, value), (owned, adopt) = there, may
    if not found and wanted in ([], {}):
        # Nothing wanted is nothing to write.
        return
    if not found or owned or (adopt and value != wanted):
        done.result[key] = done.owned[key] = wanted
        return
    done.result[key] = value
    if value != wanted:
        done.conflicts.append(f"{at}{key} is {json.dumps(value)} there, and this project needs {json.dumps(wanted)}")


def former_releases(text: str, content: Mapping[str, Any]) -> bool:
    """Return whether daemon.json is as releases of this project wrote it that kept no record."""
    keys = {"live-restore", "log-driver", "log-opts", "registry-mirrors"}
    return keys <= set(content) and text.strip() == json.dumps(content, indent=4, sort_keys=True).strip()


def read_json(text: str, path: str) -> dict[str, Any]:
    """Return an object from JSON text.

    Raises:
        EngineError: it is none.
    """
    try:
        content = json.loads(text) if text.strip() else {}
    except ValueError as error:
        raise EngineError(f"{path} is not JSON ({error})") from None
    if not isinstance(content, dict):
        raise EngineError(f"{path} is JSON, but no object ({text.strip()[:40]})")
    return content


def flags(command_line: str) -> dict[str, str]:
    """Return the keys of daemon.json that the engine's command line sets already, with the flag's text."""
    found = re.findall(r"(?:^|\s)(--?([A-Za-z][\w-]*)(?:[= ][^\s;-][^\s;]*)?)", command_line)
    return {_FLAG_KEYS.get(name, name): text.strip() for text, name in found}


def wanted_version(packages: Iterable[str]) -> dict[str, str]:
    """Return the version's pattern by name from ``name=pattern``; empty where none is named."""
    return {name: pattern for name, _, pattern in (package.partition("=") for package in packages)}


def parse_packages(text: str) -> dict[str, tuple[str, bool]]:
    """Return ``(version, held)`` of each installed package from ``dpkg-query``'s lines name, version, want, status."""
    rows = (line.split("\t") for line in text.splitlines())
    return {row[0]: (row[1], row[2] == "hold") for row in rows if len(row) == 4 and row[3] == "installed"}


@dataclass
class Found:
    """What is on the host.

    Attributes:
        packages: ``(version, held)`` of each installed package that matters.
        engine: whether an engine runs.
        unit: whether it is docker.service that runs.
        containers: the running containers, such as ``web (nginx:1.27)``, and those of Podman.
        pods: those of Podman.
        shims: how many containers run on containerd, whoever started them.
        swarm: whether the engine is part of a swarm.
        live_restore: whether containers outlive the engine.
        text: daemon.json; None where there is none.
        record: what this module noted; None where it noted nothing.
        command_line: the engine's, as its unit says it.
        stored: whether there are containers in the default data root or the one that daemon.json names.
        unread: whether daemon.json is newer than the running engine.
        stale: whether systemd has not read the unit's files yet.
    """

    packages: dict[str, tuple[str, bool]] = field(default_factory=dict)
    engine: bool = False
    unit: bool = False
    containers: list[str] = field(default_factory=list)
    pods: list[str] = field(default_factory=list)
    shims: int = 0
    swarm: bool = False
    live_restore: bool = False
    text: str | None = None
    record: dict[str, Any] | None = None
    command_line: str = ""
    stored: bool = False
    unread: bool = False
    stale: bool = False

    @property
    def version(self) -> str:
        """The installed version of docker-ce."""
        return self.packages.get("docker-ce", ("", False))[0]

    @property
    def unguarded(self) -> bool:
        """Whether a restart of docker-ce would stop containers."""
        return bool(self.version and self.containers and not self.live_restore)


@dataclass
class Plan:
    """What the role may do, or why not."""

    merged: Merge
    current: dict[str, Any]
    former: bool
    conflicting: list[str]
    restarts: list[str]
    problems: list[str]
    broken: bool

    @property
    def configure(self) -> bool:
        """Whether daemon.json changes."""
        return self.merged.result != self.current


def plan(parameters: Mapping[str, Any], found: Found, newer: bool) -> Plan:
    """Return what to do, and everything that must not be done unasked.

    Args:
        parameters: the module's.
        found: what is on the host.
        newer: whether the installed docker-ce is newer than the wanted one.
    """
    options, adopt, path = parameters["options"], parameters["adopt"], parameters["path"]
    problems: list[str] = []
    current: dict[str, Any] = {}
    broken = False
    try:
        current = read_json(found.text or "", path)
    except EngineError as error:
        broken = True
        if not adopt:
            problems.append(
                f"{error}: mend it or move it away; docker_adopt: true replaces it and keeps it as {path}{_SUFFIX}."
            )
    former = found.record is None and former_releases(found.text or "", current)
    owned = current if former else (found.record or {}).get("owned", {})
    merged = merge(current, options, copy.deepcopy(owned), adopt)
    # What would put containers out of sight is said below: no adopting does that.
    conflicts = [each for each in merged.conflicts if not (found.stored and each.split(" ")[0] in _STORE)]
    if conflicts:
        problems.append(
            f"{path} was not written by this project: {'; '.join(conflicts)}. docker_adopt: true replaces these "
            f"values and keeps the file as {path}{_SUFFIX}; or set them in docker_daemon_options as they are there."
        )
    problems += _store_problems(current, merge(current, options, copy.deepcopy(owned), adopt=True).result, found, path)
    twice = [text for key, text in flags(found.command_line).items() if key in merged.owned]
    if twice:
        problems.append(
            f"docker.service starts the engine with {', '.join(twice)}, and no engine starts that finds the same in "
            f"{path}: remove it from the unit (systemctl cat docker), or from docker_daemon_options."
        )
    if found.swarm and merged.result.get("live-restore"):
        problems.append(
            "The engine is part of a swarm, which can't have live-restore: set docker_daemon_options without it, or "
            "leave the swarm (docker swarm leave)."
        )
    mine = former or found.record is not None
    conflicting = [name for name in parameters["conflicting"] if name in found.packages]
    wanted = wanted_version(parameters["packages"])
    problems += _engine_problems(found, conflicting, wanted, mine, newer, adopt)
    changes = _changes(found, wanted)
    restarts = [f"{name} becomes {pattern}" for name, pattern in changes.items() if name in _ENGINE_PACKAGES]
    if merged.result != current:
        restarts.append(f"{path} changes")
    elif found.unread:
        restarts.append(f"{path} was not read yet")
    held = [name for name in changes if found.packages.get(name, ("", False))[1]]
    if held:
        problems.append(
            f"{', '.join(f'{name} is held at {found.packages[name][0]}' for name in held)} (apt-mark showhold), and "
            f"{', '.join(wanted[name] for name in held)} is to be installed: apt-mark unhold {' '.join(held)}, or set "
            "docker_version and its like to what is there."
        )
    return Plan(
        merged, current, former, conflicting, restarts if found.unit and found.version else [], problems, broken
    )


def releasing(planned: Plan, others: Sequence[str], engine: bool, stored: bool, path: str) -> str:
    """Return why what this module wrote must stay in daemon.json, a sentence; empty where it may go.

    Args:
        planned: the plan for no options at all.
        others: the running containers that are not this project's.
        engine: whether an engine runs.
        stored: whether there are containers in its data root.
        path: daemon.json.
    """
    if planned.broken:
        return f"{path} is no JSON object, and stays as it is."
    if others:
        return f"{path} stays: {_count(others)} of somebody else's run with it, and outlive the engine's restart by it."
    if stored and not engine:
        return f"{path} stays: the engine does not run, and nobody can tell whose its containers are."
    moved = [key for key in _STORE if planned.current.get(key) != planned.merged.result.get(key)]
    if moved:
        return f"{path} stays: without its {' and '.join(moved)} the engine would not find images and volumes."
    return ""


def _changes(found: Found, wanted: Mapping[str, str]) -> dict[str, str]:
    """Return the wanted version of each package that is there in another one."""
    return {
        name: pattern
        for name, pattern in wanted.items()
        if name in found.packages and pattern and not fnmatch.fnmatchcase(found.packages[name][0], pattern)
    }


def _store_problems(current: Mapping[str, Any], result: Mapping[str, Any], found: Found, path: str) -> list[str]:
    """Return why containers and images would be out of sight."""
    if not found.stored:
        return []
    moved = [
        key for key in _STORE if (current.get(key) or _store_default(key)) != (result.get(key) or _store_default(key))
    ]
    return [
        f"{key} of {path} would change from {current.get(key) or 'its default'} to {result.get(key) or 'its default'}, "
        "and the engine would find none of its containers and images: leave it in docker_daemon_options as it is, or "
        "move them by hand first."
        for key in moved
    ]


def _store_default(key: str) -> str:
    return _DEFAULT_ROOT if key == "data-root" else ""


# Distributions' packages that bring no dockerd: clients, plugins and what it needs.
_WITHOUT_ENGINE = {"docker-cli", "docker-buildx", "docker-compose", "docker-compose-v2", "docker-doc", "podman-docker"}
_WITHOUT_ENGINE |= {"containerd", "runc"}


def _engine_problems(
    found: Found, conflicting: Sequence[str], wanted: Mapping[str, str], mine: bool, newer: bool, adopt: bool
) -> list[str]:
    """Return why the engine that is there must not be replaced unasked."""
    running = f"with {_count(found.containers)} running" if found.containers else "with nothing running"
    if found.engine and not found.version and not set(conflicting) - _WITHOUT_ENGINE:
        return [
            f"An engine runs here that no package of docker_conflicting_packages brought, {running}: this project "
            "can't replace it. Remove it yourself (`snap remove docker`, for one), or leave this host out."
        ]
    problems = _other_engine(found, conflicting) if not adopt else []
    change = _changes(found, wanted).get("docker-ce", "")
    if change and not mine and not adopt and (newer or found.containers):
        does = "goes back, and may not read what the newer one wrote" if newer else "restarts the engine"
        problems.append(
            f"docker-ce {found.version} was not installed by this project, {running}; docker_version asks for "
            f"{change}, which {does}. Set docker_version to what is there, or docker_adopt: true."
        )
    elif change and newer and mine and (found.record or {}).get("version") != found.version and not adopt:
        problems.append(
            f"docker-ce {found.version} is newer than {change} and was not installed by this project: an older engine "
            "may not read what it wrote. Set docker_version to what is there, or docker_adopt: true."
        )
    return problems


def _other_engine(found: Found, conflicting: Sequence[str]) -> list[str]:
    """Return what runs on the packages that would be removed."""
    what = []
    if conflicting and not found.version and found.containers:
        what.append(f"{_count(found.containers)} on it, which stop meanwhile and are started again")
    elif {"docker.io", "containerd"} & set(conflicting) and not found.version and found.shims:
        what.append(f"{found.shims} containers of containerd's (kubelet's, for one), which stop")
    if "podman-docker" in conflicting and found.pods:
        what.append(f"{_count(found.pods)} of Podman's, which stay, without the command docker")
    if not what:
        return []
    names = ", ".join(f"{name} {found.packages[name][0]}" for name in conflicting)
    return [
        f"Somebody else's engine is here ({names}), with {' and '.join(what)}. docker_adopt: true replaces it by "
        "docker-ce."
    ]


def _count(names: Sequence[str]) -> str:
    shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return f"{len(names)} container{'s' if len(names) != 1 else ''} ({shown})"


class Host:
    """The host."""

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        """Take the module's parameters."""
        # What is written keeps a link where somebody made one.
        self.path = Path(parameters["path"]).resolve()
        self.folder = Path(parameters["folder"])
        self._parameters = parameters

    @staticmethod
    def run(*command: str, seconds: float = _COMMAND_SECONDS) -> tuple[int, str]:
        """Return exit code and output; 127 where there is no such command, 124 after ``seconds``."""
        # This host's engine, whatever its environment points to.
        environment = {**os.environ, "LC_ALL": "C", "DOCKER_HOST": "unix:///run/docker.sock"}
        try:
            done = subprocess.run(
                command, check=False, capture_output=True, text=True, timeout=seconds, env=environment
            )
        except FileNotFoundError:
            return 127, ""
        except subprocess.TimeoutExpired:
            return 124, ""
        return done.returncode, done.stdout if done.returncode == 0 else done.stdout + done.stderr

    def found(self) -> Found:
        """Return what is on the host; raises EngineError where the engine does not say."""
        names = {"docker-ce", *wanted_version(self._parameters["packages"]), *self._parameters["conflicting"]}
        form = "${Package}\t${Version}\t${db:Status-Want}\t${db:Status-Status}\n"
        # Those that dpkg does not know end up in its errors.
        text = self.run("dpkg-query", "--show", f"--showformat={form}", *sorted(names))[1]
        found = Found(packages=parse_packages(text))
        found.text = _read(self.path)
        record = _read(self.folder / "engine.json")
        found.record = None if record is None else read_json(record, str(self.folder / "engine.json"))
        processes = self._processes()
        found.engine = "dockerd" in processes
        found.shims = sum(name.startswith("containerd-shim") for name in processes)
        # An unchanged engine that only has to run is asked nothing more.
        if found.engine and (self._parameters["state"] != "running" or self.unread()):
            self._ask(found)
        if "podman-docker" in found.packages:
            code, text = self.run("podman", "ps", "--format", "{{.Names}} ({{.Image}})")
            found.pods = text.splitlines() if code == 0 else []
        found.stored = self._stored(found.text)
        if found.version:
            self._ask_unit(found)
        return found

    @staticmethod
    def _processes() -> list[str]:
        """Return the names of all processes that are in no container."""
        names = []
        for process in Path("/proc").iterdir():
            # Processes end meanwhile.
            with contextlib.suppress(OSError):
                if process.name.isdigit() and not re.search(r"[0-9a-f]{64}", (process / "cgroup").read_text()):
                    names.append((process / "comm").read_text().strip())
        return names

    def unusable(self) -> str:
        """Return why container modules would not work here; empty where they would."""
        if "dockerd" not in self._processes():
            return "No engine runs here."
        # Imported, not looked for: under Mitogen an importer finds what it then does not load.
        try:
            importlib.import_module("requests")
        except ImportError:
            return "Python's module requests, which asks the engine, is not installed here (python3-requests)."
        return ""

    def _ask(self, found: Found) -> None:
        """Ask the running engine; one that does not run would be started by being asked (docker.socket)."""
        code, text = self.run("docker", "ps", "--format", "{{.Names}} ({{.Image}})")
        if code != 0:
            raise EngineError(
                f"Docker's engine runs here and does not answer (docker ps: {text.strip() or 'no answer'}), so nobody "
                "can tell which containers run on it. Run this again once `docker ps` answers."
            )
        found.containers = text.splitlines()
        about = self.about()
        found.live_restore = bool(about.get("LiveRestoreEnabled"))
        found.swarm = (about.get("Swarm") or {}).get("LocalNodeState") == "active"

    @staticmethod
    def about(path: str = "/run/docker.sock") -> dict[str, Any]:
        """Return what the engine says of itself, nothing where it does not; `docker info` starts all plugins first."""
        connection = http.client.HTTPConnection("localhost", timeout=_COMMAND_SECONDS)
        with contextlib.closing(connection), contextlib.suppress(OSError, ValueError, http.client.HTTPException):
            connection.sock = socket.socket(socket.AF_UNIX)
            connection.sock.settimeout(_COMMAND_SECONDS)
            connection.sock.connect(path)
            connection.request("GET", "/info")
            answer = connection.getresponse()
            about = json.loads(answer.read())
            return about if answer.status == 200 and isinstance(about, dict) else {}
        return {}

    def _ask_unit(self, found: Found) -> None:
        text = self.run("systemctl", "show", "docker.service", "--property=ActiveState,ExecStart,NeedDaemonReload")[1]
        found.stale = "NeedDaemonReload=yes" in text.splitlines()
        found.unit = "ActiveState=active" in text.splitlines()
        arguments = re.search(r"argv\[\]=(.*?) ;", text)
        found.command_line = arguments[1] if arguments else ""
        found.unread = found.engine and self.unread()

    def unread(self) -> bool:
        """Return whether daemon.json is newer than the running engine, which writes its PID file when it starts."""
        with contextlib.suppress(OSError, ValueError, AttributeError):
            pid_file = json.loads(self.path.read_text() or "{}").get("pidfile") or "/run/docker.pid"
            return self.path.stat().st_mtime_ns > Path(pid_file).stat().st_mtime_ns
        return False

    @staticmethod
    def _stored(text: str | None) -> bool:
        try:
            root = Path(str(json.loads(text or "{}").get("data-root") or _DEFAULT_ROOT))
        except (ValueError, AttributeError):
            root = Path(_DEFAULT_ROOT)
        with contextlib.suppress(OSError):
            return any((root / "containers").iterdir())
        return False

    def newer(self, found: Found) -> bool:
        """Return whether the installed docker-ce is newer than the wanted one."""
        pattern = wanted_version(self._parameters["packages"]).get("docker-ce", "")
        if not pattern or not found.version or fnmatch.fnmatchcase(found.version, pattern):
            return False
        return self.run("dpkg", "--compare-versions", found.version, "gt", pattern.rstrip("*").rstrip("-"))[0] == 0

    def note(self, name: str, content: Any) -> None:
        """Write a note of this module's."""
        self.folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        write(self.folder / name, json.dumps(content, indent=2, sort_keys=True) + "\n", 0o644)

    def keep_running(self, found: Found) -> None:
        """Note the containers that run on an engine about to be replaced."""
        if not (self.folder / "running.json").exists():
            self.note("running.json", [each.split(" ")[0] for each in found.containers])

    def configure(self, planned: Plan, found: Found) -> None:
        """Write daemon.json, having checked it, and the record of what in it is ours."""
        text = json.dumps(planned.merged.result, indent=4, sort_keys=True) + "\n"
        self.path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        mode = self.path.stat().st_mode & 0o777 if self.path.exists() else 0o644
        draft = write(self.path.with_name(f".{self.path.name}.draft"), text, mode)
        try:
            code, output = self.run("dockerd", "--validate", "--config-file", str(draft))
            if code != 0:
                raise EngineError(
                    f"The engine would not start with this daemon.json, so nothing was changed: {output.strip()}"
                )
            # Theirs, as it was before the first change.
            if planned.configure and found.text and (planned.broken or (found.record is None and not planned.former)):
                self._keep(found.text, mode)
            record = dict(found.record or {})
            # Killed between the two, the next run must know both what was ours and what may be by now.
            self.note("engine.json", {**record, "owned": union(record.get("owned", {}), planned.merged.owned)})
            if planned.configure:
                draft.rename(self.path)
            self.note("engine.json", {**record, "owned": planned.merged.owned})
        finally:
            draft.unlink(missing_ok=True)

    def _keep(self, text: str, mode: int) -> None:
        """Keep somebody else's file under another name, unless the same is kept already."""
        number = 0
        while True:
            aside = self.path.with_name(f"{self.path.name}{_SUFFIX}{f'.{number}' if number else ''}")
            kept = _read(aside)
            if kept is None:
                write(aside, text, mode)
            if kept is None or kept == text:
                return
            number += 1

    def others(self) -> list[str]:
        """Return the running containers that are not this project's."""
        form = '{{.Names}}\t{{.Label "evenkeel.service"}}{{.Label "evenkeel.role"}}\t{{.Image}}'
        rows = (line.split("\t") for line in self.run("docker", "ps", "--format", form)[1].splitlines())
        # Former releases gave the guide's API no label.
        return [row[0] for row in rows if len(row) == 3 and not row[1] and not row[2].startswith("evenkeel.local/")]

    def release(self, planned: Plan) -> None:
        """Take what is ours out of daemon.json, and then the record of it."""
        if planned.configure and planned.merged.result:
            mode = self.path.stat().st_mode & 0o777
            write(self.path, json.dumps(planned.merged.result, indent=4, sort_keys=True) + "\n", mode)
        elif planned.configure:
            self.path.unlink()
        for name in ("running.json", "engine.json"):
            (self.folder / name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.folder.rmdir()
            self.folder.parent.rmdir()

    def still_there(self, engine: bool) -> dict[str, list[str]]:
        """Return volumes, images, and copies of what was somebody else's, of an engine that can be asked."""
        lists = {"volumes": ("volume", "ls", "--quiet"), "images": ("image", "ls", "--quiet", "--no-trunc")}
        found = {
            kind: sorted(set(self.run("docker", *words)[1].split())) if engine else [] for kind, words in lists.items()
        }
        names = self.run("docker", "ps", "--all", "--format", "{{.Names}}")[1].split() if engine else []
        copies = [str(path) for path in sorted(self.path.parent.glob(f"{self.path.name}{_SUFFIX}*"))]
        running = ["Docker's engine"] if engine else []
        return {
            **found,
            "running": running,
            "copies": [*copies, *(f"container {name}" for name in names if _SUFFIX in name)],
        }

    def guard(self) -> None:
        """Let the running containers outlive the engine: live-restore takes effect without a restart.

        Raises:
            EngineError: it does not.
        """
        self.run("systemctl", "reload", "docker.service")
        deadline = time.monotonic() + _COMMAND_SECONDS
        while self.run("docker", "info", "--format", "{{.LiveRestoreEnabled}}")[1].strip() != "true":
            if time.monotonic() > deadline:
                raise EngineError("The engine does not take live-restore, and a restart would stop its containers.")
            time.sleep(0.5)

    def answers(self, seconds: float) -> bool:
        """Wait until the engine answers; return whether it did."""
        deadline = time.monotonic() + seconds
        while True:
            if self.run("docker", "version", "--format", "{{.Server.Version}}", seconds=10)[0] == 0:
                return True
            if time.monotonic() > deadline or self.run("systemctl", "is-failed", "--quiet", "docker.service")[0] == 0:
                return False
            time.sleep(0.5)

    def ensure_running(self, planned: Plan, found: Found) -> bool:
        """Have the engine run with its configuration; return whether it was (re)started."""
        if found.stale:
            self.run("systemctl", "daemon-reload")
        restart = found.unit and self.unread()
        if restart and found.unguarded and planned.merged.result.get("live-restore"):
            self.guard()
        code, output = (0, "") if found.unit and not restart else self._start("restart" if restart else "start")
        if code != 0 or not self.answers(self._parameters["seconds"]):
            raise EngineError(self.why(output))
        # From now on this version is the role's, which may go back from it when asked.
        version = found.version
        if (found.record or {}).get("version") != version:
            self.note("engine.json", {**(found.record or {"owned": planned.merged.owned}), "version": version})
        self._start_again()
        return restart or not found.unit

    def _start(self, verb: str) -> tuple[int, str]:
        # Earlier failures must not count against this try.
        self.run("systemctl", "reset-failed", "docker.service", "docker.socket")
        return self.run("systemctl", verb, "docker.service", seconds=self._parameters["seconds"] + _COMMAND_SECONDS)

    def _start_again(self) -> None:
        """Start the containers that ran on the engine before."""
        note = self.folder / "running.json"
        names = json.loads(_read(note) or "[]")
        failed = [name for name in names if self.run("docker", "start", name, seconds=120)[0] != 0]
        if failed:
            raise EngineError(
                f"These containers ran before the engine was replaced and can't be started: {', '.join(failed)}. See "
                f"`docker start {failed[0]}`; delete {note} to go on without them."
            )
        note.unlink(missing_ok=True)

    def why(self, output: str) -> str:
        """Return why the engine does not run."""
        self.run("journalctl", "--sync")
        units = "--unit=docker.service", "--unit=docker.socket"
        journal = self.run("journalctl", "--no-pager", "--output=cat", "--lines=80", "--boot", *units)[1]
        lines = " | ".join(last_words(journal))
        return (
            f"Docker's engine does not start. Its journal ends: {lines or output.strip() or 'with nothing'}. Mend "
            "that, see whether `systemctl restart docker` works, and run this again."
        )


def last_words(journal: str) -> list[str]:
    """Return what an engine said last, once each, without systemd's account of trying again."""
    said = [line.strip() for line in journal.splitlines() if line.strip() and not _NOISE.search(line)]
    return list(dict.fromkeys(reversed(said)))[:_JOURNAL_LINES][::-1]


def union(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Return all keys and items of two records of what is ours."""
    result = dict(one)
    for key, value in other.items():
        there = result.get(key)
        if isinstance(there, Mapping) and isinstance(value, Mapping):
            result[key] = union(there, value)
        elif isinstance(there, list) and isinstance(value, list):
            result[key] = [*there, *(item for item in value if item not in there)]
        else:
            result[key] = value
    return result


def shown(content: Mapping[str, Any]) -> str:
    """Return daemon.json for a diff; a proxy's password is nobody's business."""
    return re.sub(r"://[^/@\s\"]+@", "://********@", json.dumps(content, indent=4, sort_keys=True)) + "\n"


def write(path: Path, text: str, mode: int) -> Path:
    """Write a file, whole or not at all, whatever the umask."""
    draft = path.with_name(f".{path.name}.new")
    with draft.open("w") as file:
        os.fchmod(file.fileno(), mode)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    return draft.rename(path)


def _read(path: Path) -> str | None:
    try:
        return path.read_text()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise EngineError(f"{path} can't be read: {error}") from None


def run(parameters: dict[str, Any], check_mode: bool, host: Host) -> dict[str, Any]:
    """Do what the module's parameters ask for, and return its result; raises EngineError."""
    state = parameters["state"]
    if state == "usable":
        why = host.unusable()
        return {"changed": False, "usable": not why, "why": why}
    found = host.found()
    planned = plan(parameters, found, host.newer(found))
    if state == "released":
        return _release(planned, found, check_mode, host)
    if state == "found":
        if planned.problems:
            error = EngineError(f"Role docker changed nothing here. {' '.join(planned.problems)}")
            error.problems = planned.problems
            raise error
        replaced = bool(planned.conflicting and found.containers and not found.version)
        if replaced and not check_mode:
            host.keep_running(found)
        return {
            "changed": False,
            "installed": found.version,
            "conflicting": planned.conflicting,
            "configure": planned.configure or found.record is None,
            "guard": found.unguarded and bool(planned.merged.result.get("live-restore")),
            "restarts": planned.restarts,
        }
    if state == "running":
        restarted = (not found.unit or host.unread()) if check_mode else host.ensure_running(planned, found)
        return {"changed": restarted, "restarted": restarted}
    if not check_mode and (planned.configure or found.record is None or state == "guarded"):
        host.configure(planned, found)
        if state == "guarded":
            host.guard()
    before, after = shown(planned.current), shown(planned.merged.result)
    header = {"before_header": parameters["path"], "after_header": parameters["path"]}
    return {"changed": planned.configure, "diff": {"before": before, "after": after, **header}}


def _release(planned: Plan, found: Found, check_mode: bool, host: Host) -> dict[str, Any]:
    """Take away what this module wrote, where that is safe."""
    mine = found.record is not None or planned.former
    others = host.others() if found.engine else []
    why = releasing(planned, others, found.engine, found.stored, str(host.path)) if mine else ""
    change = mine and not why
    before, after = shown(planned.current), shown(planned.merged.result)
    if change and not check_mode:
        host.release(planned)
    removed = [f"the settings of this project in {host.path}"] if change and planned.configure else []
    left = {**host.still_there(found.engine), "engine": [why] if why else []}
    return {"changed": change, "removed": removed, "left": left, "diff": {"before": before, "after": after}}


def main() -> None:
    """Ansible's entry point."""
    from ansible.module_utils.basic import AnsibleModule

    module = AnsibleModule(
        argument_spec={
            "state": {
                "type": "str",
                "choices": ["found", "guarded", "configured", "running", "usable", "released"],
                "required": True,
            },
            "options": {"type": "dict", "default": {}},
            "adopt": {"type": "bool", "default": False},
            "packages": {"type": "list", "elements": "str", "default": []},
            "conflicting": {"type": "list", "elements": "str", "default": []},
            "path": {"type": "path", "default": "/etc/docker/daemon.json"},
            "folder": {"type": "path", "default": "/var/lib/evenkeel/docker"},
            "seconds": {"type": "int", "default": 60},
        },
        supports_check_mode=True,
    )
    try:
        result = run(module.params, module.check_mode, Host(module.params))
    except EngineError as error:
        module.fail_json(msg=str(error), rows=[{"what": each, "mend": ""} for each in error.problems])
    except OSError as error:
        module.fail_json(msg=f"The engine's files can't be used: {error}.")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
