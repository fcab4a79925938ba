"""The objectives a run is judged by: data, with a default for each."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields

from evenkeel.errors import EvenkeelError


@dataclass(frozen=True)
class Slo:
    """The steady-state hypothesis in numbers (the playbook's ``chaos_slo``).

    Attributes:
        failed_get: how many GETs may fail in the whole run.
        failed_post: how many POSTs may fail that were not in flight when the fault struck.
        longest_gap: seconds without a successful answer.
        rps_floor: share, 0 to 1, of the answers due that must come in every second.
        p99: seconds, of the requests that met the fault.
        detect: seconds until the balancers have taken the target out.
        recover: seconds until the target is in rotation and answers again.
        share_tolerance: how far a backend's share, 0 to 1, may be from an even one.
    """

    failed_get: float = 0
    failed_post: float = 0
    longest_gap: float = 1.0
    rps_floor: float = 0.95
    p99: float = 1.0
    detect: float = 3.0
    recover: float = 60.0
    share_tolerance: float = 0.1


def parse(values: object) -> Slo:
    """Return the objectives; what is missing has its default.

    Raises:
        EvenkeelError: not a mapping, an unknown name, or no number of 0 or more (its text, from ``-e``, is one).
    """
    if not isinstance(values, Mapping):
        raise EvenkeelError("The objectives (slo) must be a mapping of names to numbers.")
    known = [field.name for field in fields(Slo)]
    found = {}
    for name, value in values.items():
        if name not in known:
            raise EvenkeelError(f"There is no objective {name!r}: there are {', '.join(known)}.")
        try:
            number = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not (math.isfinite(number) and number >= 0):
            raise EvenkeelError(f"The objective {name} must be a number of 0 or more, not {value!r}.")
        found[name] = number
    return Slo(**found)
