"""Ansible module: one apt repository with a key of its own, beside whatever the host has already.

What apt's files say is parsed by pure functions; only :class:`Apt` and :func:`main` touch the host. Runs there with the
distribution's Python, 3.9 or newer.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import time
import urllib.parse
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

DOCUMENTATION = """
module: apt_source
short_description: One apt repository, with a key of its own
description:
  - An entry for the same repository that somebody else made, under whatever name, with whatever key, is used as it is.
    Two of them with different keys would break apt altogether.
  - Where it can't be used, I(adopt) has it switched off and a copy kept; else that is a failure which names it.
  - The entry is written once its key is there. Where its package lists can't be read, apt is put back as it was.
  - C(absent) removes this module's entry, and its key where no other entry names it. It asks for I(name) alone.
options:
  name: {description: "The name of its files.", type: str, required: true}
  state: {description: "Whether it is wanted.", type: str, choices: [present, absent], default: present}
  uri: {description: "Where the repository begins.", type: str}
  suite: {description: "The suite.", type: str}
  components: {description: "The components.", type: list, elements: str}
  architecture: {description: "The architecture, such as C(amd64).", type: str}
  key_url: {description: "Where the armored key is.", type: str}
  key_checksum: {description: "The key's checksum as C(sha256:<hex>); empty trusts the URL.", type: str, default: ""}
  adopt: {description: "Whether somebody else's entry may be switched off.", type: bool, default: false}
  setting: {description: "The name of the setting that says so.", type: str, default: apt_repository_adopt}
  lock_timeout: {description: "Seconds to wait for another process's lock.", type: int, default: 300}
  folder: {description: "apt's folder.", type: path, default: /etc/apt}
author: [evenkeel]
"""
EXAMPLES = """
- name: Add the repository
  apt_source:
    name: docker
    uri: https://download.docker.com/linux/debian
    suite: trixie
    components: [stable]
    architecture: amd64
    key_url: https://download.docker.com/linux/debian/gpg
"""
RETURN = """
lists: {description: "Whether its package lists are there.", type: bool, returned: state=present}
used: {description: "The file that holds the entry in use.", type: str, returned: state=present}
removed: {description: "The files that were, or in check mode would be, removed.", type: list, returned: state=absent}
left: {description: "By C(copies): what is left of entries that were switched off.", type: dict, returned: state=absent}
"""

_SUFFIX = ".before-evenkeel"
_COMMAND_SECONDS = 600
_KEY_SECONDS = 20
_KEY_TRIES = 3
_ARMOR = b"-----BEGIN PGP PUBLIC KEY BLOCK-----"
_LOCKED = re.compile(r"Could not get lock|Unable to lock|is held by process")
# What this project's files say, and how its former releases wrote theirs.
_OURS = re.compile(
    r"^# Written by evenkeel|\A#\n# Ansible managed\n#\nTypes: deb\nURIs: .*\nSuites: .*\nComponents: .*\n"
    r"Architectures: .*\nSigned-By: /etc/apt/keyrings/[^/]+\.asc\n\Z",
    re.MULTILINE,
)


class SourceError(Exception):
    """What stops it; its text is the sentence the operator reads."""


@dataclass(frozen=True)
class Entry:
    """An entry in one of apt's files.

    Attributes:
        file: the file.
        lines: the numbers of its lines there, from 0, the last one not included.
        enabled: whether apt uses it.
        types: such as ``("deb", "deb-src")``.
        uris: where it leads.
        suites: its suites.
        components: its components.
        architectures: those it is for; empty is all.
    """

    file: Path
    lines: tuple[int, int]
    enabled: bool
    types: tuple[str, ...]
    uris: tuple[str, ...]
    suites: tuple[str, ...]
    components: tuple[str, ...]
    architectures: tuple[str, ...] = ()

    def leads_to(self, uri: str, suite: str) -> bool:
        """Return whether it is for this repository and suite, however it is written."""
        wanted = (plain(uri), suite.rstrip("/"))
        return any(wanted == (plain(each), other.rstrip("/")) for each in self.uris for other in self.suites)


def plain(uri: str) -> str:
    """Return a URI without what makes no difference: scheme, user, case of the host, slashes, the default port."""
    parts = urllib.parse.urlsplit(re.sub(r"^mirror\+", "", uri.strip()))
    host = (parts.hostname or "").lower()
    port = f":{parts.port}" if parts.port and parts.port not in {80, 443} else ""
    return host + port + re.sub(r"/+", "/", parts.path).rstrip("/")


def parse_list(file: Path, text: str) -> list[Entry]:
    """Return the entries of a file in one-line style."""
    found = []
    for number, line in enumerate(text.splitlines()):
        match = re.match(r"\s*(deb(?:-src)?)\s+(?:\[([^\]]*)\]\s*)?(\S+)\s+(\S+)\s*([^#]*)", line)
        if match:
            kind, options, uri, suite, components = match.groups()
            architectures = re.search(r"\barch=(\S+)", options or "")
            found.append(
                Entry(
                    file,
                    (number, number + 1),
                    True,
                    (kind,),
                    (uri,),
                    (suite,),
                    tuple(components.split()),
                    tuple(architectures[1].split(",")) if architectures else (),
                )
            )
    return found


def parse_sources(file: Path, text: str) -> list[Entry]:
    """Return the entries of a file in deb822 style."""
    found = []
    lines = text.splitlines()
    number = 0
    while number < len(lines):
        begin = number
        while number < len(lines) and lines[number].strip():
            number += 1
        fields = _fields(lines[begin:number])
        if "types" in fields:
            words = {name: tuple(value.split()) for name, value in fields.items()}
            found.append(
                Entry(
                    file,
                    (begin, number),
                    fields.get("enabled", "yes").strip().lower()
                    not in {"no", "false", "without", "off", "disable", "0"},
                    words["types"],
                    words.get("uris", ()),
                    words.get("suites", ()),
                    words.get("components", ()),
                    words.get("architectures", ()),
                )
            )
        number += 1
    return found


def _fields(lines: Iterable[str]) -> dict[str, str]:
    fields: dict[str, str] = {}
    name = ""
    for line in lines:
        if line.startswith("#"):
            continue
        if line[0] in " \t":
            fields[name] = f"{fields.get(name, '')}\n{line}"
        else:
            name, _, value = line.partition(":")
            name = name.strip().lower()
            fields[name] = value.strip()
    return fields


def switched_off(entry: Entry, text: str) -> str:
    """Return the text of the entry's file without it."""
    lines = text.splitlines()
    begin, end = entry.lines
    if entry.file.suffix == ".sources":
        kept = [line for line in lines[begin:end] if not re.match(r"enabled\s*:", line, re.IGNORECASE)]
        lines[begin:end] = ["Enabled: no", *kept]
    else:
        lines[begin:end] = [
            f"# Switched off by evenkeel, which has an entry of its own: {line}" for line in lines[begin:end]
        ]
    return "\n".join(lines) + "\n"


@dataclass
class Plan:
    """What is to be done.

    Attributes:
        used: the entry of somebody else's that is used as it is, if any.
        off: entries to switch off, in that order.
        obsolete: whether this project's own file goes, since another entry does the same.
        foreign: whether the file of that name is somebody else's, and is replaced.
    """

    used: Entry | None = None
    off: list[Entry] = field(default_factory=list)
    obsolete: bool = False
    foreign: bool = False


def plan(entries: Sequence[Entry], parameters: Mapping[str, Any], own: Path, own_text: str | None) -> Plan:
    """Return what is to be done.

    Args:
        entries: all that apt has.
        parameters: the module's.
        own: the file that this module writes.
        own_text: what it holds; None where it is not there.

    Raises:
        SourceError: somebody else's entry is in the way.
    """
    ours = own_text is not None and bool(_OURS.search(own_text))
    others = [
        each
        for each in entries
        if each.enabled
        and "deb" in each.types
        and each.leads_to(parameters["uri"], parameters["suite"])
        and not (each.file == own and ours)
    ]
    usable = [
        each
        for each in others
        if {*parameters["components"]} <= {*each.components}
        and (not each.architectures or parameters["architecture"] in each.architectures)
    ]
    if usable and not parameters["adopt"]:
        return Plan(used=usable[0], obsolete=ours)
    foreign = own_text is not None and not ours
    if parameters["adopt"]:
        mixed = next((each for each in others if len(each.uris) > 1 or len(each.suites) > 1), None)
        if mixed:
            raise SourceError(
                f"{mixed.file} has this repository together with others in one entry: take {parameters['uri']} "
                f"{parameters['suite']} out of it, so that it can get an entry of its own."
            )
        # Those further down first: their lines stay where they are.
        return Plan(
            off=sorted((each for each in others if each.file != own), key=lambda each: each.lines, reverse=True),
            foreign=foreign,
        )
    how = f"{parameters['setting']}: true switches it off and keeps a copy, {{}}{_SUFFIX}"
    if others:
        raise SourceError(
            f"{others[0].file} has the same repository, but not its {' '.join(parameters['components'])} for "
            f"{parameters['architecture']}, and apt takes no second entry with another key: add that there; or "
            f"{how.format(others[0].file)}."
        )
    if foreign:
        raise SourceError(
            f"{own} was not written by this project, and leads elsewhere than {parameters['uri']} "
            f"{parameters['suite']}: give it another name; or {how.format(own)}."
        )
    return Plan()


def entry_text(parameters: Mapping[str, Any], key: Path) -> str:
    """Return the text of this module's file."""
    lines = [
        "# Ansible managed",
        "# Written by evenkeel, role apt_repository.",
        "Types: deb",
        f"URIs: {parameters['uri']}",
        f"Suites: {parameters['suite']}",
        f"Components: {' '.join(parameters['components'])}",
        f"Architectures: {parameters['architecture']}",
        f"Signed-By: {key}",
    ]
    return "\n".join(lines) + "\n"


def checksum_problem(key: bytes, checksum: str, url: str) -> str:
    """Return what is wrong with a key; empty where nothing is."""
    if not key.lstrip().startswith(_ARMOR):
        return f"{url} is no armored key: it begins with {key[:40]!r}."
    algorithm, _, wanted = checksum.partition(":")
    if not checksum or (algorithm == "sha256" and hashlib.sha256(key).hexdigest() == wanted.strip().lower()):
        return ""
    if algorithm != "sha256":
        return f"The key's checksum is {checksum!r}: write it as sha256:<hex>."
    return (
        f"{url} has the checksum sha256:{hashlib.sha256(key).hexdigest()}, not {checksum}: see whether the key was "
        "changed on purpose, and set the new one."
    )


class Apt:
    """apt on this host."""

    def __init__(self, folder: Path) -> None:
        """Name apt's folder."""
        self.folder = folder
        # dpkg's journal, empty between its runs.
        self.updates = Path("/var/lib/dpkg/updates")
        self._former: dict[Path, tuple[bytes, int] | None] = {}

    def begin(self) -> None:
        """Take the files as they are now for what is put back."""
        self._former = {}

    def mend(self) -> None:
        """Finish what a run that was cut off left half done, or apt refuses everything.

        Raises:
            SourceError: it can't be finished.
        """
        if any(each.name.isdigit() for each in self.updates.glob("*")):
            code, output = self.run("dpkg", "--force-confdef", "--force-confold", "--configure", "--pending")
            if code != 0:
                raise SourceError(
                    f"dpkg was interrupted on this host, and `dpkg --configure -a` says: {output.strip()}"
                )

    def files(self) -> list[Path]:
        """Return apt's files of entries."""
        parts = self.folder / "sources.list.d"
        found = [self.folder / "sources.list", *sorted([*parts.glob("*.list"), *parts.glob("*.sources")])]
        return [path for path in found if path.is_file()]

    def entries(self) -> list[Entry]:
        """Return all entries."""
        found: list[Entry] = []
        for path in self.files():
            text = path.read_text(errors="replace")
            found += parse_sources(path, text) if path.suffix == ".sources" else parse_list(path, text)
        return found

    def run(self, *command: str) -> tuple[int, str]:
        """Return exit code and output."""
        environment = {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
        try:
            done = subprocess.run(
                command, check=False, capture_output=True, text=True, timeout=_COMMAND_SECONDS, env=environment
            )
        except subprocess.TimeoutExpired:
            return 124, f"E: {' '.join(command)} took more than {_COMMAND_SECONDS} s"
        return done.returncode, done.stdout + done.stderr

    def lists(self, uri: str, suite: str) -> bool:
        """Return whether the repository's package lists are there.

        Raises:
            SourceError: apt can't read its own files.
        """
        code, output = self.run(
            "apt-get", "indextargets", "--format", "$(FILENAME)", f"Base-URI: {uri.rstrip('/')}/dists/{suite}/"
        )
        if code != 0:
            raise SourceError(f"apt can't read its sources on this host: {errors(output)}")
        return any(line.startswith("/") for line in output.splitlines())

    def update(self, seconds: float) -> str:
        """Read all package lists; return what apt says was wrong."""
        deadline = time.monotonic() + seconds
        while True:
            code, output = self.run("apt-get", "update")
            if code == 0 or not _LOCKED.search(output) or time.monotonic() > deadline:
                return errors(output)
            time.sleep(2)

    def write(self, path: Path, content: bytes | None, mode: int = 0o644) -> None:
        """Write or remove a file, whole or not at all, whatever the umask; remembers what was there."""
        if path not in self._former:
            self._former[path] = (path.read_bytes(), path.stat().st_mode & 0o777) if path.is_file() else None
        if content is None:
            path.unlink(missing_ok=True)
            return
        missing = [each for each in (path.parent, *path.parent.parents) if not each.exists()]
        for folder in reversed(missing):
            folder.mkdir()
            folder.chmod(0o755)
        # No name that apt reads, or warns of.
        draft = path.with_name(f".{path.name}.save")
        with draft.open("wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(content)
        draft.rename(path)

    def put_back(self, leave: Sequence[Path] = ()) -> None:
        """Undo all writing, but of some files."""
        for path, former in self._former.items():
            if path in leave:
                continue
            if former is None:
                path.unlink(missing_ok=True)
            else:
                self.write(path, *former)


def errors(output: str) -> str:
    """Return apt's own errors and warnings in its output, once each."""
    lines = [line.strip() for line in output.splitlines() if re.match(r"[EW]: ", line)]
    return " ".join(dict.fromkeys(lines))


def fetch(url: str, open_url: Callable[..., Any]) -> bytes:
    """Return what a URL answers.

    Raises:
        SourceError: nothing, three times.
    """
    for attempt in range(_KEY_TRIES):
        if attempt:
            time.sleep(3)
        try:
            return bytes(open_url(url, timeout=_KEY_SECONDS).read())
        except Exception as error:  # noqa: BLE001 whatever it is, it is the reason
            reason = error
    raise SourceError(f"The repository's key can't be read from {url}: {reason}. Nothing was changed.")


def run(parameters: Mapping[str, Any], check_mode: bool, apt: Apt, get: Callable[[str], bytes]) -> dict[str, Any]:
    """Do what the module's parameters ask for, and return its result; raises SourceError.

    Args:
        parameters: the module's.
        check_mode: whether nothing may be changed.
        apt: apt.
        get: returns what a URL answers.
    """
    apt.begin()
    if parameters["state"] == "absent":
        return _remove(parameters["name"], check_mode, apt)
    if not check_mode:
        apt.mend()
    own = apt.folder / "sources.list.d" / f"{parameters['name']}.sources"
    own_text = own.read_text(errors="replace") if own.is_file() else None
    planned = plan(apt.entries(), parameters, own, own_text)
    if planned.used:
        return _use(parameters, check_mode, apt, planned, own)
    key, key_there = _key(parameters, apt.folder, own_text)
    text = entry_text(parameters, key)
    changed = text != own_text or not key_there or bool(planned.off)
    diff = {"before": own_text or "", "after": text, "before_header": str(own), "after_header": str(own)}
    result = {"changed": changed, "used": str(own), "diff": diff}
    if check_mode:
        # An entry that is not there yet has no lists.
        there = text == own_text and not planned.off and apt.lists(parameters["uri"], parameters["suite"])
        return {**result, "lists": there}
    try:
        if not key_there:
            content = get(parameters["key_url"])
            problem = checksum_problem(content, parameters["key_checksum"], parameters["key_url"])
            if problem:
                raise SourceError(f"{problem} Nothing was changed.")
            apt.write(key, content)
        _write(apt, planned, own, text)
        read = _read_lists(apt, parameters)
    except SourceError:
        # A run cut off here before has left an entry that never worked.
        if not changed:
            apt.write(own, None)
        apt.put_back(leave=() if changed else (own,))
        raise
    return {**result, "changed": changed or read, "lists": True}


def _remove(name: str, check_mode: bool, apt: Apt) -> dict[str, Any]:
    """Remove this module's entry and key; the entry goes last, since it tells that the key is ours."""
    own = apt.folder / "sources.list.d" / f"{name}.sources"
    text = own.read_text(errors="replace") if own.is_file() else ""
    removed: list[Path] = []
    if _OURS.search(text):
        others = "".join(path.read_text(errors="replace") for path in apt.files() if path != own)
        keys = [apt.folder / "keyrings" / f"{name}{suffix}.asc" for suffix in ("", "-evenkeel")]
        removed = [key for key in keys if key.is_file() and f"Signed-By: {key}" in text and str(key) not in others]
        removed.append(own)
    for path in removed if not check_mode else ():
        apt.write(path, None)
    copies = sorted(str(path) for path in apt.folder.glob(f"**/*{_SUFFIX}*"))
    diff = {"before": "".join(f"{path}\n" for path in removed), "after": ""}
    gone = [str(path) for path in removed]
    return {"changed": bool(removed), "removed": gone, "left": {"copies": copies}, "diff": diff}


def _write(apt: Apt, planned: Plan, own: Path, text: str) -> None:
    """Switch off what is in the way, having kept a copy, and write the entry."""
    for entry in planned.off:
        _keep(apt, entry.file)
        apt.write(entry.file, switched_off(entry, entry.file.read_text()).encode())
    if planned.foreign:
        _keep(apt, own)
    if not own.is_file() or own.read_text() != text:
        apt.write(own, text.encode())


def _read_lists(apt: Apt, parameters: Mapping[str, Any]) -> bool:
    """Read the package lists where they are missing; return whether they were.

    Raises:
        SourceError: they can't be read.
    """
    uri, suite = parameters["uri"], parameters["suite"]
    if apt.lists(uri, suite):
        return False
    wrong = apt.update(parameters["lock_timeout"])
    if not apt.lists(uri, suite):
        raise SourceError(
            f"The package lists of {uri} {suite} can't be read, so apt was put back as it was. apt says: "
            f"{wrong or 'nothing'}"
        )
    return True


def _use(parameters: Mapping[str, Any], check_mode: bool, apt: Apt, planned: Plan, own: Path) -> dict[str, Any]:
    """Use somebody else's entry as it is."""
    assert planned.used
    uri = next(each for each in planned.used.uris if plain(each) == plain(parameters["uri"]))
    if planned.obsolete and not check_mode:
        apt.write(own, None)
    result = {"changed": planned.obsolete, "used": str(planned.used.file)}
    try:
        there = apt.lists(uri, parameters["suite"])
    except SourceError:
        if not (planned.obsolete and check_mode):
            raise
        # Two entries with different keys, which the real run mends by taking its own away.
        there = False
    if there or check_mode:
        return {**result, "lists": there}
    wrong = apt.update(parameters["lock_timeout"])
    if not apt.lists(uri, parameters["suite"]):
        raise SourceError(
            f"{planned.used.file} has the repository {uri} {parameters['suite']}, which was not added by this project, "
            f"and its package lists can't be read: mend it; or {parameters['setting']}: true switches it off and keeps "
            f"a copy, {planned.used.file}{_SUFFIX}. apt says: {wrong or 'nothing'}"
        )
    return {**result, "changed": True, "lists": True}


def _key(parameters: Mapping[str, Any], folder: Path, own_text: str | None) -> tuple[Path, bool]:
    """Return where the key belongs and whether it is there; somebody else's under that name stays."""
    path = folder / "keyrings" / f"{parameters['name']}.asc"
    mine = own_text is not None and bool(_OURS.search(own_text))
    other = path.with_name(f"{parameters['name']}-evenkeel.asc")
    if mine and f"Signed-By: {other}" in (own_text or ""):
        path = other
    if not path.is_file():
        return path, False
    fits = not checksum_problem(path.read_bytes(), parameters["key_checksum"], "")
    if (mine and not parameters["key_checksum"]) or (fits and parameters["key_checksum"]):
        return path, True
    return (path if mine else other), False


def _keep(apt: Apt, path: Path) -> None:
    """Keep a copy of somebody else's file, unless the same is kept already."""
    number = 0
    while True:
        name = path.with_name(f"{path.name}{_SUFFIX}{f'.{number}' if number else ''}")
        if not name.exists():
            apt.write(name, path.read_bytes(), path.stat().st_mode & 0o777)
            return
        if name.read_bytes() == path.read_bytes():
            return
        number += 1


def main() -> None:
    """Ansible's entry point."""
    from ansible.module_utils.basic import AnsibleModule
    from ansible.module_utils.urls import open_url

    text = {"type": "str"}
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            **dict.fromkeys(("uri", "suite", "architecture"), text),
            "key_url": {**text, "no_log": False},
            "components": {"type": "list", "elements": "str"},
            "key_checksum": {"type": "str", "default": "", "no_log": False},
            "adopt": {"type": "bool", "default": False},
            "setting": {"type": "str", "default": "apt_repository_adopt"},
            "lock_timeout": {"type": "int", "default": 300},
            "folder": {"type": "path", "default": "/etc/apt"},
        },
        required_if=[("state", "present", ("uri", "suite", "components", "architecture", "key_url"))],
        supports_check_mode=True,
    )
    try:
        apt = Apt(Path(module.params["folder"]))
        result = run(module.params, module.check_mode, apt, lambda url: fetch(url, open_url))
    except SourceError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"apt's files can't be used: {error}.")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
