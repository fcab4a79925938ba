"""The Docker engine of this machine: found, or installed and started."""

from __future__ import annotations

import functools
import os
import subprocess
import time
from pathlib import Path

from evenkeel.errors import EvenkeelError
from evenkeel.lab.system import as_root, install, run, say

LOG = Path("/var/log/evenkeel-dockerd.log")
_START_SECONDS = 60
# Images of base, host and mirror, then per host the engine, an application image and logs; measured, and rounded up.
_SPARE_BYTES = 3_000_000_000
_HOST_BYTES = 900_000_000
# What systemd, its bus and the engine of a host take of the inotify instances that the kernel has for all of root's.
_HOST_INSTANCES = 7
INSTANCES = Path("/proc/sys/fs/inotify/max_user_instances")


def docker(*arguments: str, timeout: float = 900, failure: str = "") -> str:
    """Run the Docker client and return what it prints; raises EvenkeelError where it fails."""
    return run([*client(), *arguments], timeout=timeout, failure=failure)


def succeeds(*arguments: str) -> bool:
    """Tell whether the Docker client's command succeeds."""
    try:
        docker(*arguments, timeout=60)
    except EvenkeelError:
        return False
    return True


def ensure_engine() -> None:
    """Find an engine that answers, else install and start one; raises EvenkeelError where none can be had."""
    if answers():
        return
    # Before the first change: without root's rights nothing below can work.
    as_root([])
    install("dockerd", "docker.io")
    install("iptables", "iptables")
    if Path("/run/systemd/system").is_dir():
        say("no Docker engine answers: starting docker.service")
        run(as_root(["systemctl", "start", "docker"]))
    elif not _running():
        say(f"no Docker engine answers and there is no systemd here: starting dockerd (its log: {LOG})")
        _spawn()
    deadline = time.monotonic() + _START_SECONDS
    while not _answers(as_root(["docker"])):
        if time.monotonic() > deadline:
            raise EvenkeelError(
                f"The Docker engine did not answer within {_START_SECONDS} s: see {LOG} or its journal."
            )
        time.sleep(0.5)


def answers() -> bool:
    """Tell whether an engine answers this user, or root through sudo."""
    return _answers(["docker"]) or (os.geteuid() != 0 and _answers(as_root(["docker"])))


def check_disk(hosts: int) -> None:
    """Refuse to begin what would fill the engine's disk; raises EvenkeelError with both numbers."""
    root = docker("info", "--format", "{{.DockerRootDir}}").strip()
    needed = _SPARE_BYTES + hosts * _HOST_BYTES
    line = run(as_root(["df", "--output=avail", "--block-size=1", root])).split()[-1]
    if int(line) < needed:
        raise EvenkeelError(
            f"{hosts} hosts need about {needed / 1e9:.0f} GB and {root} has {int(line) / 1e9:.1f} GB free: make room "
            "(docker system prune), or choose fewer BACKENDS."
        )


def check_instances(hosts: int) -> None:
    """Refuse to begin more hosts than the kernel's inotify has room for; raises EvenkeelError with the mend.

    Without it the last hosts' systemd would say "Too many open files", and never get up.
    """
    if not INSTANCES.exists():
        return
    most = int(INSTANCES.read_text())
    found = "find /proc -maxdepth 3 -user 0 -lname anon_inode:inotify 2>/dev/null | wc -l"
    taken, needed = int(run(as_root(["sh", "-c", found]))), hosts * _HOST_INSTANCES
    if taken + needed > most:
        raise EvenkeelError(
            f"{hosts} hosts need about {needed} inotify instances, and of this kernel's {most} for root {taken} are "
            f"taken: allow more (sudo sysctl fs.inotify.max_user_instances={max(1024, 2 * (taken + needed))}), "
            "or choose fewer BACKENDS."
        )


@functools.cache
def client() -> list[str]:
    """The Docker client's command, through sudo where the engine's socket is not this user's."""
    if _answers(["docker"]):
        return ["docker"]
    return as_root(["docker"])


def _answers(client: list[str]) -> bool:
    try:
        return subprocess.run([*client, "version"], check=False, capture_output=True, timeout=30).returncode == 0
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return False


def _running() -> bool:
    """Tell whether this machine's dockerd runs already: one that is only slow to answer must not get a rival."""
    own = Path("/proc/self/ns/pid").readlink()
    for comm in Path("/proc").glob("[0-9]*/comm"):
        try:
            # The engines inside a lab's hosts are seen from here too; they live in other namespaces.
            if comm.read_text().strip() == "dockerd" and (comm.parent / "ns" / "pid").readlink() == own:
                return True
        except OSError:
            continue
    return False


def _spawn() -> None:
    # A session of its own: Ctrl-C at make, or its end, leaves the engine running.
    command = f"exec dockerd >>{LOG} 2>&1"
    subprocess.Popen(
        as_root(["sh", "-c", command]), start_new_session=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
