"""What a run is asked to do, and the sentences for what it can't."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from evenkeel.errors import EvenkeelError

# 100 GET/s and 10 POST/s at a rate of 110. Some wait, so that a fault always finds requests in flight.
DEFAULT_MIX = (
    "GET /=10,GET /sleep/0/ok=40,GET /sleep/0.1/ok=10,GET /factorial/200=40,POST /factorial/200=5,POST /sleep/0.1/ok=5"
)
_ENTRY = re.compile(r"(GET|POST) (/\S*)=([0-9]{1,6})")


@dataclass(frozen=True)
class Share:
    """One kind of request and its weight among all."""

    method: str
    path: str
    weight: int


@dataclass(frozen=True)
class Settings:
    """One run.

    Attributes:
        url: scheme, host and port; the mix gives the paths.
        mix: what is sent; each share's weight is exact over every round of the mix.
        rate: requests per second; a serial run has none.
        duration: seconds of sending; None: until a signal.
        timeout: seconds from a request's intended time until it counts as failed.
        fresh: share of requests, 0 to 1, that get a connection of their own.
        seed: the same seed gives the same order.
        serial: one request at a time, each after the last one's end.
        verify: whether the server's certificate must be one that this machine trusts, for the asked host.
        headers: what every request carries besides, as (name, value); ``Host`` is the URL's host without it.
        max_lateness: seconds; see :func:`evenkeel.load.schedule_check.check_schedule`.
    """

    url: str
    mix: tuple[Share, ...]
    rate: float = 110
    duration: float | None = None
    timeout: float = 10
    fresh: float = 0.5
    seed: int = 1
    serial: bool = False
    max_lateness: float = 0.5
    headers: tuple[tuple[str, str], ...] = ()
    verify: bool = True

    @property
    def host(self) -> str:
        """The host that is asked for, by HTTP and by TLS: that of the header ``Host``, or else the URL's."""
        said = next((value for name, value in self.headers if name.lower() == "host"), "")
        return urlsplit(f"//{said}").hostname or str(urlsplit(self.url).hostname)

    def __post_init__(self) -> None:
        """Refuse what makes no sense; raises EvenkeelError."""
        parse_url(self.url)
        for name in ("rate", "duration", "timeout", "max_lateness"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise EvenkeelError(f"--{name.replace('_', '-')} must be a number above 0, not {value:g}.")
        if not 0 <= self.fresh <= 1:
            raise EvenkeelError(f"--fresh must be a share from 0 to 1, not {self.fresh:g}.")


def parse_header(text: str) -> tuple[str, str]:
    """Return (name, value) of ``NAME: VALUE``; raises EvenkeelError."""
    name, colon, value = text.partition(":")
    if not colon or not re.fullmatch(r"[A-Za-z0-9-]+", name) or not re.fullmatch(r"[\x20-\x7e]*", value):
        raise EvenkeelError(f"--header must look like 'NAME: VALUE', not {text!r}.")
    return name, value.strip()


def parse_url(text: str) -> str:
    """Return the base URL without a slash at its end; raises EvenkeelError."""
    sentence = f"The URL must look like http://host:port, without a path, not {text!r}."
    try:
        parts = urlsplit(text)
        # Reading the port is what checks it.
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        raise EvenkeelError(sentence) from None
    if not good or parts.path not in ("", "/") or parts.query or parts.fragment or "@" in parts.netloc:
        raise EvenkeelError(sentence)
    return f"{parts.scheme}://{parts.netloc}"


def parse_mix(texts: Sequence[str]) -> tuple[Share, ...]:
    """Return the shares that ``METHOD /path=weight,…`` names.

    Weights are reduced to the smallest with the same ratios, so that a round is short.

    Raises:
        EvenkeelError: an entry is none, or no weight is above 0.
    """
    shares = []
    for entry in ",".join(texts).split(","):
        found = _ENTRY.fullmatch(entry.strip())
        if not found:
            raise EvenkeelError(
                f"The mix's entry {entry.strip()!r} must look like 'GET /path=weight' or 'POST /path=weight'."
            )
        if int(found[3]):
            shares.append(Share(found[1], found[2], int(found[3])))
    if not shares:
        raise EvenkeelError("The mix needs at least one weight above 0.")
    divisor = math.gcd(*(share.weight for share in shares))
    return tuple(Share(share.method, share.path, share.weight // divisor) for share in shares)
