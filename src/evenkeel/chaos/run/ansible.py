"""The ansible-playbook that this process was started by, as the kernel knows it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from evenkeel.errors import EvenkeelError

_NAME = "ansible-playbook"
_PROC = Path("/proc")


def _parent(number: int) -> int:
    # The second field, the name, is in brackets and may hold anything.
    return int((_PROC / str(number) / "stat").read_text().rpartition(")")[2].split()[1])


def _command(number: int) -> list[str]:
    return (_PROC / str(number) / "cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]


def is_playbook(command: Sequence[str]) -> bool:
    """Tell whether a command line is that of ansible-playbook, its interpreter before it or not."""
    return any(Path(word).name == _NAME for word in command[:2])


def outermost(number: int) -> int:
    """Return the process id of the ansible-playbook around the process ``number``.

    Ansible's workers are forks of it and look the same: it is the outermost of them.

    Raises:
        EvenkeelError: there is none.
    """
    found = 0
    try:
        while number > 1:
            if is_playbook(_command(number)):
                found = number
            elif found:
                break
            number = _parent(number)
    except (OSError, ValueError, IndexError):
        found = 0
    if not found:
        raise EvenkeelError("This command is for the playbook chaos.yml: no ansible-playbook has started it.")
    return found


def called(number: int) -> tuple[list[str], Path]:
    """Return (command line, working directory) of a process; raises EvenkeelError where it has ended."""
    try:
        return _command(number), (_PROC / str(number) / "cwd").readlink()
    except OSError:
        raise EvenkeelError(f"The process {number} has ended.") from None


def same_with(command: Sequence[str], playbook: str, other: str) -> list[str]:
    """Return the same command line for another playbook beside the one it names; empty where it names it not."""
    if not any(Path(word).name == playbook for word in command):
        return []
    return [str(Path(word).with_name(other)) if Path(word).name == playbook else word for word in command]
