"""A run's marks in Grafana: the fault as a span of time, detection and recovery as moments."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import requests

from evenkeel.chaos.record import run_folder
from evenkeel.errors import EvenkeelError
from evenkeel.web import session

# The dashboard shows what carries it.
TAG = "fault"
_TIMEOUT = 10.0


def describe(journal: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what Grafana is to show, as its API takes it (times in milliseconds since the epoch)."""

    def moment(seconds: float) -> int:
        return round((float(journal["injected_at"]) + seconds) * 1000)

    what = f"{journal['fault']} at {journal['target']}"
    times = journal["times"]
    undone = max((mark["at"] for mark in journal["marks"] if mark["name"] == "undone"), default=None)
    over = undone if undone is not None else times["recovered"]
    found: list[dict[str, Any]] = [{"time": moment(0), "tags": [TAG], "text": f"Fault: {what} ({journal['verdict']})"}]
    if over is not None and over > 0:
        found[0]["timeEnd"] = moment(over)
    for name, text in (("detected", "Detected"), ("recovered", "Recovered")):
        if times[name] is not None:
            found.append({"time": moment(times[name]), "tags": [TAG], "text": f"{text}: {what}"})
    return found


def annotate(folder: Path, url: str, password: str) -> int:
    """Post a judged run's annotations and return how many; raises EvenkeelError where Grafana takes them not."""
    wanted = describe(run_folder.read_object(folder / run_folder.JOURNAL))
    try:
        for each in wanted:
            answer = session().post(
                f"{url.rstrip('/')}/api/annotations", json=each, auth=("admin", password), timeout=_TIMEOUT
            )
            if answer.status_code != requests.codes.ok:
                raise EvenkeelError(f"Grafana at {url} refuses annotations with status {answer.status_code}.")
    except requests.RequestException:
        raise EvenkeelError(f"Grafana at {url} gives no answer.") from None
    return len(wanted)
