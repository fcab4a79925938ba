"""Filter that says why a container does not answer: what the engine, the kernel and the container itself say."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

# As the kernel writes it in /proc/<pid>/net/tcp.
_LISTENS = "0A"
_READ_ONLY = re.compile(r"read-only file ?system", re.IGNORECASE)
_PATH = re.compile(r"(?<![\w.])/[\w./@+-]+")


def container_words(said: str, lines: Iterable[str], service: Mapping[str, Any]) -> str:
    """Return what is known of a container that is not ready, a sentence a line; empty where nothing is.

    Args:
        said: ``docker inspect``'s state as JSON on its first line, then the kernel's tables of the sockets in it.
        lines: the container's last log lines.
        service: its description.
    """
    first, _, tables = said.partition("\n")
    try:
        state = json.loads(first)
    except ValueError:
        return ""
    return "\n".join([*_end(state), *_port(state, listening(tables), service), *_read_only(list(lines), service)])


def listening(tables: str) -> set[int]:
    """Return the ports on which something listens, from ``/proc/<pid>/net/tcp`` and ``tcp6``."""
    rows = (line.split() for line in tables.splitlines())
    return {int(row[1].rpartition(":")[2], 16) for row in rows if len(row) > 3 and row[3] == _LISTENS}


def _end(state: Mapping[str, Any]) -> list[str]:
    told = []
    if state.get("OOMKilled"):
        told.append("It used more memory than it may (memory), and the kernel killed it.")
    restarts = int(state.get("RestartCount") or 0)
    if restarts and state.get("Running") and not state.get("Restarting"):
        # The engine forgets how a process ended as soon as the next one runs.
        told.append(f"It ended, and was started again {restarts} times.")
    elif not state.get("Running") or restarts:
        times = f", and was started again {restarts} times" if restarts else ""
        told.append(f"It ended with exit code {state.get('ExitCode')}{times}.")
    if state.get("Error"):
        told.append(f"The engine says: {state['Error']}.")
    return told


def _port(state: Mapping[str, Any], ports: set[int], service: Mapping[str, Any]) -> list[str]:
    # The engine's own name service listens in there too, on a port that is high and another each time.
    meant = {port for port in ports if port < 32768}
    if not state.get("Running") or service["port"] in ports or state.get("RestartCount"):
        return []
    if not meant:
        return [f"Nothing in it listens on any port yet, port {service['port']} is expected."]
    return [f"It listens on port {', '.join(map(str, sorted(meant)))}, and not on {service['port']} (port)."]


def _read_only(lines: list[str], service: Mapping[str, Any]) -> list[str]:
    refused = [line for line in lines if _READ_ONLY.search(line)]
    if not refused or not service["read_only"]:
        return []
    paths = dict.fromkeys(path for line in refused for path in _PATH.findall(line))
    what = f"to {', '.join(paths)}" if paths else "somewhere"
    return [f"Its root is read-only (read_only), and it tried to write {what}: name that in tmpfs or volumes."]


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {"container_words": container_words}
