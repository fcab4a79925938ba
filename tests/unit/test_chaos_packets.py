"""The shell that drops packets, with an iptables that keeps its rules in a file."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

PACKETS = Path(__file__).resolve().parents[2] / "roles" / "chaos" / "files" / "packets"
# Keeps "TABLE CHAIN" for each rule that jumps, and TABLE:CHAIN for each chain; writes down every change.
IPTABLES = """#!/bin/sh
shift
[ "$1" = -t ] || exit 9
table=$2 action=$3 chain=$4
[ ! -e broken ] || exit 4
case $action in
  -I) echo "$table $chain" >>rules; echo hold >>log ;;
  -C) grep -qxs "$table $chain" rules ;;
  -D) sed -i "0,/^$table $chain$/{/^$table $chain$/d}" rules; echo pass >>log ;;
  -S) [ ! -e "chain.$table" ] || echo "-N evenkeel-chaos" ;;
  -F) ;;
  -X) rm "chain.$table" ;;
esac
"""


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """Return the folder of a host's rules; both chains are there."""
    (tmp_path / "iptables").write_text(IPTABLES)
    (tmp_path / "iptables").chmod(0o755)
    for table in ("raw", "mangle"):
        (tmp_path / f"chain.{table}").touch()
    return tmp_path


def packets(host: Path, *arguments: str) -> int:
    environment = os.environ | {"PATH": f"{host}:{os.environ['PATH']}"}
    return subprocess.run(["sh", PACKETS, *arguments], cwd=host, env=environment, check=False, timeout=60).returncode


def test_held_packets_pass_again(host: Path) -> None:
    assert packets(host, "hold") == 0
    assert (host / "rules").read_text() == "raw PREROUTING\nmangle POSTROUTING\n"
    # Twice does no harm, and one that was held twice passes as well.
    assert packets(host, "hold") == packets(host, "pass") == packets(host, "pass") == 0
    assert (host / "rules").read_text() == ""


def test_stall_ends_each_time(host: Path) -> None:
    assert packets(host, "stall", "3", "0.01", "0.01") == 0
    assert (host / "log").read_text().split() == ["hold", "hold", "pass", "pass"] * 3


def test_stall_waits_for_the_moment_it_is_told(host: Path) -> None:
    at = time.time() + 1
    (host / "at").write_text(f"{at}\n")
    assert packets(host, "stall", "1", "0.01", "0.01", "at") == 0
    assert time.time() > at
    assert (host / "log").read_text().split() == ["hold", "hold", "pass", "pass"]


def test_stall_that_is_late_does_not_happen(host: Path) -> None:
    (host / "at").write_text("1000000000.5\n")
    assert packets(host, "stall", "1", "0.01", "0.01", "at") != 0
    assert not (host / "log").exists()


def test_nothing_is_left(host: Path) -> None:
    packets(host, "hold")
    assert packets(host, "clear") == packets(host, "clear") == 0
    assert (host / "rules").read_text() == ""
    assert not list(host.glob("chain.*"))


def test_what_can_not_be_looked_at_is_not_taken_for_gone(host: Path) -> None:
    (host / "broken").touch()
    assert packets(host, "clear") != 0
