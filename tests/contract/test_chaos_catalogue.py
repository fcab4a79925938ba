"""The faults: each is one file and whole, nobody else keeps a list of them, and the documentation's table is theirs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jinja2 import Environment, meta

from evenkeel import faults

PROJECT = Path(__file__).resolve().parents[2]
ROLE = PROJECT / "roles" / "chaos"
NAMES = sorted(path.stem for path in (ROLE / "faults").glob("*.yml"))
FAULTS = faults.read()
KEYS: dict[str, type | tuple[type, ...]] = {
    "what": str,
    "detail": str,
    "strikes": str,
    "lasts": bool,
    "takes_out": bool,
    "slo": dict,
    "problem": str,
    "prepare": str,
    "inject": str,
    "undo": str,
    "files": list,
    "vars": dict,
    "tasks": dict,
}
NEEDED = {"what", "strikes", "lasts", "takes_out"}


def texts(value: Any) -> Iterator[str]:
    """Yield every text in a value of YAML."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list)):
        for each in value.values() if isinstance(value, dict) else value:
            yield from texts(each)


def problems(fault: dict[str, Any]) -> list[str]:
    """Return what is wrong with what a fault's file holds."""
    tasks = fault.get("tasks", {})
    found = [f"there is no key {key}" for key in fault.keys() - KEYS.keys()]
    found += [f"{key} is missing" for key in NEEDED - fault.keys()]
    found += [f"{key} is no {KEYS[key]}" for key in fault.keys() & KEYS.keys() if not isinstance(fault[key], KEYS[key])]
    found += [f"nothing says how to {key}" for key in ("inject", "undo") if key not in fault and key not in tasks]
    found += [f"tasks can't {key}" for key in tasks.keys() - {"check", "inject", "undo"}]
    found += [f"no tasks/{name}.yml" for name in tasks.values() if not (ROLE / "tasks" / f"{name}.yml").exists()]
    found += [f"no files/{name}" for name in fault.get("files", []) if not (ROLE / "files" / name).exists()]
    if fault.get("strikes") not in ("backend", "balancer"):
        found.append("strikes must be backend or balancer")
    if fault.get("takes_out") and fault.get("strikes") != "backend":
        found.append("only a backend leaves the rotation")
    return found


@pytest.mark.parametrize("name", NAMES)
def test_fault_is_whole(name: str) -> None:
    assert problems(FAULTS[name]) == []
    # It is a file's name, a unit's, and a word on the command line.
    assert re.fullmatch(r"[a-z][a-z0-9_]*", name)


def test_rules_find_what_is_wrong() -> None:
    whole = FAULTS["cpu"]
    assert problems(whole | {"last": True}) == ["there is no key last"]
    assert problems({key: value for key, value in whole.items() if key != "lasts"}) == ["lasts is missing"]
    assert problems({key: value for key, value in whole.items() if key != "undo"}) == ["nothing says how to undo"]
    assert problems(whole | {"strikes": "balancer", "takes_out": True}) == ["only a backend leaves the rotation"]
    assert problems(whole | {"files": ["none"], "tasks": {"check": "none"}}) == ["no tasks/none.yml", "no files/none"]


@pytest.mark.parametrize("name", NAMES)
def test_texts_name_only_what_there_is(name: str) -> None:
    known = set(faults.defaults()) | set(yaml.safe_load((ROLE / "vars" / "main.yml").read_text()))
    for text in texts(FAULTS[name]):
        # Ansible's own filters are not asked for here.
        names = meta.find_undeclared_variables(Environment(autoescape=True).parse(bare(text)))
        assert names <= known, text


def bare(text: str) -> str:
    """Return a template without its filters, which only Ansible knows."""
    return re.sub(r" \| \w+(\((?:[^()]|\([^()]*\))*\))?", "", text)


def test_every_key_of_a_fault_is_used() -> None:
    role = "\n".join(path.read_text() for kind in ("tasks", "vars") for path in (ROLE / kind).glob("*.yml"))
    read = set(re.findall(r"__chaos_fault\.(\w+)", role))
    # `detail` is for the table; a fault reads its `vars` itself.
    assert read | {"detail", "vars"} == set(KEYS)
    assert {key for fault in FAULTS.values() for key in fault} == set(KEYS)
    described = re.findall(r"^\| `(\w+)` \| (yes|no) \|", faults.PAGE.read_text(), re.MULTILINE)
    assert [key for key, _ in described] == list(KEYS)
    assert {key for key, needed in described if needed == "yes"} == NEEDED | {"inject", "undo"}


@pytest.mark.parametrize("name", NAMES)
def test_what_a_fault_brings_along_it_uses(name: str) -> None:
    fault = FAULTS[name]
    shell = " ".join(texts({key: fault.get(key, "") for key in ("prepare", "inject", "undo", "vars")}))
    used = set(re.findall(r"__chaos_fault\.vars\.(\w+)", shell))
    assert used == set(fault.get("vars", {}))
    # The role's own words for the file `packets`.
    shell = shell.replace("__chaos_packets", "packets").replace("__chaos_stall", "packets")
    assert all(file in shell for file in fault.get("files", []))
    assert ("packets" in shell) == ("packets" in fault.get("files", []))


def test_documentation_shows_the_files() -> None:
    page = faults.PAGE.read_text()
    assert page == faults.written(page, faults.table(FAULTS, faults.defaults())), "run make docs"


def test_example_of_the_documentation_is_whole() -> None:
    _, _, rest = faults.PAGE.read_text().partition("## A fault of your own")
    example = re.search(r"```yaml\n(.*?)```", rest, re.DOTALL)
    assert example
    assert problems(yaml.safe_load(example[1])) == []


def test_nobody_else_keeps_a_list_of_faults() -> None:
    # Names that mean nothing else.
    telling = ("blackhole", "restart_engine", "pause_app", "kill_balancer")
    folders = ("src", "plugins", "playbooks", "group_vars", "roles", "molecule/default", "molecule/chaos")
    paths = [path for folder in folders for path in (PROJECT / folder).rglob("*.*") if path.suffix in {".py", ".yml"}]
    paths = [path for path in paths if path.parent != ROLE / "faults" and "tests" not in path.parts]
    for path in [*paths, PROJECT / "Makefile"]:
        assert [name for name in telling if re.search(rf"\b{name}\b", path.read_text())] == [], path
