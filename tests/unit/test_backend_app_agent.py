"""The agent that tells balancers whether its host goes down."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from backend_app_agent import answer, listen


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    made = listen("127.0.0.1", 0)
    yield made
    made.close()


def asked(listener: socket.socket, leaving: Path) -> bytes:
    """Return what a balancer hears that says nothing itself, up to the end of the connection."""
    thread = threading.Thread(target=answer, args=(listener, str(leaving)))
    thread.start()
    with socket.create_connection(listener.getsockname()[:2], timeout=60) as connection:
        heard = b"".join(iter(lambda: connection.recv(100), b""))
    thread.join(60)
    return heard


def test_host_is_up_until_it_says_that_it_leaves(listener: socket.socket, tmp_path: Path) -> None:
    leaving = tmp_path / "leaving"
    assert asked(listener, leaving) == b"up\n"
    leaving.touch()
    # HAProxy takes `drain` for an operator's order, which its next `up` would not end.
    assert asked(listener, leaving) == b"down\n"
    leaving.unlink()
    assert asked(listener, leaving) == b"up\n"


def test_balancer_that_has_gone_ends_nothing(listener: socket.socket, tmp_path: Path) -> None:
    with socket.create_connection(listener.getsockname(), timeout=60) as connection:
        # Closed with a reset.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    answer(listener, str(tmp_path / "leaving"))
    assert asked(listener, tmp_path / "leaving") == b"up\n"


def test_address_may_come_late() -> None:
    # Of a network for documentation: this machine does not have it.
    listen("192.0.2.77", 0).close()


@pytest.mark.skipif(not Path("/proc/net/if_inet6").exists(), reason="this machine has no IPv6")
def test_it_listens_by_ipv6_too(tmp_path: Path) -> None:
    with listen("::1", 0) as listener:
        assert asked(listener, tmp_path / "leaving") == b"up\n"
    listen("2001:db8::77", 0).close()
