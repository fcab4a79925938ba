"""The one exception of the load generator."""

from __future__ import annotations


class LoadError(Exception):
    """Something the user can mend; its text is one sentence."""
