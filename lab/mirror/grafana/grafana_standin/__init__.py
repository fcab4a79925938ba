"""A stand-in for Grafana, for machines where Grafana's package can't be had.

It exists to test the role `grafana` there: same files, same paths, same commands, same answers to the questions that
the role and the tests ask. It draws nothing, reads its configuration more strictly than Grafana, and says what it is.
"""

from __future__ import annotations

# The package's version too. `~` sorts before the release itself, so that the real one replaces it.
VERSION = "13.0.0~standin"


class StandinError(Exception):
    """A configuration that is refused; its text says where and why."""
