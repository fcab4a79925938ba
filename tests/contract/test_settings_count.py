"""Every setting counts wherever Ansible lets people put it, and none is ignored without a word.

The walk runs the project's own plays with every task but one taken out of the roles: that one notes what the role would
use. What there is to set is read from the argument specs, so a new setting is walked without a line here.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from settings import options

PROJECT = Path(__file__).resolve().parents[2]
OPTIONS = options()
ROLES = {path.name for path in (PROJECT / "roles").iterdir()}
# In Ansible's order: each beats those before it.
PLACES = ["hosts.yml", "group_vars/all", "group_vars of a group", "host_vars", "-e"]
GROUPS = {
    "balancers": ["lb"],
    "backends": ["one", "two"],
    "monitoring": ["eye"],
    "here": ["localhost"],
}
HOSTS = [host for hosts in GROUPS.values() for host in hosts]
NOTE_FILTER = """
import json
import os

def walk_note(values, path):
    line = json.dumps(values, default=str) + "\\n"
    with open(path, "a", encoding="utf-8") as file:
        file.write(line)
    return "noted"

class FilterModule:
    def filters(self):
        return {"walk_note": walk_note}
"""


def marked(name: str, option: Mapping[str, Any], new: bool) -> Any:
    """Return a value for an option: the newest place's, or one that an older place gave; never the default."""
    word = "new" if new else "old"
    if option["type"] == "bool":
        # There are but two: what is no default is the newest place's.
        return (option.get("default") is not True) is new
    kinds: dict[str, Any] = {"int": 4711 if new else 815, "float": 47.11 if new else 8.15, "dict": {word: name}}
    kinds["list"] = [{word: name}] if option.get("elements") == "dict" else [f"{word} {name}"]
    return kinds.get(option["type"], f"{word} {name}")


def role_calls(tasks: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield tasks that only call a role, for every task that does."""
    for task in tasks or []:
        for part in ("block", "rescue", "always"):
            yield from role_calls(task.get(part, []))
        for kind in ("ansible.builtin.include_role", "ansible.builtin.import_role"):
            if kind in task:
                # What is passed to a step of a role is that step's argument; what is passed to a role is its setting.
                passed = {} if "tasks_from" in task[kind] else task.get("vars", {})
                yield {"name": "Call", "ansible.builtin.include_role": {"name": task[kind]["name"]}, "vars": passed}


def plays(playbook: Path, variables: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield a playbook's plays, those of imported playbooks too, with nothing in them but roles."""
    for play in yaml.safe_load(playbook.read_text()):
        given = {**variables, **play.get("vars", {})}
        if "ansible.builtin.import_playbook" in play:
            yield from plays(playbook.parent / play["ansible.builtin.import_playbook"], given)
            continue
        tasks = [*play.get("pre_tasks", []), *play.get("tasks", []), *play.get("post_tasks", [])]
        roles = [role if isinstance(role, dict) else {"role": role} for role in play.get("roles", [])]
        calls = list(role_calls(tasks))
        if roles or calls:
            hosts = play["hosts"]
            if "{{" in hosts:
                # Groups that a run makes are made of backends.
                named = re.findall("backends|balancers|monitoring", hosts)
                hosts = ":".join(dict.fromkeys(named)) or "backends"
            # Nothing else could stand in a setting's way.
            given = {
                name: value for name, value in given.items() if any(name in entries for entries in OPTIONS.values())
            }
            yield {"hosts": hosts, "gather_facts": False, "vars": given, "roles": roles, "tasks": calls}


def batch() -> str:
    """Return the expression that says how many hosts a roll-out takes at a time."""
    plays = yaml.safe_load((PROJECT / "playbooks" / "rolling.yml").read_text())
    (serial,) = {play["serial"] for play in plays if "serial" in play}
    return str(serial).strip("{} \n")


def note(role: str) -> dict[str, Any]:
    """Return the task that notes what a role would use."""
    # Hosts are taken in batches before any host's variables count: that one is read in another way.
    names = [name for name in OPTIONS[role] if name != "deploy_batch"]
    chosen = f"({names} | select('match', walk_only | default('')))"
    used = f"dict({chosen} | zip(query('vars', *{chosen})))"
    if role == "deploy":
        used += f" | combine({{'deploy_batch': {batch()}}})"
    said = f"{{{{ {{'role': '{role}', 'host': inventory_hostname, 'used': {used}}} | walk_note(walk_notes) }}}}"
    return {"name": "Note", "ansible.builtin.debug": {"msg": said}}


@pytest.fixture(scope="module")
def walker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the project whose plays only note what each role would use."""
    root = tmp_path_factory.mktemp("walk")
    shutil.copytree(PROJECT / "group_vars", root / "group_vars")
    shutil.copytree(PROJECT / "plugins", root / "plugins")
    (root / "plugins" / "filter" / "walk.py").write_text(NOTE_FILTER)
    (root / "playbooks").mkdir()
    (root / "playbooks" / "group_vars").symlink_to("../group_vars")
    for role in ROLES:
        for kind in ("defaults", "vars"):
            if (PROJECT / "roles" / role / kind).exists():
                shutil.copytree(PROJECT / "roles" / role / kind, root / "roles" / role / kind)
        files = sorted((PROJECT / "roles" / role / "tasks").rglob("*.yml"))
        calls = [call for file in files for call in role_calls(yaml.safe_load(file.read_text()))]
        (root / "roles" / role / "tasks").mkdir(parents=True)
        (root / "roles" / role / "tasks" / "main.yml").write_text(yaml.safe_dump([note(role), *calls], width=10_000))
    seen: dict[str, dict[str, Any]] = {}
    for playbook in sorted((PROJECT / "playbooks").glob("*.yml")):
        for play in plays(playbook, {}):
            once = seen.setdefault(json.dumps([play["hosts"], play["vars"]]), {**play, "roles": [], "tasks": []})
            for kind in ("roles", "tasks"):
                once[kind] += [call for call in play[kind] if call not in once[kind]]
    # What no role reads, the playbooks do, as these hosts' variables.
    for name in OPTIONS.keys() - ROLES:
        hosts = {"deploy": "backends", "drain": "balancers", "ready": "balancers"}.get(name, "all")
        seen[name] = {"hosts": hosts, "gather_facts": False, "tasks": [note(name)]}
    (root / "playbooks" / "walk.yml").write_text(yaml.safe_dump(list(seen.values()), width=10_000))
    (root / "ansible.cfg").write_text(
        "[defaults]\nroles_path = roles\nfilter_plugins = plugins/filter\nlibrary = plugins/modules\n"
        "strategy_plugins = plugins/strategy\nstrategy = mitogen_or_linear\n"
        "inject_facts_as_vars = false\n"
    )
    return root


def write_inventory(folder: Path, upto: int) -> dict[str, Any]:
    """Set every option at so many places, in another way at the last of them; return what stands for ``-e``."""
    known = {name: option for entries in OPTIONS.values() for name, option in entries.items()}
    values = [
        {name: marked(name, option, place == upto) for name, option in known.items()} for place in range(upto + 1)
    ]
    groups = {group: {"hosts": dict.fromkeys(hosts)} for group, hosts in GROUPS.items()}
    connection = {"ansible_connection": "local", "ansible_become": False}
    (folder / "group_vars" / "all").mkdir(parents=True)
    (folder / "host_vars").mkdir()
    (folder / "hosts.yml").write_text(yaml.safe_dump({"all": {"vars": connection | values[0], "children": groups}}))
    if upto >= 1:
        (folder / "group_vars" / "all" / "site.yml").write_text(yaml.safe_dump(values[1]))
    for names, kind, place in ((GROUPS, "group_vars", 2), (HOSTS, "host_vars", 3)):
        for name in names if upto >= place else ():
            (folder / kind / f"{name}.yml").write_text(yaml.safe_dump(values[place]))
    return values[4] if upto >= 4 else {}


def walk(project: Path, folder: Path, extra: dict[str, Any]) -> list[dict[str, Any]]:
    """Run the plays with the inventory in ``folder``; return what was noted: role, host and what it would use."""
    (folder / "extra.json").write_text(json.dumps({"walk_notes": str(folder / "notes"), **extra}))
    command = ["ansible-playbook", "-i", str(folder / "hosts.yml"), "playbooks/walk.yml", "-e", f"@{folder}/extra.json"]
    # `make` has set the project's own.
    environment = {**os.environ, "ANSIBLE_CONFIG": str(project / "ansible.cfg")}
    run = subprocess.run(
        command, cwd=project, env=environment, check=False, capture_output=True, text=True, timeout=300
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return [json.loads(line) for line in (folder / "notes").read_text().splitlines()]


@pytest.mark.parametrize("place", range(len(PLACES)), ids=PLACES)
def test_every_setting_counts_wherever_it_is_set(walker: Path, tmp_path: Path, place: int) -> None:
    said = write_inventory(tmp_path, place)
    noted = walk(walker, tmp_path, said)
    # No role was left out; a role without settings has nothing to note but itself.
    assert {note["role"] for note in noted} == set(OPTIONS)
    ignored = {
        f"{name} on {note['host']}: {value}"
        for note in noted
        for name, value in note["used"].items()
        if value != json.loads(json.dumps(marked(name, OPTIONS[note["role"]][name], new=True)))
    }
    assert ignored == set()


def test_defaults_follow_from_the_topology(walker: Path, tmp_path: Path) -> None:
    hosts: dict[str, dict[str, Any]] = {
        name: {"ansible_host": f"192.0.2.{number}"} for number, name in enumerate(HOSTS[:4], 1)
    }
    hosts["two"] |= {"service_address": "198.51.100.3", "backend_app_port": 8080, "pushgateway_address": "203.0.113.3"}
    # Empty is as good as not set.
    hosts["one"]["service_address"] = ""
    hosts["two"] |= {"backend_app_threads": 64, "cpu_monitor_interval": 2.5}
    hosts["lb"]["haproxy_check_interval"] = "1500ms"
    groups = {group: {"hosts": {host: hosts.get(host) for host in members}} for group, members in GROUPS.items()}
    (tmp_path / "hosts.yml").write_text(
        yaml.safe_dump({"all": {"vars": {"ansible_connection": "local", "ansible_become": False}, "children": groups}})
    )
    derived = [
        name
        for entries in OPTIONS.values()
        for name, option in entries.items()
        if re.search(r"topology_|deploy_|inventory_hostname|__chaos_(service|ready)", str(option.get("default")))
    ]
    noted = walk(walker, tmp_path, {"walk_only": f"({'|'.join(derived)})$", "deploy_force": "true"})
    used = {(note["host"], name): value for note in noted for name, value in note["used"].items()}
    backends = [
        {"name": "one", "address": "192.0.2.2", "port": 80},
        {"name": "two", "address": "198.51.100.3", "port": 8080},
    ]
    assert used["lb", "haproxy_backends"] == backends
    servers = [{**backend, "surge_port": 0, "agent_port": 9190} for backend in backends]
    assert used["lb", "haproxy_services"][0]["servers"] == used["localhost", "chaos_backends"] == servers
    assert used["one", "backend_app_services"][0]["env"]["BACKEND_NAME"] == "one"
    assert used["two", "backend_app_services"][0]["host_port"] == 8080
    assert used["lb", "haproxy_address"] == "192.0.2.1"
    assert used["lb", "haproxy_answer_times"] == [{"path": "/", "seconds": 0}, {"path": "/sleep/", "seconds_field": 3}]
    # No more at once than the least of the servers has threads for; a stop that lasts until every balancer knows of it.
    assert used["lb", "haproxy_server_maxconn"] == 64
    assert used["one", "backend_app_drain_seconds"] == 6
    assert used["two", "backend_app_name"] == used["two", "cpu_monitor_instance"] == "two"
    assert used["one", "backend_app_address"] == "192.0.2.2"
    assert used["two", "backend_app_address"] == "198.51.100.3"
    # Where the Pushgateway listens elsewhere, who pushes and who scrapes it follow.
    assert used["two", "cpu_monitor_pushgateway_url"] == "http://203.0.113.3:9091"
    jobs = {
        job["name"]: [target["address"] for target in job["targets"]] for job in used["eye", "prometheus_scrape_jobs"]
    }
    assert jobs["pushgateway"] == ["192.0.2.2:9091", "203.0.113.3:9091"]
    assert jobs["haproxy"] == ["192.0.2.1:8404"]
    # What is old for the slowest monitor is old.
    assert used["eye", "prometheus_push_seconds"] == 2.5
    assert used["eye", "grafana_prometheus_url"] == "http://192.0.2.4:9090"
    assert used["eye", "grafana_dashboards_dir"].endswith("/files/dashboards")
    assert used["one", "rolling_update_balancers"] == ["lb"]
    assert used["one", "rolling_update_keep_up"] == 0
    assert used["localhost", "chaos_statistics"] == {"lb": "http://192.0.2.1:8404"}
    assert used["localhost", "chaos_prometheus_url"] == "http://192.0.2.4:9090"
    assert used["localhost", "chaos_ready_path"] == "/readyz"
    assert used["localhost", "chaos_grafana_password"] == ""
    assert (used["localhost", "chaos_detect_seconds"], used["localhost", "chaos_detect_hung_seconds"]) == (7, 13)
    assert set(derived) <= {name for _, name in used}


def test_detection_is_that_of_the_slowest_balancer(tmp_path: Path) -> None:
    balancers = {"lb": {}, "lb2": {"haproxy_check_timeout": "5s"}}
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"all": {"children": {"balancers": {"hosts": balancers}}}}))
    command = ["ansible", "-i", str(tmp_path), "--playbook-dir", str(PROJECT / "playbooks"), "localhost"]
    run = subprocess.run(
        [*command, "-m", "ansible.builtin.debug", "-a", "var=topology_detect_hung_seconds"],
        cwd=PROJECT,
        env={**os.environ, "ANSIBLE_NOCOLOR": "1"},
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    # 0.5 and 3 times 0.6 between checks, 4 times 5, and 1.5 for the sampling.
    assert re.search(r"topology_detect_hung_seconds\W+24\b", run.stdout), run.stdout + run.stderr
