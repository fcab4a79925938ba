"""The project's one exception."""

from __future__ import annotations


class EvenkeelError(Exception):
    """Something the user can mend. Its text is one sentence: what is wrong, where, and how to mend it."""
