"""Ansible module: look at a host before anything is changed there, all at once.

What files and programs say is turned into sentences by pure functions; only :func:`look` and what it calls touch the
host, and change nothing. Runs there with the distribution's Python, 3.9 or newer.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import selectors
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

DOCUMENTATION = """
module: host_state
short_description: Look at a host before anything is changed there
description:
  - Looks at the packages, the disks, the memory, the clock, cloud-init, and the ways to other hosts. Changes nothing.
  - Does not fail for what it finds.
options:
  brief: {description: "Whether nothing is looked at but that Python and root are there.", type: bool, default: false}
  cloud_init: {description: "cloud-init's program.", type: path, default: /usr/bin/cloud-init}
  disk_megabytes: {description: "What every file system needs that something is written to.", type: int, default: 0}
  memory_megabytes: {description: "What the host needs.", type: int, default: 0}
  wait:
    description: Seconds that may pass until cloud-init has finished, and until apt and dpkg are free.
    type: dict
    default: {}
  paths: {description: "Other hosts' places that this one must reach, I(name), I(address) and I(port).", type: list,
          elements: dict, default: []}
author: [evenkeel]
"""
EXAMPLES = """
- name: Look at the host
  host_state:
    disk_megabytes: 500
    paths: [{name: backend-1, address: 192.0.2.2, port: 80}]
"""
RETURN = """
waits: {description: "What is still going on there, as `cloud-init` or `apt`, in words by name.", type: dict,
        returned: always}
problems: {description: "What is wrong, a sentence each.", type: list, returned: always}
notes: {description: "What the operator should know of, a sentence each.", type: list, returned: always}
unreached: {description: "Which of the places did not answer, with I(why).", type: list, returned: always}
began: {description: "The host's clock at the beginning, in seconds since 1970.", type: float, returned: always}
ended: {description: "The same at the end.", type: float, returned: always}
"""

ARGUMENTS: dict[str, dict[str, Any]] = {
    "brief": {"type": "bool", "default": False},
    "cloud_init": {"type": "path", "default": "/usr/bin/cloud-init"},
    "disk_megabytes": {"type": "int", "default": 0},
    "memory_megabytes": {"type": "int", "default": 0},
    "wait": {"type": "dict", "default": {}},
    "paths": {"type": "list", "elements": "dict", "default": []},
}
_ROOT = Path("/")
# Where packages, images, samples and logs go; those that are not there yet will be folders of the one above.
_WRITTEN = ("/", "/etc", "/opt", "/tmp", "/usr/local", "/var", "/var/lib", "/var/lib/docker", "/var/lib/prometheus")
_LOCKS = ("var/lib/dpkg/lock-frontend", "var/lib/dpkg/lock", "var/lib/apt/lists/lock", "var/cache/apt/archives/lock")
_CONNECT_SECONDS = 2
_APT = ["apt-get", "check", "--quiet=2", "--option=Debug::NoLocking=true"]
# As if there were no package lists: what is installed and the list of sources are looked at all the same.
_LISTS_LEFT_OUT = [
    f"--option=Dir::{option}" for option in ("State::lists=/nonexistent/", "Cache::pkgcache=", "Cache::srcpkgcache=")
]
# What the task apt_package finishes by itself.
_FINISHED_LATER = "dpkg was interrupted"


def parse_memory(text: str) -> int:
    """Return the host's memory in megabytes, from the text of ``/proc/meminfo``; 0 where it does not say."""
    found = re.search(r"^MemTotal:\s+(\d+) kB", text, re.MULTILINE)
    return int(found[1]) // 1024 if found else 0


def memory_problem(megabytes: int, needed: int) -> str:
    """Return what is wrong with a host's memory, a sentence; empty where nothing is or where it is not known."""
    if not megabytes or megabytes >= needed:
        return ""
    return (
        f"It has {megabytes} MB of memory, and {needed} MB are needed: give it more, or set preflight_memory_megabytes "
        "to less."
    )


def disk_problem(folder: str, free: int, needed: int, read_only: bool, inodes: bool) -> str:
    """Return what is wrong with a file system, a sentence; empty where nothing is.

    Args:
        folder: a folder that lies there.
        free: its free space in megabytes.
        needed: how much of that is needed.
        read_only: whether nothing can be written there.
        inodes: whether it has room for more files.
    """
    if read_only:
        return f"{folder} is mounted read-only: mount it for writing (see `dmesg` why it is not)."
    if not inodes:
        return f"{folder} has no room for more files (df -i {folder}): remove some."
    if free < needed:
        return (
            f"{folder} has {free} MB of free space, and {needed} MB are needed: make room there, or set "
            "preflight_disk_megabytes to less."
        )
    return ""


def apt_problems(said: str) -> list[str]:
    """Return what is wrong with apt, a sentence each, from what ``apt-get check`` says on its error output."""
    lines = [line[2:].strip() for line in said.splitlines() if line.startswith("E:")]
    # The last ones only say that there were others.
    found = [line.rstrip(".") for line in lines if _FINISHED_LATER not in line]
    if not found:
        return []
    depends = any("nmet dependencies" in line for line in found)
    mend = "apt-get --fix-broken install" if depends else "mend what it names, until `apt-get check` is content"
    return [f"apt is broken ({'; '.join(dict.fromkeys(found[:3]))}): {mend}."]


def audit_problems(said: str, pending: bool) -> list[str]:
    """Return which packages nobody but their owner can mend, from ``dpkg --audit``.

    Args:
        said: what it says.
        pending: whether dpkg was interrupted; then the next run of the task apt_package goes on with all of them.
    """
    names = [] if pending else re.findall(r"^ (\S+) ", said, re.MULTILINE)
    if not names:
        return []
    return [f"Packages are half installed ({', '.join(names[:5])}): finish them with `dpkg --configure --pending`."]


def look(parameters: Mapping[str, Any], root: Path = _ROOT) -> dict[str, Any]:
    """Return all that the module tells; ``root`` holds the host's files."""
    began = time.time()
    waits: dict[str, str] = {}
    problems: list[str] = []
    notes: list[str] = []
    if not parameters["brief"]:
        waits = _waited(parameters["wait"], root, parameters["cloud_init"])
        problems = [memory_problem(parse_memory(_read(root / "proc/meminfo")), parameters["memory_megabytes"])]
        problems += [*_disks(parameters["disk_megabytes"]), *_packages(root, "apt" in waits)]
    if not waits and _failed(root):
        notes.append(
            "cloud-init has ended with errors, so what it should set up may be missing: see `cloud-init status --long`."
        )
    return {
        "waits": waits,
        "problems": [sentence for sentence in problems if sentence],
        "notes": notes,
        "unreached": unreached(parameters["paths"]),
        "began": began,
        "ended": time.time(),
    }


def _waited(seconds: Mapping[str, float], root: Path, program: str) -> dict[str, str]:
    """Return what is still going on when the time for it is over."""
    asked: dict[str, Callable[[], str]] = {
        "cloud-init": lambda: booting(root, program),
        "apt": lambda: lock_holder(root),
    }
    waits: dict[str, str] = {}
    for name, ask in asked.items():
        end = time.monotonic() + float(seconds.get(name, 0))
        while (words := ask()) and time.monotonic() < end:
            time.sleep(1)
        if words:
            waits[name] = words
    return waits


def booting(root: Path, program: str) -> str:
    """Return in which stage cloud-init still is; empty where it has ended, is off or is not there."""
    if not Path(program).exists():
        return ""
    # What it leaves in /run is what its own `status` reads; older ones and other programs are asked.
    if any((root / "run/cloud-init" / name).exists() for name in ("result.json", "disabled")):
        return ""
    said = _run([program, "status"], 10)
    if said is None or "running" in said[0] or "not started" in said[0]:
        return (said[0] if said else "").strip().removeprefix("status: ") or "running"
    return ""


def _failed(root: Path) -> bool:
    return bool(re.search(r'"errors":\s*\[\s*[^\]\s]', _read(root / "run/cloud-init/result.json")))


def lock_holder(root: Path) -> str:
    """Return the process that holds a lock of dpkg or apt, in words; empty where none does."""
    for name in _LOCKS:
        try:
            with (root / name).open("rb") as file:
                asked = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
                kind, _, _, _, process = struct.unpack("hhqqi4x", fcntl.fcntl(file, fcntl.F_GETLK, asked))
        except (OSError, struct.error):
            continue
        if kind != fcntl.F_UNLCK:
            comm = _read(root / "proc" / str(process) / "comm").strip()
            return f"{comm or 'a program'} (process {process})"
    return ""


def _disks(needed: int) -> Iterable[str]:
    seen = set()
    for folder in _WRITTEN:
        try:
            device, about = Path(folder).stat().st_dev, os.statvfs(folder)
        except OSError:
            continue
        if device not in seen:
            seen.add(device)
            # A file system that makes room for files as they come says 0 of 0.
            inodes = about.f_favail > 0 or about.f_files == 0
            free = about.f_bavail * about.f_frsize >> 20
            # What is mounted for its own sake, such as a small /tmp, needs less than where packages and images go.
            enough = needed if folder in {"/", "/var", "/var/lib", "/var/lib/docker"} else needed // 10
            yield disk_problem(folder, free, enough, bool(about.f_flag & os.ST_RDONLY), inodes)


def lists_unread(root: Path) -> bool:
    """Return whether apt has package lists that it has not read yet; reading them takes most of what a check takes."""
    folder = root / "var/lib/apt/lists"
    # What it has read is in its cache. The lists' own times are those of the archive.
    read = [path.stat().st_mtime for path in (root / "var/cache/apt").glob("*pkgcache.bin")]
    came = [path.stat().st_ctime for path in (folder, *folder.glob("*")) if path.exists()]
    return not read or not came or max(read) < max(came)


def _packages(root: Path, held: bool) -> list[str]:
    """Return what is wrong with apt and dpkg, which say nothing of worth while another process works with them."""
    if held:
        return []
    said = _run(_APT if lists_unread(root) else [*_APT, *_LISTS_LEFT_OUT], 120)
    found = apt_problems(said[1]) if said and said[2] else []
    if not found:
        updates = root / "var/lib/dpkg/updates"
        said = _run(["dpkg", "--audit"], 60)
        found = audit_problems(said[0], updates.is_dir() and any(updates.iterdir())) if said else []
    return found


def unreached(paths: Sequence[Mapping[str, Any]], seconds: float = _CONNECT_SECONDS) -> list[dict[str, Any]]:
    """Return which places did not answer, all asked at once; one that refuses has answered.

    Args:
        paths: ``name``, ``address`` and ``port`` of each.
        seconds: how long to wait for them all.
    """
    missing: list[dict[str, Any]] = []
    waiting: dict[socket.socket, Mapping[str, Any]] = {}
    with selectors.DefaultSelector() as selector:
        for path in paths:
            try:
                family, kind, _, _, place = socket.getaddrinfo(
                    path["address"], int(path["port"]), type=socket.SOCK_STREAM
                )[0]
            except OSError as error:
                missing.append({**path, "why": f"its name has no address there: {error.strerror}"})
                continue
            link = socket.socket(family, kind)
            link.setblocking(False)
            status = link.connect_ex(place)
            if status in {0, errno.ECONNREFUSED}:
                link.close()
            elif status == errno.EINPROGRESS:
                waiting[link] = path
                selector.register(link, selectors.EVENT_WRITE)
            else:
                link.close()
                missing.append({**path, "why": os.strerror(status)})
        end = time.monotonic() + seconds
        while waiting and (left := end - time.monotonic()) > 0:
            for key, _ in selector.select(left):
                answered = key.fileobj
                selector.unregister(answered)
                path = waiting.pop(answered)  # type: ignore[call-overload]
                status = answered.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)  # type: ignore[union-attr]
                answered.close()  # type: ignore[union-attr]
                if status not in {0, errno.ECONNREFUSED}:
                    missing.append({**path, "why": os.strerror(status)})
    for link, path in waiting.items():
        link.close()
        missing.append({**path, "why": f"no answer within {seconds:g} s"})
    return missing


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _run(command: list[str], seconds: float) -> tuple[str, str, int] | None:
    """Return output, error output and exit status; None where the program is not there or does not end."""
    try:
        run = subprocess.run(
            command,
            check=False,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            text=True,
            errors="replace",
            env=os.environ | {"LC_ALL": "C"},
            timeout=seconds,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return run.stdout, run.stderr, run.returncode


def main() -> None:
    """Ansible's entry point."""
    from ansible.module_utils.basic import AnsibleModule

    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    module.exit_json(changed=False, **look(module.params))


if __name__ == "__main__":
    main()
