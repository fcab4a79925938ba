"""Filter that fits the role's rules, made for a scrape a second, to how often Prometheus and the CPU monitors work."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604_800, "y": 31_536_000}
# Seconds that are compared with something, and not a window or a wait.
_SCRAPE = re.compile(r"(scrape_duration_seconds\[\w+\]\) > )([\d.]+)")
_PUSH = re.compile(r"(push_time_seconds\{[^}]*\} [<>] -?)([\d.]+)")


def prometheus_seconds(text: str) -> float:
    """Return the seconds of a time as Prometheus writes it, such as ``1m30s``; 0 where it is none."""
    return sum(int(number) * _SECONDS[unit] for number, unit in re.findall(r"(\d+)(ms|[smhdwy])", str(text)))


def rules_fitted(rules: str, scrape: float, push: float = 1) -> str:
    """Return rules whose windows, waits and limits are as many times longer as the time between two scrapes is.

    Args:
        rules: a rule file, as text, made for a scrape, an evaluation and a push a second.
        scrape: seconds between two scrapes or two evaluations, whichever is longer; below 1 counts as 1.
        push: seconds between two pushes of the CPU monitors, likewise.
    """
    slower = max(1.0, float(scrape))
    # What is pushed is seen when it is scraped.
    pushed = max(slower, float(push))

    def longer(times: float) -> Callable[[re.Match[str]], str]:
        return lambda found: f"{found[1]}{float(found[2]) * times:g}"

    fitted = re.sub(r"(\[|\bfor: )(\d+)(?=s\b)", lambda found: f"{found[1]}{round(int(found[2]) * slower)}", rules)
    return _PUSH.sub(longer(pushed), _SCRAPE.sub(longer(slower), fitted))


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {"prometheus_seconds": prometheus_seconds, "rules_fitted": rules_fitted}
