"""Ansible module: take away what this project put on a host, and nothing else: the counterpart of ``foreign``.

What is ours is told by a mark in it, by its place, or by a label. Runs with the distribution's Python, 3.9 or newer.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

DOCUMENTATION = """
module: ours
short_description: Take away what this project put on a host, and nothing else
description:
  - Stops and disables units, removes files and folders, and at last containers. Paths may have C(*) and C(?) in them.
  - The order is that of the options, and what tells that the rest is ours goes last. So a run that was killed is
    finished by the next one.
  - A unit file among I(files) is stopped and disabled before it goes.
options:
  units: {description: "Units of packages that are stopped and disabled, where anything of ours is found.", type: list,
          elements: str, default: []}
  files:
    description:
      - "Files that go where one of I(marks), regular expressions, is found in them: I(path)."
    type: list
    elements: dict
    default: []
  uses: {description: "Files without a mark, I(paths), that go where the file I(ours) is there.", type: list,
         elements: dict, default: []}
  links: {description: "Links, I(paths), that go where they lead into the folder I(into).", type: list, elements: dict,
          default: []}
  paths: {description: "Files and folders that are ours by their place.", type: list, elements: path, default: []}
  trees: {description: "Folders, I(path), that are ours where they have the file I(mark), which goes last.", type: list,
          elements: dict, default: []}
  folders: {description: "Folders that go once they are empty, in this order.", type: list, elements: path, default: []}
  containers:
    description: "Containers with the label I(label), of the value I(value) where one is named, or with an image that
      begins with I(image). Their volumes stay."
    type: list
    elements: dict
    default: []
  data:
    description:
      - "Folders of data: I(path); I(remove), whether what is in them goes; I(keep), whether the folder itself then
        stays. Where it stays, a note in it tells later runs that it is ours."
    type: list
    elements: dict
    default: []
  packages: {description: "Packages that stay, to be looked for.", type: list, elements: str, default: []}
author: [evenkeel]
"""
EXAMPLES = """
- name: teardown | Take HAProxy's configuration away
  ours:
    units: [haproxy.socket, haproxy.service]
    files: [{path: /etc/haproxy/haproxy.cfg, marks: [evenkeel]}]
"""
RETURN = """
removed: {description: "What was, or in check mode would be, removed.", type: list, returned: always}
left:
  description: "What was looked for afterwards and is still there, by kind: I(packages), I(data), I(copies) of what this
    project had replaced, I(foreign) files where ours would be."
  type: dict
  returned: always
"""

NOTE = ".evenkeel"
_NOTE_TEXT = "Written by evenkeel: teardown.yml left this folder, so the next site.yml may use it.\n"
_SUFFIX = ".before-evenkeel"
_UNITS = Path("/etc/systemd/system")
_COMMAND_SECONDS = 600
# Enough for every configuration; a mark is in the first lines.
_READ_BYTES = 4 << 20

_TEXT: dict[str, Any] = {"type": "str", "default": ""}
_TEXTS: dict[str, Any] = {"type": "list", "elements": "str", "default": []}
_PATHS: dict[str, Any] = {"type": "list", "elements": "path", "default": []}
_PATH: dict[str, Any] = {"type": "path", "required": True}


def _dicts(**options: dict[str, Any]) -> dict[str, Any]:
    return {"type": "list", "elements": "dict", "default": [], "options": options}


ARGUMENTS: dict[str, dict[str, Any]] = {
    "units": _TEXTS,
    "files": _dicts(path=_PATH, marks=_TEXTS),
    "uses": _dicts(paths=_PATHS, ours=_PATH),
    "links": _dicts(paths=_PATHS, into=_PATH),
    "paths": _PATHS,
    "trees": _dicts(path=_PATH, mark={"type": "str", "required": True}),
    "folders": _PATHS,
    "containers": _dicts(label={"type": "str", "required": True}, value=_TEXT, image=_TEXT),
    "data": _dicts(path=_PATH, remove={"type": "bool", "required": True}, keep={"type": "bool", "default": False}),
    "packages": _TEXTS,
}


class OursError(Exception):
    """What could not be removed or looked at; its text is the sentence the operator reads."""


def matching(pattern: str) -> list[Path]:
    """Return what is there under a path that may have wildcards, in order; links count by themselves."""
    path = Path(pattern)
    if not re.search(r"[*?]", pattern):
        return [path] if os.path.lexists(path) else []
    return sorted(Path(path.anchor).glob(str(path.relative_to(path.anchor))))


def is_marked(path: Path, marks: Sequence[str]) -> bool:
    """Return whether one of the marks (regular expressions) is in a file."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        text = file.read(_READ_BYTES).decode(errors="replace")
    return any(re.search(mark, text, re.MULTILINE) for mark in marks)


def parse_units(text: str) -> dict[str, dict[str, str]]:
    """Return the properties by unit from ``systemctl show``, with ``Id`` among them."""
    blocks = [dict(line.split("=", 1) for line in block.splitlines() if "=" in line) for block in text.split("\n\n")]
    return {block["Id"]: block for block in blocks if "Id" in block}


def parse_containers(text: str, wanted: Mapping[str, str]) -> list[str]:
    """Return the names of our containers from the engine's lines of name, image and label, with tabs between."""
    rows = (line.split("\t") for line in text.splitlines())
    return sorted(
        row[0]
        for row in rows
        if len(row) == 3
        and (
            (row[2] == wanted["value"] if wanted["value"] else row[2] != "")
            or (wanted["image"] != "" and row[1].startswith(wanted["image"]))
        )
    )


class Host:
    """The host, with the commands that it is asked by."""

    @staticmethod
    def run(*command: str) -> tuple[int, str]:
        """Return exit code and output; 127 where there is no such command, 124 where it takes too long."""
        environment = {**os.environ, "LC_ALL": "C", "DOCKER_HOST": "unix:///run/docker.sock"}
        # `timeout` has these exit codes too. With a command that does not end when it is told, it is killed itself.
        bounded = ["timeout", "--kill-after=1", f"{_COMMAND_SECONDS}", *command]
        done = subprocess.run(bounded, check=False, capture_output=True, text=True, env=environment)
        if done.returncode in {124, -signal.SIGKILL}:
            return 124, f"{' '.join(command)} took more than {_COMMAND_SECONDS} s"
        return done.returncode, done.stdout if done.returncode == 0 else done.stdout + done.stderr

    def do(self, *command: str) -> str:
        """Return a command's output; raises OursError where it fails."""
        code, output = self.run(*command)
        if code != 0:
            raise OursError(f"`{' '.join(command)}` failed: {output.strip() or f'exit code {code}'}.")
        return output

    def engine_runs(self) -> bool:
        """Return whether an engine runs: to ask one that does not would start it (docker.socket)."""
        return self.run("systemctl", "is-active", "--quiet", "docker.service")[0] == 0

    def containers_lie(self) -> bool:
        """Return whether an engine that does not run has containers."""
        folder = Path("/var/lib/docker/containers")
        return folder.is_dir() and any(folder.iterdir())

    def installed(self, names: Sequence[str]) -> list[str]:
        """Return which packages are installed."""
        form = "--showformat=${Package}\t${db:Status-Status}\n"
        text = self.run("dpkg-query", "--show", form, *names)[1] if names else ""
        there = {line.split("\t")[0] for line in text.splitlines() if line.endswith("\tinstalled")}
        return [name for name in names if name in there]


class Removal:
    """One call of the module."""

    def __init__(self, parameters: Mapping[str, Any], check_mode: bool, host: Host) -> None:
        """Take the module's parameters."""
        self._given = parameters
        self._check = check_mode
        self._host = host
        self.removed: list[str] = []
        self.foreign: list[str] = []
        self.changed = False
        self._gone: set[Path] = set()

    def run(self) -> dict[str, Any]:
        """Do it, and return the module's result; raises OursError."""
        files = list(dict.fromkeys(self._files()))
        links = [path for path, into in _each(self._given["links"], "into") if _leads(path, into)]
        paths = [path for pattern in self._given["paths"] for path in matching(pattern)]
        trees = [
            (path, each["mark"])
            for each in self._given["trees"]
            for path in matching(each["path"])
            if not path.is_symlink() and (path / each["mark"]).is_file()
        ]
        found = bool(files or links or paths or trees)
        data = [each for each in self._given["data"] if found or (Path(each["path"]) / NOTE).is_file()]
        containers = self._containers()
        if found:
            self._stop([*self._given["units"], *(path.name for path in files if path.parent == _UNITS)])
        # While the rest still tells whose they are.
        for each in data:
            self._data(Path(each["path"]), each["remove"], each["keep"])
        for path in [*files, *links, *paths]:
            self._remove(path)
        for path, mark in trees:
            self._tree(path, mark)
        for pattern in self._given["folders"]:
            for path in matching(pattern):
                self._folder(path)
        self._reload()
        for name in containers:
            self._container(name)
        return {"changed": self.changed, "removed": self.removed, "left": self._left(), "diff": self._diff()}

    def _files(self) -> Iterator[Path]:
        for each in self._given["files"]:
            for path in matching(each["path"]):
                if is_marked(path, each["marks"]):
                    yield path
                elif str(path) == each["path"]:
                    self.foreign.append(str(path))
        for path, ours in _each(self._given["uses"], "ours"):
            if Path(ours).is_file() and (path.is_file() or path.is_symlink()):
                yield path

    def _containers(self) -> list[str]:
        wanted = self._given["containers"]
        if not wanted or not self._host.engine_runs():
            return []
        found: list[str] = []
        for each in wanted:
            form = f'{{{{.Names}}}}\t{{{{.Image}}}}\t{{{{.Label "{each["label"]}"}}}}'
            text = self._host.do("docker", "ps", "--all", "--format", form)
            found += [name for name in parse_containers(text, each) if name not in found]
        return found

    def _stop(self, names: Sequence[str]) -> None:
        """Stop units, all at once so that none starts another, and have none started at boot."""
        if not names:
            return
        text = self._host.do("systemctl", "show", "--property=Id,LoadState,ActiveState,UnitFileState", *names)
        about = parse_units(text)
        there = [name for name in names if about.get(name, {}).get("LoadState") not in {None, "not-found"}]
        active = [name for name in there if about[name]["ActiveState"] not in {"inactive", "failed"}]
        enabled = [name for name in there if about[name].get("UnitFileState") in {"enabled", "enabled-runtime"}]
        self.changed = self.changed or bool(active or enabled)
        if self._check:
            return
        if active:
            self._host.do("systemctl", "stop", *active)
        if enabled:
            self._host.do("systemctl", "disable", *enabled)
        failed = [name for name in there if about[name]["ActiveState"] == "failed"]
        if failed:
            self._host.run("systemctl", "reset-failed", *failed)

    def _reload(self) -> None:
        """Have systemd forget unit files that are gone, those too that a run before this one has removed."""
        gone = any(_UNITS in path.parents for path in self._gone)
        units = [*self._given["units"], *(_dropped_into(each["path"]) for each in self._given["files"])]
        shown = [name for name in dict.fromkeys(units) if name]
        if not gone and shown:
            text = self._host.run("systemctl", "show", "--property=Id,NeedDaemonReload", *shown)[1]
            gone = any(each.get("NeedDaemonReload") == "yes" for each in parse_units(text).values())
        if gone:
            self.changed = True
            if not self._check:
                self._host.do("systemctl", "daemon-reload")

    def _remove(self, path: Path) -> None:
        self._note_gone(path)
        if self._check:
            return
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)

    def _note_gone(self, path: Path) -> None:
        self.changed = True
        self._gone.add(path)
        self.removed.append(str(path))

    def _tree(self, path: Path, mark: str, keep: bool = False) -> None:
        """Remove a folder, and in it what tells that it is ours last."""
        self._note_gone(path / "*" if keep else path)
        if self._check:
            return
        for each in path.iterdir():
            if each.name != mark and each.is_dir() and not each.is_symlink():
                shutil.rmtree(each)
            elif each.name != mark:
                each.unlink()
        (path / mark).unlink(missing_ok=True)
        if not keep:
            path.rmdir()

    def _folder(self, path: Path) -> None:
        if path.is_dir() and not path.is_symlink() and all(each in self._gone for each in path.iterdir()):
            self._note_gone(path)
            if not self._check:
                path.rmdir()

    def _data(self, path: Path, remove: bool, keep: bool) -> None:
        inside = [each for each in path.iterdir() if each.name != NOTE] if path.is_dir() else []
        noted = (path / NOTE).is_file()
        if not path.is_dir() or (not inside and not noted):
            return
        if not noted and (inside or remove):
            self.changed = True
            if not self._check:
                (path / NOTE).write_text(_NOTE_TEXT)
        if remove:
            self._tree(path, NOTE, keep)

    def _container(self, name: str) -> None:
        self.changed = True
        self.removed.append(f"container {name}")
        if not self._check:
            # It may end well, as at every other stop.
            self._host.do("docker", "stop", name)
            self._host.do("docker", "rm", "--force", name)

    def _left(self) -> dict[str, list[str]]:
        """Look what is still there."""
        places = [each["path"] for each in self._given["files"] if each["path"] not in self.foreign]
        copies = [path for place in places for path in matching(f"{place}{_SUFFIX}*")]
        folders = [Path(each["path"]) for each in self._given["data"]]
        return {
            "packages": self._host.installed(self._given["packages"]),
            "data": [str(each) for each in folders if (each / NOTE).is_file() or (self._check and self._stays(each))],
            "copies": [str(each) for each in copies],
            "foreign": self.foreign,
        }

    def _stays(self, path: Path) -> bool:
        return (
            self.changed
            and path.is_dir()
            and path / "*" not in self._gone
            and path not in self._gone
            and any(path.iterdir())
        )

    def _diff(self) -> dict[str, str]:
        return {"before": "".join(f"{each}\n" for each in self.removed), "after": ""}


def _each(entries: Sequence[Mapping[str, Any]], key: str) -> Iterator[tuple[Path, str]]:
    """Yield what is there of every entry's paths, with what the entry says."""
    for each in entries:
        for pattern in each["paths"]:
            for path in matching(pattern):
                yield path, each[key]


def _leads(path: Path, into: str) -> bool:
    return path.is_symlink() and Path(into) in (path.parent / path.readlink()).parents


def _dropped_into(path: str) -> str:
    """Return the unit that a file is a drop-in of; empty where it is none."""
    folder = Path(path).parent
    return folder.stem if folder.parent == _UNITS and folder.suffix == ".d" else ""


@contextlib.contextmanager
def alone(folder: Path = _UNITS) -> Iterator[None]:
    """Wait for what a run that was killed has left running here: two at once would trip over each other."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def run(parameters: Mapping[str, Any], check_mode: bool, host: Host) -> dict[str, Any]:
    """Do what the module's parameters ask for, and return its result; raises OursError."""
    result = Removal(parameters, check_mode, host).run()
    if parameters["containers"] and not host.engine_runs() and host.containers_lie():
        raise OursError(
            "Docker's engine does not run here, so nobody can tell whether containers of this project are left: start "
            "it (systemctl start docker), and run this again."
        )
    return result


def main() -> None:
    """Ansible's entry point."""
    from ansible.module_utils.basic import AnsibleModule

    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    try:
        with alone():
            result = run(module.params, module.check_mode, Host())
    except OursError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"What is on this host can't be removed: {error}.")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
