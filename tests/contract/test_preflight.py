"""What an operator reads who runs site.yml with a wrong inventory. Nothing here connects to a host."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import guard

PROJECT = Path(__file__).resolve().parents[2]
SOUND = """
all:
  children:
    balancers: {hosts: {lb: {ansible_host: 127.0.9.1}}}
    backends: {hosts: {one: {ansible_host: 127.0.9.2}, two: {ansible_host: 127.0.9.3}}}
  vars: {ansible_port: 9}
"""
UNREACHABLE = 4


def site(
    inventory: Path, *arguments: str, project: Path = PROJECT, playbook: str = "site.yml"
) -> subprocess.CompletedProcess[str]:
    """Run a playbook of ``project``; the inventory leads to loopback ports where nobody listens."""
    command = ["ansible-playbook", "-i", str(inventory), playbook, *arguments]
    environment = {name: value for name, value in os.environ.items() if name != "ANSIBLE_CONFIG"}
    return subprocess.run(
        command, cwd=project, env=environment, check=False, capture_output=True, text=True, timeout=120
    )


def refused(
    run: subprocess.CompletedProcess[str], sentence: str, plays: str = r"Preflight|Teardown \| The hosts"
) -> None:
    """Assert that the run failed with the sentence, before it came to a play that changes anything."""
    words = " ".join((run.stdout + run.stderr).split())
    assert run.returncode != 0, words
    assert sentence in words
    assert all(re.match(plays, name) for name in re.findall(r"^PLAY \[(.*)\]", run.stdout, re.MULTILINE)), words
    assert "Traceback" not in words


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("127.0.9.3", "127.0.9.2", "one and two share the address 127.0.9.2"),
        ("backends:", "other:", "The inventory has no backend: add at least one host to the group `backends`."),
        ("balancers:", "other:", "The inventory has no balancer: add at least one host to the group `balancers`."),
        ("127.0.9.3", "127.0.9", "set `service_address` to the address or the name by which other hosts reach it."),
        ("127.0.9.3", "127.0.9.3, backend_app_port: http", "backend_app_port of two is 'http': set it to a number"),
    ],
)
def test_wrong_inventory_is_refused_with_one_sentence(tmp_path: Path, old: str, new: str, sentence: str) -> None:
    inventory = tmp_path / "hosts.yml"
    inventory.write_text(SOUND.replace(old, new))
    refused(site(inventory), sentence)


def test_wrong_services_are_refused_at_once_before_any_host_is_asked(tmp_path: Path) -> None:
    services = {
        "shop": {"imgae": "registry.example.com/shop:1", "port": 3000},
        "api": {"image": "registry.example.com/api", "port": 3001, "paths": ["api"]},
        "web": {"image": "registry.example.com/web:1", "port": 3001, "group": "nowhere", "paths": ["/web"]},
        "old": {"build": {"folder": "old"}, "port": 9190, "paths": ["/old"]},
    }
    whole = yaml.safe_load(SOUND)
    whole["all"]["vars"] |= {"site_services": services, "backend_app_threads": 9}
    inventory = tmp_path / "hosts.yml"
    inventory.write_text(yaml.safe_dump(whole))
    run = site(inventory)
    for sentence in (
        "site_services.shop of one and two has `imgae`, which is unknown (`image` is meant?): write it right",
        "site_services.api.image of one and two is `registry.example.com/api`; it has no tag",
        'site_services.api.paths has "api", which is no beginning of a path',
        "site_services.web.group is `nowhere`, a group without hosts",
        f"site_services.old.build.folder is {tmp_path}/old, where no Dockerfile is",
        "site_services.old.host_port and backend_app_agent_port of one are both 9190",
        "backend_app_threads is set for one and two and counts for the guide's API alone",
    ):
        refused(run, sentence)


def test_everything_that_is_wrong_is_said_at_once_before_any_host_is_asked(tmp_path: Path) -> None:
    settings = """
    haproxy_timeout_server: 60
    backend_app_version: 1.10
    grafana_admin_password: 0123456
    haproxy_timout_queue: 5s
    backend_app_image: registry.example.com/app
"""
    wrong = SOUND.replace("vars: {ansible_port: 9}", f"vars:{settings}    ansible_port: 9")
    wrong = wrong.replace("127.0.9.3", "127.0.9.3, service_address: '{{ ansible_facts.default_ipv4.address }}'")
    inventory = tmp_path / "hosts.yml"
    inventory.write_text(wrong)
    run = site(inventory)
    for sentence in (
        'haproxy_timeout_server of lb is 60, which has no unit: write "60s"',
        "backend_app_version of one and two is 1.1, where a text is meant: put it in quotes",
        "grafana_admin_password of lb is a number, where a text is meant: put it in quotes",
        "haproxy_timout_queue is set for every host, and there is no such setting (haproxy_timeout_queue is meant?)",
        "backend_app_image of one and two is `registry.example.com/app`; it has no tag",
        "service_address of two can't be computed",
    ):
        refused(run, sentence)
    assert "42798" not in run.stdout + run.stderr


@pytest.mark.parametrize(
    ("playbook", "arguments", "sentence"),
    [
        ("site.yml", ["--tags", "haproxi"], "This playbook has no tag `haproxi` (--tags): there are firewall,"),
        ("site.yml", ["--limit", "lb:tow"], "--limit names `tow`, which is no host and no group (`two` is meant?)"),
        ("site.yml", ["-e", "haproxy_timeout_queue=5"], 'haproxy_timeout_queue of lb is "5", which has no unit'),
        ("deploy.yml", ["-e", "service=shop"], "`shop` is no service of this inventory: there is app."),
        ("deploy.yml", ["-e", "version=latest"], "version is `latest`, which moves"),
        ("chaos.yml", ["-e", "chaos_service=shop"], "`shop` is no service of this inventory: there is app."),
        ("maintenance.yml", [], "The state was not said: write -e state=on to put a service into maintenance"),
        ("maintenance.yml", ["-e", "state=yes"], "The state is `yes`: write -e state=on"),
        ("maintenance.yml", ["-e", "state=on", "-e", "service=shop"], "`shop` is no service of this inventory"),
        ("deploy.yml", ["--tags", "haproxy"], "it has none, and always runs as a whole."),
        ("deploy.yml", ["--limit", "lb"], "--limit lb leaves out every host of the group `backends`"),
        (
            "drain.yml",
            ["--limit", "one", "-e", "target=one"],
            "--limit one leaves out every host of the group `balancers`",
        ),
        ("teardown.yml", ["--limit", "lb"], "teardown.yml takes the whole site off its hosts: leave --limit out."),
    ],
)
def test_run_that_would_do_nothing_is_refused(
    tmp_path: Path, playbook: str, arguments: list[str], sentence: str
) -> None:
    inventory = tmp_path / "hosts.yml"
    inventory.write_text(SOUND)
    refused(site(inventory, *arguments, playbook=playbook), sentence)


def test_teardown_without_a_host_that_answers_asks_nobody_and_names_them(tmp_path: Path) -> None:
    inventory = tmp_path / "hosts.yml"
    inventory.write_text(SOUND)
    run = site(inventory, playbook="teardown.yml")
    refused(run, "lb, one, two can't be reached or worked on, so nothing was removed there", "Preflight|Teardown")
    assert "TASK [Ask every host for an answer]" in run.stdout
    assert not any(f"TASK [{task}" in run.stdout for task in ("Ask]", "Take", "haproxy"))


def test_all_that_is_wrong_is_in_one_table_and_in_json_though_no_host_answers(tmp_path: Path) -> None:
    inventory = tmp_path / "hosts.yml"
    inventory.write_text(SOUND.replace("127.0.9.3", "127.0.9.2"))
    found = tmp_path / "found.json"
    arguments = ["-e", f"preflight_json={found}", "-e", "haproxy_timeout_queue=5", "-e", "verison=2"]
    run = site(inventory, *arguments, playbook="preflight.yml")
    refused(run, "6 problems, and nothing was changed. HOST WHAT IS WRONG")
    said = json.loads(found.read_text())
    assert not said["ok"]
    assert {tuple(each["hosts"]) for each in said["problems"]} >= {("one", "two"), ("lb",), ("one",), ("two",)}
    assert all(each["mend"] for each in said["problems"])
    # Without the wrong settings, site.yml takes a host out of reach for one that is left out.
    assert "Look for what somebody else set up" not in run.stdout


def test_later_start_is_refused(tmp_path: Path) -> None:
    inventory = tmp_path / "hosts.yml"
    inventory.write_text(SOUND)
    refused(site(inventory, "--start-at-task", "Say where to look"), "--start-at-task leaves out the checks")


def test_file_that_can_not_be_written_is_named(tmp_path: Path) -> None:
    inventory = tmp_path / "hosts.yml"
    inventory.write_text(SOUND)
    run = site(inventory, "-e", "preflight_json=/nowhere/found.json", "--limit", "lb", playbook="preflight.yml")
    refused(run, "preflight_json is /nowhere/found.json, which can't be written (No such file or directory)")


def test_tag_runs_its_role_with_the_checks() -> None:
    run = site(PROJECT / "inventories" / "example", "--tags", "haproxy", "--list-tasks")
    assert run.returncode == 0, run.stderr
    tasks = re.findall(r"^      (?!.*Validating arguments)(.*?)\t", run.stdout, re.MULTILINE)
    roles = {task.partition(" : ")[0] for task in tasks if " : " in task}
    assert roles == {"preflight", "haproxy"}
    assert "haproxy : configure | Write haproxy.cfg" in tasks


def test_every_role_of_the_site_has_its_tag() -> None:
    plays = yaml.safe_load((PROJECT / "playbooks" / "site.yml").read_text())
    roles = [role for play in plays for role in play.get("roles", [])]
    tags = next(play["vars"]["run_tags"] for play in plays if "run_tags" in play.get("vars", {}))
    assert {role["role"]: role["tags"] for role in roles} == {name: name for name in tags}


@pytest.mark.parametrize(
    ("program", "problem"), [("exit 1", ""), ("exit 2", ""), ("echo status: running", "It is still being set up")]
)
def test_cloud_init_that_failed_is_done_and_one_that_hangs_is_named(tmp_path: Path, program: str, problem: str) -> None:
    cloud_init = tmp_path / "cloud-init"
    cloud_init.write_text(f"#!/bin/sh\n{program}\n")
    cloud_init.chmod(0o755)
    roles = [{"ansible.builtin.import_role": {"name": "preflight", "tasks_from": name}} for name in ("host", "report")]
    (tmp_path / "play.yml").write_text(yaml.safe_dump([{"hosts": "localhost", "gather_facts": False, "tasks": roles}]))
    inventory = tmp_path / "hosts.yml"
    inventory.write_text("all: {hosts: {localhost: {ansible_connection: local, preflight_cloud_init_seconds: 1}}}\n")
    # What this machine is does not matter.
    known = {
        "__preflight_program": str(cloud_init),
        "preflight_platforms": {platform: [release] for platform, release in [platform_here()]},
        "preflight_architectures": [os.uname().machine],
        "preflight_apt_seconds": 0,
        "preflight_disk_megabytes": 0,
        "ansible_python_interpreter": sys.executable,
    }
    run = site(inventory, "-e", json.dumps(known), playbook=str(tmp_path / "play.yml"))
    assert ("still being set up" in run.stdout) is bool(problem), run.stdout
    assert problem in run.stdout


def platform_here() -> tuple[str, str]:
    """Return this machine's distribution and version, as the setting preflight_platforms names them."""
    release = dict(line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line)
    return release["ID"].strip('"').capitalize(), release.get("VERSION_ID", "").strip('"')


def test_empty_inventory_is_refused(tmp_path: Path) -> None:
    inventory = tmp_path / "hosts.yml"
    inventory.write_text("all: {}\n")
    refused(site(inventory), "The inventory has no backend")


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """Make a copy of the project whose site.yml no Ansible can read, as an old one can't read the real one."""
    project = tmp_path / "a project"
    for name in ("roles", "plugins", "playbooks", "vars_plugins", "group_vars"):
        shutil.copytree(PROJECT / name, project / name, symlinks=True)
    for name in ("ansible.cfg", "requirements.yml"):
        shutil.copy(PROJECT / name, project / name)
    (project / "site.yml").write_text("- hosts: all\n  unknown_keyword: true\n")
    (project / "hosts.yml").write_text(SOUND)
    return project


@pytest.mark.parametrize("playbook", ["site.yml", "playbooks/site.yml"])
def test_world_writable_folder_is_refused_with_one_sentence(broken: Path, playbook: str) -> None:
    broken.chmod(0o777)
    run = site(Path("hosts.yml"), project=broken, playbook=playbook)
    refused(run, f"Every user may write to '{broken}', so Ansible ignores its ansible.cfg: chmod o-w '{broken}'")
    assert "unknown_keyword" not in run.stderr


def test_run_from_another_folder_is_refused_with_one_sentence(broken: Path) -> None:
    run = site(broken / "hosts.yml", project=broken.parent, playbook=str(broken / "site.yml"))
    refused(run, f"Ansible has not read the project's ansible.cfg: start it in '{broken}', or export ANSIBLE_CONFIG")


def test_missing_collection_is_refused_with_one_sentence(broken: Path) -> None:
    with (broken / "requirements.yml").open("a") as file:
        file.write('  - name: community.missing\n    version: "1.0.0"\n')
    run = site(Path("hosts.yml"), project=broken)
    refused(run, "community.missing is not installed: ansible-galaxy collection install -r")


def test_what_guards_comes_before_what_it_guards(broken: Path) -> None:
    # In force, the settings pass; then Ansible reads the playbook.
    assert "unknown_keyword" in site(Path("hosts.yml"), project=broken).stderr


@pytest.mark.parametrize(
    ("version", "old"), [("2.9.27", True), ("2.18.6", True), ("2.19.0b1", False), ("3.0.0", False)]
)
def test_old_ansible_core_is_named(version: str, old: bool) -> None:
    assert ("is too old: 2.19 or newer is needed" in guard.version_problem(version)) == old


def test_lost_wiring_is_refused(tmp_path: Path) -> None:
    project = tmp_path / "project"
    for name in ("roles", "plugins", "playbooks"):
        shutil.copytree(PROJECT / name, project / name, symlinks=True)
    for name in ("site.yml", "ansible.cfg"):
        shutil.copy(PROJECT / name, project / name)
    inventory = tmp_path / "hosts.yml"
    inventory.write_text(SOUND)
    # The link playbooks/group_vars leads nowhere now.
    refused(site(inventory, project=project), "The project's group_vars were not loaded")


@pytest.mark.parametrize(
    ("playbook", "arguments"), [("site.yml", []), ("site.yml", ["--limit", "lb"]), ("playbooks/site.yml", [])]
)
def test_sound_inventory_reaches_the_hosts(tmp_path: Path, playbook: str, arguments: list[str]) -> None:
    inventory = tmp_path / "hosts.yml"
    inventory.write_text(SOUND)
    run = site(inventory, *arguments, playbook=playbook)
    # Nobody listens there: to be unreachable is to have passed what comes before.
    assert run.returncode == UNREACHABLE, run.stdout
    assert "Look at the host" in run.stdout
    assert "failed=1" not in run.stdout


def test_name_that_no_host_can_be_asked_for_ends_the_run(tmp_path: Path) -> None:
    inventory = tmp_path / "hosts.yml"
    inventory.write_text(SOUND.replace("127.0.9.3", "127.0.9.3, service_address: two.example"))
    run = site(inventory)
    refused(run, "The service address of two is the name `two.example`, which no host of this run could be asked for")
    # Each host's own reason is above.
    assert run.stdout.count("port 9: Connection refused. See that the host is up") == 3


@pytest.mark.parametrize("strategy", ["mitogen_or_linear", "linear"])
def test_hosts_that_do_not_answer_are_named_before_a_roll_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, strategy: str
) -> None:
    inventory = tmp_path / "hosts.yml"
    inventory.write_text(SOUND)
    monkeypatch.setenv("ANSIBLE_STRATEGY", strategy)
    run = site(inventory, playbook="playbooks/reach.yml")
    words = " ".join((run.stdout + run.stderr).split())
    assert run.returncode != 0
    # All are asked, and each gets Ansible's reason in plain words and what the roll-out makes of it.
    for host, address in (("lb", "127.0.9.1"), ("one", "127.0.9.2"), ("two", "127.0.9.3")):
        assert f"{host}: {address} port 9: Connection refused. See that the host is up" in words
        assert f"{host} can't be reached, so nothing was changed. {address} port 9: Connection refused." in words
        assert f"Or leave it out with --limit 'all:!{host}'." in words
