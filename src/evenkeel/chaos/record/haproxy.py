"""A balancer's statistics: from the CSV it serves to a sample, and from the file of samples back."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from evenkeel.chaos.record import run_folder
from evenkeel.errors import EvenkeelError

# The service of runs that name none: the guide's API. HAProxy's section carries a service's name.
GUIDE = "app"
_TEXTS = ("status", "check_status")
_SERVER_COUNTS = ("weight", "lastchg", "chkdown", "slim")
_COUNTS = (*_SERVER_COUNTS, "scur", "qcur", "stot", "wretr", "wredis", "econ", "eresp", "hrsp_5xx")
Row = Mapping[str, Any]


class Sample(NamedTuple):
    """What a balancer said when asked once.

    Attributes:
        at: when it was asked.
        seen: when it had answered, or was given up.
        balancer: its name.
        error: why there is no answer; empty where there is one.
        servers: by name, columns of the statistics.
        totals: of the backend section.
    """

    at: float
    seen: float
    balancer: str
    error: str
    servers: Mapping[str, Row]
    totals: Row


def parse(text: str, service: str) -> tuple[dict[str, Row], Row]:
    """Return (servers, totals) of a service's section in a ``/stats;csv``; raises ValueError where there is none."""
    if not text.startswith("# pxname,svname,"):
        raise ValueError("no statistics of HAProxy")
    servers: dict[str, Row] = {}
    totals: Row = {}
    for row in csv.DictReader(text.removeprefix("# ").splitlines()):
        if row["pxname"] != service or row["svname"] == "FRONTEND":
            continue
        kept: dict[str, Any] = {name: row.get(name) or "" for name in _TEXTS}
        kept |= {name: int(row[name]) for name in _COUNTS if row.get(name)}
        if row["svname"] == "BACKEND":
            totals = kept
        else:
            servers[row["svname"]] = kept
    if not servers:
        raise ValueError(f"no servers in the section {service}")
    return servers, totals


def read(folder: Path) -> list[Sample] | None:
    """Return the sampler's samples, or None where it never wrote any; raises EvenkeelError."""
    path = folder / run_folder.HAPROXY
    if not path.exists():
        return None
    try:
        return [
            Sample(
                float(line["at"]),
                float(line["at"]) + float(line["took"]),
                str(line["balancer"]),
                str(line.get("error", "")),
                line.get("servers", {}),
                line.get("totals", {}),
            )
            for line in run_folder.read_lines(path)
        ]
    except (KeyError, TypeError, ValueError):
        raise EvenkeelError(f"The file {path} has a line that is no sample.") from None


def rise(samples: list[Sample], column: str) -> int:
    """Return by how much a counter of the section rose over all balancers; a restart sets it back to 0."""
    before: dict[str, int] = {}
    total = 0
    for sample in samples:
        if column in sample.totals:
            now = int(sample.totals[column])
            earlier = before.get(sample.balancer, now)
            total += now - earlier if now >= earlier else now
            before[sample.balancer] = now
    return total
