"""Hand-made chaos runs with known answers: the files that playbook, load generator and sampler would leave."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evenkeel.load.records import End, Record, Writer
from evenkeel.load.settings import Settings, parse_mix

EPOCH = 1_800_000_000.0
# What run.json says of faults that leave their target in rotation, and of those that are undone.
STAYS_IN = {"takes_out": False}
UNDONE = {"recover_from": "undone"}
BACKENDS = ("backend-1", "backend-2", "backend-3")
RATE = 30


@dataclass
class Made:
    """One run; times in seconds from the fault: load from -20 to 60, target out from 1.2 to 12.2 (by the samples)."""

    plan: dict[str, Any] = field(
        default_factory=lambda: {
            "fault": "reboot",
            "target": "backend-1",
            "takes_out": True,
            "recover_from": "inject",
            "rate": RATE,
            "hosts": {"backends": list(BACKENDS), "balancers": ["balancer"]},
            "settings": {"haproxy": {"retries": 5}},
        }
    )
    out: tuple[float, float] | None = (1.0, 12.0)
    marks: dict[str, float] = field(
        default_factory=lambda: {"begin": -21.0, "inject": 0.0, "injected": 0.5, "undone": 11.0, "end": 60.0}
    )
    stop: float = 60.0
    ended: bool = True
    watched: tuple[float, float] = (-20.0, 60.0)
    late: float = 0.001

    def serving(self, at: float) -> Sequence[str]:
        """Return the backends in rotation."""
        return BACKENDS[1:] if self.out and self.out[0] <= at < self.out[1] else BACKENDS

    def records(self) -> list[Record]:
        """Return a request each thirtieth of a second, each tenth a POST, each answered in 10 ms."""
        found = []
        for number in range(int((20 + self.stop) * RATE)):
            at = number / RATE
            names = self.serving(at - 20)
            method = "POST" if number % 10 == 9 else "GET"
            found.append(Record(at, self.late, 0.01, method, "/", False, 200, names[number % len(names)], "v1", ""))
        return found

    def sample(self, at: float) -> dict[str, Any]:
        """Return what the balancer says ``at`` seconds from the fault."""
        inside = self.serving(at)
        servers = {
            name: {
                "status": "UP" if name in inside else "DOWN",
                "chkdown": int(bool(self.out) and at >= 1 and name == BACKENDS[0]),
            }
            for name in BACKENDS
        }
        return {"servers": servers, "totals": {"wretr": 4 if at > 1 else 1, "wredis": 2, "hrsp_5xx": 0}}

    def write(
        self,
        folder: Path,
        change: Callable[[Record], Record] = lambda record: record,
        sampled: Callable[[float], dict[str, Any]] | None = None,
    ) -> Path:
        """Write the folder's files; ``change`` gets each request with its time from the fault."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "run.json").write_text(json.dumps(self.plan))
        marks = [{"at": EPOCH + at, "name": name, "text": ""} for name, at in self.marks.items()]
        (folder / "timeline.jsonl").write_text("".join(json.dumps(mark) + "\n" for mark in marks))
        settings = Settings("http://127.0.0.1", parse_mix(["GET /=9,POST /=1"]), rate=RATE)
        writer = Writer(folder / "load.jsonl.gz", EPOCH - 20, settings)
        for record in self.records():
            moved = change(record._replace(at=record.at - 20))
            writer.record(moved._replace(at=moved.at + 20))
        if self.ended:
            writer.close(End(self.stop + 20, 1))
        else:
            writer.flush()
        times = [self.watched[0] + 0.2 + number for number in range(int(self.watched[1] - self.watched[0]))]
        lines = [
            {"at": EPOCH + at, "took": 0.01, "balancer": "balancer", **(sampled or self.sample)(at)} for at in times
        ]
        (folder / "haproxy.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        cpu = {name: [[EPOCH + at, 20.0] for at in times] for name in BACKENDS}
        content = {
            "graphs": {"CPU per backend": cpu},
            "alerts": {"BackendDown backend-1": [[EPOCH + 5, 1]]},
            "error": "",
        }
        (folder / "prometheus.json").write_text(json.dumps(content))
        return folder


def frozen(record: Record) -> Record:
    """Answer nothing between 5 s and 11 s after the fault: who asks then waits until 11 s."""
    return record._replace(latency=11.0 - record.at) if 5 <= record.at < 11 else record
