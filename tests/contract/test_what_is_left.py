"""Whatever a role writes on a host, its teardown.yml takes away."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from roll_out import roll_out_audit

PROJECT = Path(__file__).resolve().parents[2]
ROLES = sorted(path.name for path in (PROJECT / "roles").iterdir())
# The modules that write, and their argument that says where.
WRITERS = {
    "ansible.builtin.copy": "dest",
    "ansible.builtin.file": "path",
    "ansible.builtin.get_url": "dest",
    "ansible.builtin.lineinfile": "path",
    "ansible.builtin.template": "dest",
    "ansible.builtin.unarchive": "dest",
    "haproxy_certificate": "path",
    "masked_template": "dest",
}
# What a teardown.yml calls otherwise: how it is written, and by what it goes.
GOES_BY = {
    "/usr/local/lib/evenkeel/{{ item | basename }}": "/usr/local/lib/evenkeel/haproxy_certificate.py",
    "{{ __acme_folder }}/ca.pem": "{{ __acme_folder }}",
    "{{ __acme_folder }}/dns_env.json": "{{ __acme_folder }}",
    "{{ __acme_folder }}/dns_hook": "{{ __acme_folder }}",
    "{{ __acme_folder }}/settings.json": "{{ __acme_folder }}",
    "{{ __acme_home }}/.ssh": "{{ __acme_home }}",
    "{{ __acme_home ~ '/.ssh' if item == 'authorized_keys' else __acme_folder }}/{{ item }}": "{{ __acme_home }}",
    "/etc/systemd/system/backend_app_agent.service": "/etc/systemd/system/backend_*.service",
    "/etc/systemd/system/backend_app_announce.service": "/etc/systemd/system/backend_*.service",
    "/etc/systemd/system/{{ __backend_app_unit }}.service": "/etc/systemd/system/backend_*.service",
    "{{ __backend_app_context }}/{{ item }}": "/build",
    "{{ __backend_app_context }}{{ item }}": "/build",
    "{{ __backend_app_dir }}": "/var/lib/evenkeel/backend_*",
    "{{ __backend_app_dir }}/releases.json": "/releases.json",
    "{{ __backend_app_logins }}": "__backend_app_logins, '/var/lib/evenkeel'",
    "{{ __backend_app_secrets | dirname }}": "/secrets",
    "{{ __backend_app_secrets }}": "/secrets",
    "{{ __backend_app_secrets }}/{{ item }}": "/secrets",
    "{{ __grafana_dashboards_folder }}/{{ item | basename }}": "{{ __grafana_dashboards_folder }}",
    "{{ __haproxy_map }}": "/etc/haproxy/evenkeel-*.map",
    "{{ __haproxy_certificate_list }}": "/etc/haproxy/evenkeel-*.list",
    "{{ __haproxy_certificate_folder }}/{{ item }}.pem": "{{ __haproxy_certificate_folder }}",
    # Pages of services in maintenance.
    "{{ item.value }}": "/etc/haproxy/evenkeel-*.html",
    "/etc/prometheus/file_sd/{{ item.name }}.yml": "__prometheus_target_files",
    "/etc/prometheus/rules/{{ item | basename }}": "__prometheus_rule_files",
    "/usr/local/bin/{{ item }}": "'/usr/local/bin/'",
    "{{ __release_binary_folder }}": "{{ __release_binary_root }}/*",
    "{{ __release_binary_marker }}": ".sha256",
    "{{ __release_binary_root }}/current": "__release_binary_root ~ '/current'",
    "{{ __release_binary_tarball }}": ".release.tar.gz",
}
STAYS = {
    # The package's own.
    "/etc/grafana/provisioning/dashboards",
    "/etc/grafana/provisioning/datasources",
    # On the control node: reports.
    "{{ __chaos_folder }}",
    "{{ __chaos_folder }}/run.json",
    # In memory, until the fault's timer has undone it.
    "{{ __chaos_state }}",
    "{{ __chaos_state }}/",
    "{{ __chaos_state }}/undo",
}
# Called by the teardown.yml of others.
BUILDING_BLOCKS = {"apt_repository", "release_binary"}


def tasks(path: Path) -> Iterator[dict[str, Any]]:
    """Yield every task of a file, those inside blocks too."""
    pending = list(yaml.safe_load(path.read_text()))
    while pending:
        task = pending.pop()
        yield task
        for key in ("block", "rescue", "always"):
            pending += task.get(key, [])


def written(role: str) -> set[str]:
    """Return where a role writes, as its tasks say it."""
    found = set()
    for path in (PROJECT / "roles" / role / "tasks").glob("*.yml"):
        for task in tasks(path):
            for module, argument in WRITERS.items():
                given = task.get(module, {})
                if not given or given.get("state") == "absent":
                    continue
                place = given.get(argument) or given["dest"]
                items = task.get("loop") if place == "{{ item }}" else None
                found |= set(items) if isinstance(items, list) else {place}
    return found


@pytest.mark.parametrize("role", ROLES)
def test_what_a_role_writes_its_teardown_takes_away(role: str) -> None:
    path = PROJECT / "roles" / role / "tasks" / "teardown.yml"
    text = path.read_text() if path.exists() else ""
    assert {place for place in written(role) - STAYS if GOES_BY.get(place, place) not in text} == set()


def test_lists_name_what_is_written() -> None:
    assert set(GOES_BY) | STAYS <= {place for role in ROLES for place in written(role)}


@pytest.mark.parametrize("role", ROLES)
def test_ours_is_told_by_the_same_marks_as_foreign(role: str) -> None:
    def files(step: str, module: str) -> dict[str, Any]:
        path = PROJECT / "roles" / role / "tasks" / f"{step}.yml"
        given = [task[module].get("files", []) for task in tasks(path) if module in task] if path.exists() else []
        return {each["path"]: each["marks"] for entries in given if isinstance(entries, list) for each in entries}

    known, gone = files("preflight", "foreign"), files("teardown", "ours")
    assert {path: gone.get(path) for path in known} == known


def test_playbook_calls_every_teardown() -> None:
    plays = yaml.safe_load((PROJECT / "playbooks" / "teardown.yml").read_text())
    calls = [
        task["ansible.builtin.include_role"]["name"]
        for play in plays
        for each in play.get("tasks", [])
        for task in each.get("block", [])
        if task.get("ansible.builtin.include_role", {}).get("tasks_from") == "teardown"
    ]
    with_teardown = {role for role in ROLES if (PROJECT / "roles" / role / "tasks" / "teardown.yml").exists()}
    assert set(calls) | BUILDING_BLOCKS == with_teardown
    # The front door first, the engine's settings once its containers are gone, and nothing is open before it is gone.
    assert calls[0] == "haproxy"
    assert calls[-2:] == ["docker", "firewall"]


def noted() -> Iterator[str]:
    """Yield what playbooks add to the log of deploys besides roll-outs."""
    for path in (PROJECT / "playbooks").glob("*.yml"):
        for play in yaml.safe_load(path.read_text()):
            for task in play.get("tasks", []):
                if "rolling_update_note" in task.get("vars", {}):
                    yield task["vars"]["rolling_update_note"]


@pytest.mark.parametrize("action", ["deploy", "rollback", "site", "engine", "mend", None])
def test_log_of_deploys_is_known_by_its_lines(action: str | None) -> None:
    step = PROJECT / "roles" / "rolling_update" / "tasks" / "teardown.yml"
    marks = next(each["marks"] for task in tasks(step) for each in task["ours"]["files"])
    outcomes = [{"host": "one", "result": "failed", "swaps": {}, "text": ""}]
    begin = ("me@here", "2026-01-01T00:00:00Z")
    lines = (
        roll_out_audit(outcomes, action, *begin) if action else [f"{begin[1]} {begin[0]} {text}" for text in noted()]
    )
    assert lines
    for line in lines:
        assert any(re.search(mark, line) for mark in marks), line
