"""Starts HAProxy with the sockets that systemd holds open: ``haproxy_start.py PORT PROGRAM ARGUMENT…``.

haproxy.cfg asks for each socket by a name of its own, since their order differs from host to host: one that was added
by an upgrade is systemd's from the next boot on. PORT is that of plain text: its sockets are called ``EVENKEEL_FRONT``
and, of IPv6, ``EVENKEEL_FRONT6``, and those of another port ``EVENKEEL_TLS_<port>`` and ``EVENKEEL_TLS6_<port>``.
Written by evenkeel, role haproxy. Runs with the distribution's Python, 3.9 or newer.
"""

from __future__ import annotations

import os
import socket
import sys

# Where systemd's sockets begin.
_FIRST = 3


def name(family: int, port: int, plain: int) -> str:
    """Return what haproxy.cfg calls the socket of an address family and a port."""
    six = "6" if family == socket.AF_INET6 else ""
    return f"EVENKEEL_FRONT{six}" if port == plain else f"EVENKEEL_TLS{six}_{port}"


def named(count: int, plain: int, first: int = _FIRST) -> dict[str, str]:
    """Return HAProxy's word for each of the sockets, by name; raises OSError where one is none."""
    found = {}
    for number in range(first, first + count):
        # A copy: closing it leaves systemd's open.
        with socket.socket(fileno=os.dup(number)) as held:
            found[name(held.family, held.getsockname()[1], plain)] = f"fd@{number}"
    return found


def main(arguments: list[str]) -> None:
    """Become HAProxy."""
    plain, *command = arguments
    os.execve(command[0], command, {**os.environ, **named(int(os.environ.get("LISTEN_FDS", "0")), int(plain))})


if __name__ == "__main__":
    main(sys.argv[1:])
