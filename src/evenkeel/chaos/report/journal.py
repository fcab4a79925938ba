"""The journal: everything known of a run, as one JSON object that all other reports are made of."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from evenkeel.chaos.analysis.events import Event, tell
from evenkeel.chaos.analysis.metrics import Figures, figure
from evenkeel.chaos.analysis.objectives import Objective, objectives, verdict
from evenkeel.chaos.record import haproxy
from evenkeel.chaos.record.recording import Evidence
from evenkeel.load import analysis

FORMAT = 1
_EXAMPLES = 20


@dataclass(frozen=True)
class Result:
    """A run judged: ``reasons`` say why it doesn't count, where it doesn't."""

    evidence: Evidence
    figures: Figures
    objectives: list[Objective]
    verdict: str
    reasons: tuple[str, ...]
    events: list[Event]
    balancer: Mapping[str, int]


def examine(evidence: Evidence) -> Result:
    """Judge a run."""
    figures = figure(evidence)
    found = objectives(evidence, figures)
    word, reasons = verdict(evidence, found)
    counters = {"retries": "wretr", "redispatches": "wredis", "5xx": "hrsp_5xx"}
    rises = {name: haproxy.rise(evidence.samples, column) for name, column in counters.items()}
    return Result(evidence, figures, found, word, reasons, tell(evidence, figures), rises)


def journal(result: Result) -> dict[str, Any]:
    """Return the journal; times are seconds from the fault, but for ``injected_at``."""
    evidence, figures = result.evidence, result.figures
    failed = analysis.failed(evidence.records)
    return {
        "journal": FORMAT,
        "verdict": result.verdict,
        "reasons": list(result.reasons),
        "fault": evidence.plan.fault,
        "target": evidence.plan.target,
        "injected_at": evidence.epoch,
        "injected": datetime.fromtimestamp(evidence.epoch, UTC).isoformat(timespec="milliseconds"),
        "objectives": [asdict(each) for each in result.objectives],
        "times": {
            "load_start": evidence.start,
            "load_stop": evidence.stop,
            "detected": figures.rotation.out,
            "recovered": None if figures.recover is None else figures.recover + figures.recover_base,
        },
        "run": dict(evidence.plan.given),
        "slo": asdict(evidence.plan.slo),
        "takes_out": evidence.plan.takes_out,
        "recover_from": evidence.plan.recover_from,
        "python": platform.python_version(),
        "marks": [mark._asdict() for mark in evidence.marks],
        "events": [event._asdict() for event in result.events],
        "figures": {name: value for name, value in asdict(figures).items() if name not in ("series", "rotation")}
        | {"rotation": figures.rotation._asdict()},
        "balancers": dict(result.balancer),
        "failed_requests": [each._asdict() for each in failed[:_EXAMPLES]],
        "generator": asdict(evidence.schedule),
        "series": asdict(figures.series),
        "prometheus": dict(evidence.prometheus),
    }


def as_json(content: Mapping[str, Any]) -> str:
    """Return the journal's text."""
    return json.dumps(content, indent=1, allow_nan=False) + "\n"
