"""Broken inventories and settings, a file each in tests/bad_inputs: each is refused before any host is asked.

The preflight's own play is loaded as Ansible loads it, and what it would say is computed in this process: a run of
ansible-playbook for each would take minutes. That the play ends a run is seen in tests/contract/test_preflight.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible import context
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible.playbook.play import Play
from ansible.plugins.loader import filter_loader, init_plugin_loader
from ansible.template import Templar, trust_as_template
from ansible.utils.collection_loader import AnsibleCollectionConfig
from ansible.utils.vars import load_extra_vars
from ansible.vars.hostvars import HostVars
from ansible.vars.manager import VariableManager

from preflight_report import row

PROJECT = Path(__file__).resolve().parents[2]
CASES = {path.stem: yaml.safe_load(path.read_text()) for path in sorted(PROJECT.glob("tests/bad_inputs/*.yml"))}
SOUND = """
all:
  children:
    balancers: {hosts: {lb: {ansible_host: 127.0.9.1}}}
    backends: {hosts: {one: {ansible_host: 127.0.9.2}, two: {ansible_host: 127.0.9.3}}}
  vars: {ansible_port: 9}
"""
TAGS = ["docker", "backend_app", "pushgateway", "cpu_monitor", "haproxy", "prometheus", "grafana"]


@pytest.fixture(autouse=True)
def command_line() -> Iterator[None]:
    """Load the project's filters, and leave no options behind."""
    if not AnsibleCollectionConfig.collection_finder:
        init_plugin_loader()
    filter_loader.add_directory(str(PROJECT / "plugins/filter"))
    before = context.CLIARGS
    yield
    context.CLIARGS = before
    if hasattr(load_extra_vars, "extra_vars"):
        del load_extra_vars.extra_vars


def option(arguments: list[str], name: str) -> list[str]:
    return [value for word, value in pairwise(arguments) if word == name]


def said(folder: Path, case: dict[str, Any]) -> list[str]:
    """Return what the preflight says of a case, whose files are written into a folder."""
    files = {"hosts.yml": case.get("hosts", SOUND), "group_vars/all.yml": case.get("settings"), **case.get("files", {})}
    if "hosts.ini" in files:
        del files["hosts.yml"]
    for name, text in files.items():
        if text:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
    arguments = [word.replace("{folder}", str(folder)) for word in case.get("arguments", [])]
    limit = next(iter(option(arguments, "--limit")), None)
    tags = option(arguments, "--tags")
    context.CLIARGS = context.CLIARGS.__class__(
        {"extra_vars": tuple(option(arguments, "-e")), "tags": tuple(tags), "skip_tags": (), "subset": limit}
    )
    loader = DataLoader()
    inventory = InventoryManager(loader, [str(folder / name) for name in files if name.startswith("hosts.")])
    loader.set_basedir(str(PROJECT / "playbooks"))
    manager = VariableManager(loader, inventory)
    data = loader.load_from_file(str(PROJECT / "playbooks/inventory.yml"), trusted_as_template=True)[0]
    task = next(each for each in data["tasks"] if each["name"] == "Check the inventory")
    play = Play.load({**data, "tasks": []}, variable_manager=manager, loader=loader)
    hosts = inventory.get_hosts(play.hosts)
    variables = manager.get_vars(play=play, host=hosts[0])
    names = [host.name for host in hosts]
    if limit:
        inventory.subset(":".join(term for term in re.split("[:,]", limit) if term in names))
    variables |= {
        "hostvars": HostVars(inventory, manager, loader),
        "ansible_inventory_sources": [str(folder / name) for name in files if name.startswith("hosts.")],
        "ansible_run_tags": tags or ["all"],
        "ansible_skip_tags": [],
        "ansible_play_hosts_all": names,
        "ansible_limit": limit or "",
        "playbook_dir": str(PROJECT / "playbooks"),
        "run_tags": TAGS,
    }
    expression = trust_as_template(task["vars"]["preflight_problems"])
    found: list[str] = Templar(loader, variables=variables).template(expression)
    return found


def test_sound_inventory_is_not_refused(tmp_path: Path) -> None:
    assert said(tmp_path, {}) == []


@pytest.mark.parametrize("name", CASES)
def test_broken_input_is_refused_with_a_sentence_that_names_it(name: str, tmp_path: Path) -> None:
    sentences = said(tmp_path, CASES[name])
    words = " ".join(sentences)
    # All of the words in one sentence, unless several are meant.
    texts = [words] if name == "several_at_once" else sentences
    assert any(all(word in text for word in CASES[name]["says"]) for text in texts), sentences
    for sentence in sentences:
        assert "Traceback" not in sentence
        found = row(sentence, ["lb", "one", "two"])
        assert found["mend"], f"no mend is found in: {sentence}"


def test_there_are_enough_of_them() -> None:
    assert len(CASES) >= 60
