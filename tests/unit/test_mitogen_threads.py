"""Tasks in threads: what they see and may do is what Ansible's worker processes see and may do."""

from __future__ import annotations

import os
import re
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from ansible.plugins.loader import PluginLoader
from ansible.release import __version__ as core

import mitogen_or_linear
import mitogen_threads

PROJECT = Path(__file__).resolve().parents[2]
THREADS = mitogen_or_linear.runs_in_threads(core)
ASKING_PARENT = "{{ lookup('ansible.builtin.pipe', 'echo $PPID') }}"


def play(folder: Path, hosts: list[str], tasks: list[dict[str, Any]]) -> tuple[int, int, str]:
    """Run tasks on hosts that are this machine; return the run's own process id, its exit code and what it said."""
    groups = {"all": {"vars": {"ansible_connection": "local"}, "hosts": dict.fromkeys(hosts)}}
    (folder / "hosts.yml").write_text(yaml.safe_dump(groups, sort_keys=False))
    named = [{"name": f"Task {number}", **task} for number, task in enumerate(tasks)]
    (folder / "play.yml").write_text(yaml.safe_dump([{"hosts": "all", "gather_facts": False, "tasks": named}]))
    run = subprocess.Popen(
        ["ansible-playbook", "-i", folder / "hosts.yml", folder / "play.yml"],
        env={**os.environ, "ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        said, _ = run.communicate(timeout=300)
    finally:
        run.kill()
    return run.pid, run.returncode, said


def test_what_is_one_by_one_is_never_twice_at_once_and_may_call_itself() -> None:
    owner, inside, meetings = SimpleNamespace(), [0], []

    def load(depth: int) -> int:
        inside[0] += 1
        meetings.append(inside[0])
        time.sleep(0.01)
        found = depth if depth == 0 else owner.load(depth - 1) + depth
        inside[0] -= 1
        return found

    owner.load = load
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(owner.load, [0] * 8)) == [0] * 8
        # They do meet.
        assert max(meetings) > 1
        meetings.clear()
        mitogen_threads.one_by_one(owner, "load", threading.RLock())
        assert list(pool.map(owner.load, [2] * 8)) == [3] * 8
    # Three deep each, one after the other.
    assert meetings == [1, 2, 3] * 8
    # So are plugins looked for and loaded.
    for name in ("find_plugin_with_context", "_load_module_source"):
        assert getattr(PluginLoader, name).__wrapped__.__name__ == name


def test_tasks_are_threads_of_the_run_unless_a_signal_must_end_them(tmp_path: Path) -> None:
    assert mitogen_or_linear.runs_in_threads("2.21.5")
    assert not mitogen_or_linear.runs_in_threads("2.19.14")
    notes = tmp_path / "notes"
    copy = {"dest": f"{notes}-{{{{ inventory_hostname }}}}", "content": ASKING_PARENT, "mode": "0600"}
    limited = {"dest": f"{notes}-limited", "content": ASKING_PARENT, "mode": "0600"}
    after = {"dest": f"{notes}-after", "content": ASKING_PARENT, "mode": "0600"}
    pid, code, said = play(
        tmp_path,
        ["one", "two"],
        [
            {"ansible.builtin.copy": copy},
            {"ansible.builtin.copy": limited, "timeout": 60, "run_once": True},
            # Mitogen is still reached by threads once a process was there.
            {"ansible.builtin.copy": after, "run_once": True},
            {"ansible.builtin.command": "sleep 60", "timeout": 1, "run_once": True},
        ],
    )
    asked = {name: Path(f"{notes}-{name}").read_text() == str(pid) for name in ("one", "two", "limited", "after")}
    assert asked == {"one": THREADS, "two": THREADS, "limited": False, "after": THREADS}, said
    assert code == 2
    assert "imed out after 1 second" in said


def test_task_sees_variables_as_they_were_when_it_began(tmp_path: Path) -> None:
    # The slow one begins, and looks at the fast one when that is done and others are begun.
    waited = "{{ lookup('ansible.builtin.pipe', 'sleep ' ~ (3 if inventory_hostname == 'slow' else 0)) }}"
    others = "{{ hostvars['fast'].done | default('not yet') }}"
    _, code, said = play(
        tmp_path,
        ["slow", "fast", *(f"host{number}" for number in range(30))],
        [
            {"ansible.builtin.set_fact": {"seen": waited + others, "done": "done"}},
            {"ansible.builtin.assert": {"that": ["hostvars['fast'].done == 'done'"]}},
            # Of the others, what a process sees depends on when it came to begin.
            {"ansible.builtin.assert": {"that": ["hostvars['slow'].seen == 'not yet'"]}, "run_once": True},
        ],
    )
    assert code == 0, said


def test_many_hosts_at_once_see_each_other_and_make_groups(tmp_path: Path) -> None:
    hosts = [f"host{number}" for number in range(12)]
    all_of_them = "groups.all | map('extract', hostvars, 'mine') | list"
    _, code, said = play(
        tmp_path,
        hosts,
        [
            {"ansible.builtin.set_fact": {"mine": "{{ inventory_hostname }}"}},
            {"ansible.builtin.assert": {"that": [f"{all_of_them} == groups.all", "mine == inventory_hostname"]}},
            {"ansible.builtin.group_by": {"key": "{{ 'low' if mine in groups.all[:5] else 'high' }}"}},
            {"ansible.builtin.assert": {"that": ["groups.low | length == 5", "groups.high | length == 7"]}},
            {"ansible.builtin.command": "echo {{ mine }}", "register": "said", "loop": [1, 2]},
            {"ansible.builtin.assert": {"that": "said.results | map(attribute='stdout') | unique == [mine]"}},
        ],
    )
    assert code == 0, said
    assert said.count("failed=0") == len(hosts)


def test_throttled_tasks_come_one_after_the_other(tmp_path: Path) -> None:
    def alone(seconds: float) -> str:
        return f"mkdir {tmp_path}/alone && sleep {seconds} && rmdir {tmp_path}/alone"

    def task(seconds: float) -> dict[str, Any]:
        # Here, where nothing else keeps tasks apart.
        return {"ansible.builtin.set_fact": {"seen": f"{{{{ lookup('ansible.builtin.pipe', '{alone(seconds)}') }}}}"}}

    hosts = ["one", "two", "three"]
    _, code, said = play(tmp_path, hosts, [{**task(0.2), "throttle": 1}])
    assert code == 0, said
    # Without it they meet.
    _, code, said = play(tmp_path, hosts, [task(10)])
    assert (code, said.count("failed=1")) == (2, 2), said


def test_task_whose_thread_ends_is_named(tmp_path: Path) -> None:
    (tmp_path / "action_plugins").mkdir()
    (tmp_path / "action_plugins" / "leave.py").write_text(
        "from ansible.plugins.action import ActionBase\n\n\n"
        "class ActionModule(ActionBase):\n    def run(self, tmp=None, task_vars=None):\n        raise SystemExit(7)\n"
    )
    _, code, said = play(tmp_path, ["one", "two"], [{"leave": {}}, {"ansible.builtin.debug": {"msg": "on it goes"}}])
    assert code != 0
    assert "on it goes" not in said
    if THREADS:
        assert re.search("A task's thread ended. TASK: Task 0 on (one|two)", " ".join(said.split())), said


def test_all_hosts_are_reached_whatever_the_shell_has_for_mitogen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MITOGEN_CPU_COUNT", str(os.cpu_count()))
    hosts = [f"host{number}" for number in range(6)]
    _, code, said = play(tmp_path, hosts, [{"ansible.builtin.command": "true"}, {"ansible.builtin.command": "true"}])
    assert code == 0, said
    assert said.count("ok=2") == len(hosts)
