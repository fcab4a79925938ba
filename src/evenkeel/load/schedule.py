"""What is sent when: a pure function of the settings."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from typing import NamedTuple

from evenkeel.load.settings import Settings


class Scheduled(NamedTuple):
    """A request to send ``at`` seconds after the start; ``fresh``: on a connection of its own."""

    at: float
    method: str
    path: str
    fresh: bool


def schedule(settings: Settings) -> Iterator[Scheduled]:
    """Yield the requests without end, in order.

    Each round of the mix is shuffled: an even pattern could fall in step with a balancer's round robin, and then one
    backend would get all the POSTs.
    """
    order = random.Random(settings.seed)
    mix = [(share.method, share.path) for share in settings.mix for _ in range(share.weight)]
    number = 0
    while True:
        order.shuffle(mix)
        for method, path in mix:
            # Multiplied, not added up: the schedule must not drift.
            yield Scheduled(number / settings.rate, method, path, order.random() < settings.fresh)
            number += 1


def offered(rate: float, seconds: float) -> int:
    """Return how many requests the schedule holds before ``seconds``."""
    number = math.ceil(seconds * rate)
    # The product's rounding may be off by one where the quotient of schedule() decides.
    while number and (number - 1) / rate >= seconds:
        number -= 1
    while number / rate < seconds:
        number += 1
    return number
