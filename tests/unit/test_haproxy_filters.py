"""How long HAProxy's checks take to notice a server that falls silent."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleFilterError

from haproxy import haproxy_claims, haproxy_detection, haproxy_milliseconds

ROLES = Path(__file__).resolve().parents[2] / "roles"
DEFAULTS: dict[str, Any] = yaml.safe_load((ROLES / "haproxy" / "defaults" / "main.yml").read_text())


@pytest.mark.parametrize(
    ("silence", "change", "milliseconds"),
    [
        # An interval, three quick ones, four time limits.
        ("gone", {}, 500 + 3 * 600 + 4 * 400),
        ("hung", {}, 500 + 3 * 600 + 4 * 2000),
        ("gone", {"haproxy_check_interval": "300ms"}, 300 + 3 * 600 + 4 * 300),
        ("gone", {"haproxy_timeout_connect": "200000us", "haproxy_check_interval": "1"}, 1 + 3 * 600 + 4 * 1),
        ("hung", {"haproxy_check_fall": "2", "haproxy_check_timeout": "1m"}, 500 + 600 + 2 * 60_000),
    ],
)
def test_time_follows_from_the_settings(silence: str, change: dict[str, str], milliseconds: int) -> None:
    assert haproxy_detection([DEFAULTS | change], silence) == milliseconds
    # The slowest balancer counts, and what it does not set is the role's default.
    quick = {"haproxy_check_interval": "1ms", "haproxy_check_fast_interval": "1ms", "haproxy_check_timeout": "1ms"}
    assert haproxy_detection([quick, change], silence, DEFAULTS) == milliseconds


@pytest.mark.parametrize("time", ["", "2 s", "1.5s", "-1s", "soon"])
def test_what_is_no_time_is_one_sentence(time: str) -> None:
    with pytest.raises(AnsibleFilterError, match="is no time for HAProxy: write a number and us, ms, s, m, h or d"):
        haproxy_milliseconds(time)


def test_unknown_silence_is_an_error() -> None:
    with pytest.raises(AnsibleFilterError, match="knows gone and hung, not 'dead'"):
        haproxy_detection([DEFAULTS], "dead")


@pytest.mark.parametrize(("name", "silence"), [("chaos_detect_seconds", "gone"), ("chaos_detect_hung_seconds", "hung")])
def test_chaos_expects_what_the_defaults_take(name: str, silence: str) -> None:
    default = yaml.safe_load((ROLES / "chaos" / "defaults" / "main.yml").read_text())[name]
    (seconds,) = re.findall(r"default\((\d+)\)", default)
    assert 1500 <= 1000 * int(seconds) - haproxy_detection([DEFAULTS], silence) < 2500


def test_front_door_claims_each_address_by_itself() -> None:
    claims = haproxy_claims(["0.0.0.0", "::"], {"haproxy_bind_port": 80})
    assert [(each["address"], each["port"], each["setting"], bool(each["without_ipv6"])) for each in claims] == [
        ("0.0.0.0", 80, "haproxy_bind_port", False),
        ("::", 80, "haproxy_bind_port", True),
    ]
