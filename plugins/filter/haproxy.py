"""Filters about HAProxy's settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.community.general.plugins.filter.time import to_milliseconds


def haproxy_detection(settings: Mapping[str, Any], silence: str) -> int:
    """Return after how many milliseconds, at most, a silent server is DOWN.

    At worst it falls silent just after a check. Then a whole interval passes, and then checks that fail, each up to its
    time limit. That is the connection's for a host that is gone, and the check's for a process that accepts and never
    answers.

    Args:
        settings: the role's ``haproxy_check_*`` and ``haproxy_timeout_connect``, by name.
        silence: ``gone`` or ``hung``.

    Raises:
        AnsibleFilterError: another kind of silence.
    """

    def time(name: str) -> float:
        return float(to_milliseconds(settings[f"haproxy_{name}"]))

    if silence == "gone":
        # HAProxy gives a check's connection no longer than its interval.
        limit = min(time("timeout_connect"), time("check_interval"))
    elif silence == "hung":
        limit = time("check_timeout")
    else:
        raise AnsibleFilterError(f"haproxy_detection knows gone and hung, not {silence!r}.")
    fall = int(settings["haproxy_check_fall"])
    return int(time("check_interval") + (fall - 1) * time("check_fast_interval") + fall * limit)


class FilterModule:
    """What Ansible looks for in this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {"haproxy_detection": haproxy_detection}
