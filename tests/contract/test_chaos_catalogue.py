"""The faults: files, catalogue, documentation and report speak of the same ones."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from evenkeel.chaos.record.plan import parse_plan

PROJECT = Path(__file__).resolve().parents[2]
ROLE = PROJECT / "roles" / "chaos"
FAULTS = yaml.safe_load((ROLE / "vars" / "main.yml").read_text())["__chaos_faults"]


def test_every_fault_has_its_file() -> None:
    assert sorted(path.stem for path in (ROLE / "tasks" / "faults").glob("*.yml")) == sorted(FAULTS)


def test_documentation_lists_them_all() -> None:
    text = (PROJECT / "docs" / "chaos.md").read_text()
    table = text[text.index("| `chaos_fault` |") : text.index("`chaos_target` chooses")]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)[1:] == list(FAULTS)


@pytest.mark.parametrize("fault", FAULTS)
def test_report_knows_what_each_does(fault: str) -> None:
    made = FAULTS[fault]
    hosts = {"backends": ["one"], "balancers": ["lb"]}
    target = "one" if made["strikes"] == "backend" else "lb"
    # What the report takes for granted where run.json doesn't say.
    known = parse_plan({"fault": fault, "target": target, "hosts": hosts})
    assert known.recover_from == ("undone" if made["lasts"] else "inject")
    assert known.takes_out == made["takes_out"]
