"""The faults: files, catalogue and documentation speak of the same ones."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

PROJECT = Path(__file__).resolve().parents[2]
ROLE = PROJECT / "roles" / "chaos"
FAULTS = yaml.safe_load((ROLE / "vars" / "main.yml").read_text())["__chaos_faults"]


def test_every_fault_has_its_file() -> None:
    assert sorted(path.stem for path in (ROLE / "tasks" / "faults").glob("*.yml")) == sorted(FAULTS)


def test_documentation_lists_them_all() -> None:
    text = (PROJECT / "docs" / "chaos.md").read_text()
    table = text[text.index("| `chaos_fault` |") : text.index("`chaos_target` chooses")]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)[1:] == list(FAULTS)
