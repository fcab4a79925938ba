"""HAProxy's runtime socket, for the modules and programs that ask it. Needs the standard library only."""

from __future__ import annotations

import socket
from collections.abc import Callable

Ask = Callable[[str], str]
_SECONDS = 10


def runtime(path: str) -> Ask:
    """Return who asks the runtime socket at a path: a command and its answer on each connection.

    A command raises FileNotFoundError or ConnectionRefusedError where no HAProxy runs, and another OSError where it
    does not answer.
    """

    def ask(command: str) -> str:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(_SECONDS)
            connection.connect(path)
            connection.sendall(f"{command}\n".encode())
            return b"".join(iter(lambda: connection.recv(65536), b"")).decode()

    return ask
