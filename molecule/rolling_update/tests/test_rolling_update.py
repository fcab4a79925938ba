"""Roll-outs that are refused, killed, or lose a host: what they say, and what the next run mends."""

from __future__ import annotations

import json
from pathlib import Path

import changes
import faults
import kills
import pytest
import requests
from changes import NEVER_READY, NEW, OLD, containers, deploys_log, played, settings, versions
from kills import LOCK
from scenario import Scenario
from under_load import decided_states, wait_until_all_up

# Nothing is watched here.
SITE = ["site.yml", "--skip-tags", "cpu_monitor,prometheus,grafana"]


def test_backend_lost_during_its_swap_is_named_and_the_rest_undone(scenario: Scenario) -> None:
    before = containers(scenario)
    # However late the cut comes: it would wait longer than that for readiness.
    patient = settings({"backend-2": NEVER_READY | {"backend_app_ready_seconds": 120}})
    with patient as bad, faults.power_cut_at_drain(scenario, "backend-2"):
        said = played(scenario, "deploy.yml", "-i", bad, "-e", f"backend_app_version={NEW}", wanted=2)
    assert "The roll-out failed on backend-2 and was not wholly undone: backend-2 could not be put back in full" in said
    assert "backend-2 can't be reached any more" in said
    assert "result=failed on backend-2" in deploys_log(scenario)[-1]
    # The lock is free, and what the lost host may lack, the next run brings.
    played(scenario, "deploy.yml")
    wait_until_all_up(scenario)
    assert (versions(scenario), kills.blemishes(scenario)) == ({OLD}, [])
    after = containers(scenario)
    assert after["backend-1"][0] == before["backend-1"][0]
    assert after["backend-1"][1] != before["backend-1"][1], "it was swapped before, and put back"


def test_second_deploy_is_refused(scenario: Scenario) -> None:
    balancer = scenario.host("balancer")
    held = json.dumps({"holder": "somebody@elsewhere", "since": "2026-01-01T00:00:00Z", "token": "other"})
    balancer.check_output("echo %s >%s", held, LOCK)
    try:
        said = played(scenario, "deploy.yml", "-e", "backend_app_version=3.0.0", wanted=2)
        assert "somebody@elsewhere" in said
        assert "No container was replaced." in said
        # What changes nothing says so too, and what to type.
        said = played(scenario, "deploy.yml")
        assert "somebody@elsewhere has held the lock since 2026-01-01T00:00:00Z" in said
        played(scenario, "deploy.yml", "-e", "deploy_break_lock=true")
        assert not balancer.file(LOCK).exists
    finally:
        balancer.check_output("rm -f %s", LOCK)
    assert versions(scenario) == {OLD}


def test_target_that_is_none_is_refused(scenario: Scenario) -> None:
    said = played(scenario, "drain.yml", "-e", "target=backend-9", wanted=2)
    assert "`backend-9` is no backend of this inventory" in said


def test_hosts_are_reached_by_ipv6_and_by_a_name(scenario: Scenario) -> None:
    balancer = scenario.host("balancer")
    servers = [
        line for line in balancer.file("/etc/haproxy/haproxy.cfg").content_string.splitlines() if "server b" in line
    ]
    six, name = scenario.addresses["backend-1"], scenario.addresses["backend-2"]
    four = balancer.check_output(f"getent ahostsv4 {name}").split()[0]
    assert [line.split()[1:3] for line in servers] == [["backend-1", f"[{six}]:80"], ["backend-2", f"{four}:80"]]
    assert set(decided_states(scenario).values()) == {"UP"}
    # Clients come in by IPv6 as well.
    door = balancer.check_output("ip -6 -oneline address show dev eth0 scope global").split()[3].partition("/")[0]
    assert requests.get(f"http://[{door}]/", timeout=60).status_code == 200


def test_name_that_no_host_knows_is_one_sentence(scenario: Scenario, tmp_path: Path) -> None:
    report = tmp_path / "preflight.json"
    with changes.settings({"backend-2": {"service_address": "backend-2.invalid"}}) as wrong:
        played(scenario, "preflight.yml", "-i", wrong, "-e", f"preflight_json={report}", wanted=2)
    (problem,) = json.loads(report.read_text())["problems"]
    begin = "The service address of backend-2 is the name `backend-2.invalid`, which has no address ("
    assert problem["what"].startswith(begin)
    # Its own word is not asked for.
    assert problem["what"].endswith(") on balancer and backend-1.")
    assert problem["mend"].startswith("Let DNS, or /etc/hosts there, say the one address")


def test_rollback_without_a_container_is_one_sentence(scenario: Scenario) -> None:
    host = scenario.host("backend-2")
    host.check_output("docker rename backend_app elsewhere")
    try:
        said = played(scenario, "rollback.yml", wanted=2)
    finally:
        host.check_output("docker rename elsewhere backend_app")
    assert "backend-2 has no container of the application" in said
    assert "Nothing was changed." in said


# `make bench-kills` does it at many more moments.
@pytest.mark.parametrize(
    ("killed", "done", "plain"),
    [
        # Between two containers: nothing runs, and the host is drained.
        (
            ["deploy.yml", "-e", f"backend_app_version={NEW}"],
            "replace | Put the former container aside",
            ["deploy.yml"],
        ),
        # The plain run finds nothing to replace: what is there is as wanted, and drained.
        ([*SITE, "-e", "backend_app_threads=120"], "drain | Take the host out at every balancer", SITE),
    ],
)
def test_killed_run_is_mended_by_the_next(scenario: Scenario, killed: list[str], done: str, plain: list[str]) -> None:
    assert kills.killed(scenario, killed, kills.after(done))
    assert kills.mended(scenario, *plain) == []
    assert versions(scenario) == {OLD}


def test_rollback_that_was_killed_is_finished(scenario: Scenario) -> None:
    played(scenario, "deploy.yml", "-e", f"backend_app_version={NEW}")
    assert kills.killed(scenario, ["rollback.yml"], kills.after("replace | Put the former container aside"))
    assert kills.mended(scenario, "rollback.yml") == []
    assert versions(scenario) == {OLD}


def test_limits_of_haproxy_follow_what_runs(scenario: Scenario) -> None:
    url = f"http://{scenario.addresses['balancer']}/sleep/1/x"
    balancer = scenario.host("balancer").file("/etc/haproxy/haproxy.cfg")
    assert "{ path_beg /sleep/ }" in balancer.content_string
    with changes.foreign_image(scenario) as image:
        played(scenario, "deploy.yml", "-e", f"backend_app_image={image}")
        assert "{ path_beg /sleep/ }" not in balancer.content_string
        assert requests.get(url, timeout=60).status_code == 200
        # Said on the command line, it beat what a rollback was about to start.
        said = played(scenario, "rollback.yml", "-e", f"backend_app_image={image}")
        assert f"{image} -> {OLD}" in said
        running = {
            kills.on_host(scenario, name, "docker inspect backend_app --format '{{.Config.Image}}'")
            for name in scenario.backends
        }
        assert len(running) == 1
        assert f"/backend_app:{OLD}-" in running.pop()
    assert "{ path_beg /sleep/ }" in balancer.content_string
