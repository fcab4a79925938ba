"""The one exception of the chaos package."""

from __future__ import annotations


class ChaosError(Exception):
    """Something the user can mend; its text is one sentence."""
