"""The one exception of the lab."""

from __future__ import annotations


class LabError(Exception):
    """Something the user can mend; its text is one sentence: what is wrong, where, how to mend it."""
