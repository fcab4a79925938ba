"""Tells balancers whether this host is about to go down: HAProxy's agent check.

Answers every connection with one word and closes it: ``down`` while the file is there that announces a shutdown
(backend_app_announce.service), ``up`` otherwise. Runs with the distribution's Python, 3.9 or newer.
"""

from __future__ import annotations

import socket
import sys
from pathlib import Path

# So many balancers may ask at the same moment.
_BACKLOG = 128
# Linux has them, and Python's module does not name them.
_IP_FREEBIND = 15
_IPV6_FREEBIND = 78


def word(leaving: str) -> bytes:
    """Return what a balancer is told.

    Args:
        leaving: the path of the file that announces a shutdown.
    """
    return b"down\n" if Path(leaving).exists() else b"up\n"


def listen(address: str, port: int) -> socket.socket:
    """Return a socket that listens at an IPv4 or IPv6 address, also before the host has that address."""
    six = ":" in address
    listener = socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if six:
        listener.setsockopt(socket.IPPROTO_IPV6, _IPV6_FREEBIND, 1)
    else:
        listener.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
    listener.bind((address, port))
    listener.listen(_BACKLOG)
    return listener


def answer(listener: socket.socket, leaving: str) -> None:
    """Answer the next connection; the word fits into the kernel's buffer, so nobody is waited for."""
    connection, _ = listener.accept()
    with connection:
        connection.setblocking(False)
        try:
            connection.send(word(leaving))
        except OSError:
            # The balancer has gone; it asks again.
            return


def main() -> None:
    """Answer until the process is stopped."""
    address, port, leaving = sys.argv[1:]
    listener = listen(address, int(port))
    while True:
        answer(listener, leaving)


if __name__ == "__main__":
    main()
