"""Commands on this machine, with root's rights where needed."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from evenkeel.errors import EvenkeelError


def say(text: str) -> None:
    """Tell the user what happens, at once."""
    print(f"lab: {text}", flush=True)


def as_root(command: Sequence[str]) -> list[str]:
    """Return ``command``, with sudo where this process is not root; raises EvenkeelError without root and sudo."""
    if os.geteuid() == 0:
        return list(command)
    if shutil.which("sudo") is None:
        raise EvenkeelError(
            "The lab needs root to set up containers, and there is no sudo: run make as root or install sudo."
        )
    return ["sudo", *command]


def run(command: Sequence[str], *, cwd: Path | None = None, timeout: float = 900, failure: str = "") -> str:
    """Run ``command`` and return its standard output.

    Args:
        command: the program and its arguments.
        cwd: the working folder.
        timeout: seconds until it is ended.
        failure: the sentence of the error; by default the command itself.

    Raises:
        EvenkeelError: it could not be started, took too long, or failed; with the last lines it printed.
    """
    what = failure or f"`{' '.join(command[:4])} …` failed"
    try:
        done = subprocess.run(
            command, cwd=cwd, timeout=timeout, check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL
        )
    except FileNotFoundError:
        raise EvenkeelError(f"{what}: there is no program `{command[0]}` on this machine.") from None
    except subprocess.TimeoutExpired:
        raise EvenkeelError(f"{what}: it took more than {timeout:.0f} s.") from None
    if done.returncode != 0:
        last = "\n".join((done.stderr.strip() or done.stdout.strip()).splitlines()[-15:])
        raise EvenkeelError(f"{what} (exit code {done.returncode}):\n{last}")
    return done.stdout


def install(program: str, *packages: str) -> None:
    """Install Debian's or Ubuntu's ``packages`` where a ``program`` is missing; raises EvenkeelError if that fails."""
    if shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"):
        return
    names = " and ".join(packages)
    missing = "which is missing here" if len(packages) == 1 else "which are missing here"
    if shutil.which("apt-get") is None:
        raise EvenkeelError(f"`{program}` is missing and this machine has no apt-get: install {names} and try again.")
    say(f"installing {names}, {missing}")
    environment = ["env", "DEBIAN_FRONTEND=noninteractive"]
    run(as_root([*environment, "apt-get", "update", "-q"]), failure="Reading the package lists failed")
    run(
        as_root([*environment, "apt-get", "install", "-qy", "--no-install-recommends", *packages]),
        failure=f"Installing {names} failed",
    )
