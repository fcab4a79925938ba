"""What a reload carries over: states of servers that stay where they are, and of no others."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import haproxy_state
import pytest

CONFIG = """
defaults
    timeout connect 1s

frontend statistics
    server not-a-server 10.0.0.9:1

backend app
    default-server check
.if version_atleast(2.9)
    option redispatch
.endif
# A comment does not end the section.
    server one 10.0.0.1:80 tcp-ut 5s
    server two 10.0.0.2:8080 tcp-ut 5s
"""
HEAD = "1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_port\n"
ONE, TWO, GONE = "3 app 1 one 10.0.0.1 0 0 80\n", "3 app 2 two 10.0.0.2 2 8 80\n", "3 app 3 three 10.0.0.3 2 0 80\n"


def test_places_are_those_of_the_backends() -> None:
    assert haproxy_state.configured(CONFIG) == {
        ("app", "one"): ("10.0.0.1", "80"),
        ("app", "two"): ("10.0.0.2", "8080"),
    }


def test_ipv6_is_compared_without_its_brackets() -> None:
    places = haproxy_state.configured("backend app\n    server one [2001:db8::1]:80 tcp-ut 5s\n")
    assert places == {("app", "one"): ("2001:db8::1", "80")}
    line = "3 app 1 one 2001:db8::1 0 0 80\n"
    assert haproxy_state.kept(HEAD + line, places) == HEAD + line


def test_servers_that_moved_or_are_gone_are_left_out() -> None:
    kept = haproxy_state.kept(HEAD + ONE + TWO + GONE + "\n", haproxy_state.configured(CONFIG))
    assert kept == HEAD + ONE + "\n"


@pytest.mark.parametrize("answer", ["", "Permission denied\n"])
def test_what_is_no_state_is_an_error(answer: str) -> None:
    with pytest.raises(ValueError, match=answer.strip() or "nothing"):
        haproxy_state.kept(answer, {})


def test_state_is_asked_for_and_written_whole(tmp_path: Path) -> None:
    config, target = tmp_path / "haproxy.cfg", tmp_path / "server-state"
    config.write_text(CONFIG)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(tmp_path / "admin.sock"))
    listener.listen()

    def answer() -> None:
        connection, _ = listener.accept()
        assert connection.recv(100) == b"show servers state\n"
        connection.sendall((HEAD + ONE).encode())
        connection.close()

    thread = threading.Thread(target=answer)
    thread.start()
    haproxy_state.main([str(tmp_path / "admin.sock"), str(config), str(target)])
    thread.join()
    listener.close()
    assert target.read_text() == HEAD + ONE
    assert sorted(path.name for path in tmp_path.iterdir()) == ["admin.sock", "haproxy.cfg", "server-state"]
