"""The journal: everything known of a run, as one JSON object that all other reports are made of."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from evenkeel.chaos.analysis.verdict import Result
from evenkeel.load import analysis

FORMAT = 2
_EXAMPLES = 20


def journal(result: Result) -> dict[str, Any]:
    """Return the journal; times are seconds from the fault, but for ``injected_at``."""
    recording, metrics = result.recording, result.metrics
    failed = analysis.failed(recording.records)
    return {
        "journal": FORMAT,
        "verdict": result.verdict,
        "reasons": list(result.reasons),
        "fault": recording.plan.fault,
        "target": recording.plan.target,
        "service": recording.plan.service,
        "injected_at": recording.epoch,
        "injected": datetime.fromtimestamp(recording.epoch, UTC).isoformat(timespec="milliseconds"),
        "objectives": [asdict(each) for each in result.objectives],
        "times": {
            "load_start": recording.start,
            "load_stop": recording.stop,
            "detected": metrics.rotation.out,
            "recovered": None if metrics.recover is None else metrics.recover + metrics.recover_base,
        },
        "run": dict(recording.plan.given),
        "slo": asdict(recording.plan.slo),
        "takes_out": recording.plan.takes_out,
        "recover_from": recording.plan.recover_from,
        "python": platform.python_version(),
        "marks": [mark._asdict() for mark in recording.marks],
        "events": [event._asdict() for event in result.events],
        "figures": {name: value for name, value in asdict(metrics).items() if name not in ("series", "rotation")}
        | {"rotation": metrics.rotation._asdict()},
        "balancers": dict(result.balancer),
        "failed_requests": [each._asdict() for each in failed[:_EXAMPLES]],
        "generator": asdict(recording.schedule),
        "series": asdict(metrics.series),
        "prometheus": dict(recording.prometheus),
    }


def as_json(content: Mapping[str, Any]) -> str:
    """Return the journal's text."""
    return json.dumps(content, indent=1, allow_nan=False) + "\n"
