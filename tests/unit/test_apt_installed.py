"""Whether apt would have anything to do, told from dpkg's and apt's own files."""

from __future__ import annotations

import pytest

from apt_installed import complete, parse_automatic, parse_installed

LISTED = """docker-ce\t5:29.8.2-1~debian.13~trixie\tinstalled
haproxy\t3.0.11-1\thalf-configured
grafana\t13.2.3\tinstalled
"""
STATES = """
Package: grafana
Architecture: amd64
Auto-Installed: 1

Package: docker-ce
Architecture: amd64
Auto-Installed: 0
"""
INSTALLED = {"docker-ce": "5:29.8.2-1~debian.13~trixie", "grafana": "13.2.3"}


def test_only_what_is_configured_is_installed() -> None:
    assert parse_installed(LISTED) == INSTALLED
    assert parse_installed("") == {}


def test_what_came_along_is_known() -> None:
    assert parse_automatic(STATES) == {"grafana"}
    assert parse_automatic("") == set()


@pytest.mark.parametrize(
    ("packages", "automatic", "wanted"),
    [
        (["docker-ce", "grafana"], set(), True),
        (["docker-ce=5:29.8.2*"], set(), True),
        (["docker-ce=5:29.8.2*", "grafana=13.2.3"], set(), True),
        (["docker-ce=5:29.9*"], set(), False),
        (["docker-ce", "haproxy"], set(), False),
        # apt would take it away together with what it came along with.
        (["grafana"], {"grafana"}, False),
        # A form that is left to apt.
        (["grafana/stable"], set(), False),
    ],
)
def test_complete_is_what_apt_would_leave_alone(packages: list[str], automatic: set[str], wanted: bool) -> None:
    assert complete(packages, INSTALLED, automatic) is wanted
