"""The shell that drops packets, with an iptables that keeps its rules in a file."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

# A machine without IPv6 has no rules for it.
IPV6 = Path("/proc/net/if_inet6").exists()
PACKETS = Path(__file__).resolve().parents[2] / "roles" / "chaos" / "files" / "packets"
# Keeps "TABLE CHAIN" for each rule that jumps, chain.TABLE for each chain with its rules; writes down every change.
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
  -N) [ ! -e "chain.$table" ] || exit 1; : >"chain.$table" ;;
  -A) shift 4; echo "$*" >>"chain.$table" ;;
  -F) : >"chain.$table" ;;
  -X) rm "chain.$table" ;;
esac
"""


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """Return the folder of a host's rules; both chains are there. Those of IPv6 are in a folder of their own."""
    (tmp_path / "six").mkdir()
    (tmp_path / "iptables").write_text(IPTABLES)
    (tmp_path / "ip6tables").write_text(IPTABLES.replace("\n", "\ncd six || exit 9\n", 1))
    for program in ("iptables", "ip6tables"):
        (tmp_path / program).chmod(0o755)
    for folder in (tmp_path, tmp_path / "six"):
        for table in ("raw", "mangle"):
            (folder / f"chain.{table}").touch()
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


def test_packets_are_matched_both_ways(host: Path) -> None:
    assert packets(host, "match", "! -i lo", "! -o lo", "-s 10.0.0.1 -m x", "-d 10.0.0.1 -m x") == 0
    assert (host / "chain.raw").read_text() == "! -i lo -j DROP\n-s 10.0.0.1 -m x -j DROP\n"
    assert (host / "chain.mangle").read_text() == "! -o lo -j DROP\n-d 10.0.0.1 -m x -j DROP\n"
    # Nothing vanishes yet, and what a run before has matched is forgotten.
    assert not (host / "rules").exists()
    assert packets(host, "match", "-s 10.0.0.2", "-d 10.0.0.2") == 0
    assert (host / "chain.raw").read_text() == "-s 10.0.0.2 -j DROP\n"


@pytest.mark.skipif(not IPV6, reason="this machine has no IPv6")
def test_packets_of_ipv6_are_matched_by_its_own_rules(host: Path) -> None:
    both, four, six = ["! -i lo", "! -o lo"], ["-s 10.0.0.1 -m x", "-d 10.0.0.1 -m x"], ["-s fd00::1", "-d fd00::1"]
    assert packets(host, "match", *both, *four, *six) == 0
    assert (host / "chain.raw").read_text() == "! -i lo -j DROP\n-s 10.0.0.1 -m x -j DROP\n"
    assert (host / "six/chain.raw").read_text() == "! -i lo -j DROP\n-s fd00::1 -j DROP\n"
    assert (host / "six/chain.mangle").read_text() == "! -o lo -j DROP\n-d fd00::1 -j DROP\n"
    assert packets(host, "hold") == 0
    assert (host / "six/rules").read_text() == "raw PREROUTING\nmangle POSTROUTING\n"
    assert packets(host, "clear") == 0
    assert (host / "six/rules").read_text() == ""
    assert not list(host.glob("six/chain.*"))


def test_host_without_a_packet_filter_is_told(host: Path) -> None:
    (host / "sh").symlink_to("/bin/sh")
    (host / "uname").symlink_to("/usr/bin/uname")
    (host / "iptables").unlink()
    (host / "ip6tables").unlink()
    run = subprocess.run(
        ["/bin/sh", PACKETS, "match"], cwd=host, env={"PATH": str(host)}, capture_output=True, text=True, check=False
    )
    assert run.returncode == 1
    assert run.stderr.startswith("iptables is not installed at ")


def test_stall_ends_each_time(host: Path) -> None:
    assert packets(host, "stall", "3", "0.01", "0.01") == 0
    assert (host / "log").read_text().split() == ["hold", "hold", "pass", "pass"] * 3


def test_stall_waits_for_the_moment_it_is_told(host: Path) -> None:
    at = time.time() + 10
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
