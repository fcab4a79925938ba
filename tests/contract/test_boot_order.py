"""Services of the monitoring come up however late the address, the network or a disk comes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
UNITS = [
    "roles/cpu_monitor/templates/cpu_monitor.service.j2",
    "roles/grafana/templates/restart.conf.j2",
    "roles/prometheus/templates/prometheus.service.j2",
]


@pytest.mark.parametrize("unit", UNITS)
def test_service_that_could_not_start_is_started_again_for_ever(unit: str) -> None:
    # An address that is not there yet is a failed start; systemd's own limit is five in ten seconds.
    sections = re.split(r"^\[(\w+)\]$", (PROJECT / unit).read_text(), flags=re.MULTILINE)
    settings = dict(zip(sections[1::2], sections[2::2], strict=True))
    assert "\nStartLimitIntervalSec=0\n" in settings["Unit"]
    assert "\nRestart=always\n" in settings["Service"]
    (pause,) = re.findall(r"^RestartSec=(\d+)(ms|s)$", settings["Service"], flags=re.MULTILINE)
    assert int(pause[0]) * {"ms": 1, "s": 1000}[pause[1]] <= 1000
