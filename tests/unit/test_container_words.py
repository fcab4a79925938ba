"""Why a container does not answer, in words."""

from __future__ import annotations

import json
from typing import Any

import pytest

from container import container_words, listening

# Port 5000 listens, 41000 is the engine's name service, and a connection comes from 8000.
TABLES = """  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:1388 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0
   1: 0B00007F:A028 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0
   2: 0100007F:1F40 0100007F:C000 01 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0
"""
RUNS = {"Running": True, "ExitCode": 0, "OOMKilled": False, "Error": "", "RestartCount": 0}


def words(state: dict[str, Any], *lines: str, tables: str = TABLES, read_only: bool = False) -> str:
    said = f"{json.dumps(RUNS | state)}\n{tables}"
    return container_words(said, lines, {"port": 8000, "read_only": read_only})


def test_ports_are_read_from_the_kernels_tables() -> None:
    assert listening(TABLES) == {5000, 41000}


@pytest.mark.parametrize(
    ("state", "wanted"),
    [
        ({}, "It listens on port 5000, and not on 8000 (port)."),
        ({"Running": False, "ExitCode": 3}, "It ended with exit code 3."),
        (
            {"Restarting": True, "ExitCode": 1, "RestartCount": 4},
            "It ended with exit code 1, and was started again 4 times.",
        ),
        # The next process runs already, so the code is no longer that of the one that ended.
        ({"ExitCode": 0, "RestartCount": 4}, "It ended, and was started again 4 times."),
        (
            {"Running": False, "OOMKilled": True, "ExitCode": 137},
            "It used more memory than it may (memory), and the kernel killed it.\nIt ended with exit code 137.",
        ),
        (
            {"Running": False, "ExitCode": 127, "Error": "exec: no such file"},
            "It ended with exit code 127.\nThe engine says: exec: no such file.",
        ),
    ],
)
def test_state_says_how_it_ended(state: dict[str, Any], wanted: str) -> None:
    assert words(state) == wanted


def test_port_that_is_right_needs_no_word() -> None:
    assert words({}, tables=TABLES.replace("1388", "1F40")) == ""
    assert words({}, tables="") == "Nothing in it listens on any port yet, port 8000 is expected."


def test_path_that_a_read_only_root_refused_is_named() -> None:
    line = "OSError: [Errno 30] Read-only file system: '/srv/cache/x.db'"
    found = words({"Running": False, "ExitCode": 1}, line, read_only=True)
    assert found.splitlines()[1] == (
        "Its root is read-only (read_only), and it tried to write to /srv/cache/x.db: name that in tmpfs or volumes."
    )
    # A host's own disk may be read-only, which is another matter.
    assert "read_only" not in words({}, line)


def test_container_that_is_gone_needs_no_word() -> None:
    assert container_words("", [], {"port": 1, "read_only": False}) == ""
    assert container_words("Error: No such object: backend_app", [], {"port": 1, "read_only": False}) == ""
