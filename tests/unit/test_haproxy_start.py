"""HAProxy gets each socket of systemd's by a name, in whichever order they come."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import haproxy_start
import pytest

START = Path(haproxy_start.__file__)


def test_sockets_are_called_by_family_and_port() -> None:
    calls = [(socket.AF_INET, 80), (socket.AF_INET6, 80), (socket.AF_INET, 443), (socket.AF_INET6, 443)]
    assert [haproxy_start.name(family, port, 80) for family, port in calls] == [
        "EVENKEEL_FRONT",
        "EVENKEEL_FRONT6",
        "EVENKEEL_TLS_443",
        "EVENKEEL_TLS6_443",
    ]


@pytest.mark.skipif(not Path("/proc/net/if_inet6").exists(), reason="this machine has no IPv6")
def test_program_is_started_with_their_names() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as plain,
        socket.create_server(("::1", 0), family=socket.AF_INET6) as six,
    ):
        port, other = plain.getsockname()[1], six.getsockname()[1]
        first, second = sorted([plain.fileno(), six.fileno()])
        assert haproxy_start.named(0, port) == {}
        found = haproxy_start.named(1, port, plain.fileno()) | haproxy_start.named(1, port, six.fileno())
        assert found == {"EVENKEEL_FRONT": f"fd@{plain.fileno()}", f"EVENKEEL_TLS6_{other}": f"fd@{six.fileno()}"}
        # They are still open.
        assert os.fstat(first)
        assert os.fstat(second)


def test_without_sockets_the_program_opens_them_itself() -> None:
    command = [sys.executable, str(START), "80", sys.executable, "-c", "import os; print(*os.environ)"]
    run = subprocess.run(command, env={}, check=True, capture_output=True, text=True)
    assert "EVENKEEL" not in run.stdout
