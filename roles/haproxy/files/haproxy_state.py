"""Saves what HAProxy knows of its servers for the process that a reload starts: ``haproxy-state SOCKET CONFIG FILE``.

A server that was DOWN or drained before a reload is so after it. A server whose address or port differs from the new
configuration is left out: HAProxy takes the saved ones for more recent than its own configuration, and would go on
asking the old place. Written by evenkeel, role haproxy. Runs with the distribution's Python, 3.9 or newer.
"""

from __future__ import annotations

import re
import socket
import sys
from collections.abc import Iterable
from pathlib import Path

_SERVER = re.compile(r"^\s+server\s+(\S+)\s+(\S+):(\d+)(?:\s|$)")
_SECTION = re.compile(r"^(?:backend|listen)\s+(\S+)")
_SECONDS = 10


def configured(config: str) -> dict[tuple[str, str], tuple[str, str]]:
    """Return address and port by backend and server, as ``haproxy.cfg`` names them."""
    places: dict[tuple[str, str], tuple[str, str]] = {}
    section = ""
    for line in config.splitlines():
        if found := _SECTION.match(line):
            section = found[1]
        elif line[:1].strip():
            # Another kind of section, unless it is a comment or a condition at the line's beginning.
            section = section if line.startswith(("#", ".")) else ""
        elif section and (found := _SERVER.match(line)):
            # With IPv6 in brackets, which HAProxy's answers are without.
            places[section, found[1]] = (found[2].strip("[]"), found[3])
    return places


def kept(state: str, places: dict[tuple[str, str], tuple[str, str]]) -> str:
    """Return the answer to ``show servers state`` without the servers that have moved, or are gone.

    Raises:
        ValueError: that is no such answer.
    """
    lines = state.splitlines()
    header = next((line for line in lines if line.startswith("# ")), None)
    if header is None:
        raise ValueError(state.strip() or "nothing")
    columns = header[2:].split()

    def stays(line: str) -> bool:
        fields = line.split()
        if len(fields) < len(columns):
            # The format's version, the header, the empty line at the end.
            return True
        row = dict(zip(columns, fields, strict=False))
        return places.get((row["be_name"], row["srv_name"])) == (row["srv_addr"], row["srv_port"])

    return "".join(f"{line}\n" for line in lines if line.startswith("#") or stays(line))


def ask(path: str, command: str) -> str:
    """Return HAProxy's answer to a command on its runtime socket; raises OSError."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(_SECONDS)
        connection.connect(path)
        connection.sendall(f"{command}\n".encode())
        chunks: Iterable[bytes] = iter(lambda: connection.recv(65536), b"")
        return b"".join(chunks).decode()


def main(arguments: list[str]) -> None:
    """Save the state. It is in its place whole, or the former one is."""
    path, config, target = arguments
    text = kept(ask(path, "show servers state"), configured(Path(config).read_text()))
    draft = Path(f"{target}.new")
    draft.write_text(text)
    draft.replace(target)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (OSError, ValueError) as error:
        sys.exit(f"haproxy-state: the state of the servers was not saved: {error}")
