"""Deploy, rollback and changed settings while clients are being served: nobody may notice."""

from __future__ import annotations

import json
from pathlib import Path

import changes
import faults
import kills
import pytest
import requests
from changes import NEVER_READY, NEW, OLD, played, settings, versions
from failover import Outcome, states, under_load, wait_until_all_up
from kills import LOCK
from scenario import Scenario

BACKENDS = ("backend-1", "backend-2", "backend-3")
BUSY = ("--max-lateness", "5")


@pytest.fixture
def records(tmp_path: Path) -> Path:
    return tmp_path / "load.gz"


def log(scenario: Scenario) -> list[str]:
    """Return the lines of the balancer's log of deploys."""
    return str(scenario.host("balancer").run("cat /var/log/evenkeel/deploys.log").stdout).splitlines()


def containers(scenario: Scenario) -> dict[str, tuple[str, str]]:
    """Return each backend's container and when it was started."""
    look = "docker inspect backend_app --format '{{.Id}} {{.State.StartedAt}}'"
    return {name: tuple(scenario.host(name).check_output(look).split()) for name in BACKENDS}


def nothing_lost(outcome: Outcome) -> None:
    print(outcome)
    assert outcome.summary.valid, outcome.summary.schedule
    assert outcome.failed("GET") == outcome.failed("POST") == []
    assert outcome.longest_gap < 1
    assert set(outcome.summary.backends) == set(BACKENDS)


def nothing_left(scenario: Scenario) -> None:
    """Assert that nothing of a roll-out that failed is left: no drain, no lock, no container put aside."""
    assert versions(scenario) == {OLD}
    assert set(states(scenario).values()) == {"UP"}
    assert not scenario.host("balancer").file(LOCK).exists
    for name in BACKENDS:
        assert scenario.host(name).check_output("docker ps --all --quiet --filter name=backend_app_former") == ""


def test_deploy_and_rollback_lose_nothing(scenario: Scenario, records: Path) -> None:
    before = log(scenario)
    # What an operator has drained is rolled back too, and stays drained.
    made = changes.deploy_and_rollback(scenario, changes.drained_by_hand(scenario, "backend-2"))
    nothing_lost(under_load(scenario, records, made, seconds=0, arguments=BUSY))
    lines = log(scenario)[len(before) :]
    assert [(" deploy " in line, " rollback " in line, "result=ok" in line) for line in lines] == [
        (True, False, True),
        (False, True, True),
    ]


def test_version_that_never_gets_ready_is_undone(scenario: Scenario, records: Path) -> None:
    before = containers(scenario)
    made = changes.failed_deploy(scenario, "backend-2")
    nothing_lost(under_load(scenario, records, made, seconds=0, arguments=BUSY))
    after = containers(scenario)
    # The very containers of before. The first was swapped and put back, the third never had its turn.
    assert {name: after[name][0] == before[name][0] for name in BACKENDS} == dict.fromkeys(BACKENDS, True)
    restarted = {name for name in BACKENDS if after[name][1] != before[name][1]}
    assert restarted == {"backend-1", "backend-2"}
    nothing_left(scenario)
    assert "result=failed on backend-2" in log(scenario)[-1]


def test_backend_lost_during_its_swap_is_named_and_the_rest_undone(scenario: Scenario) -> None:
    before = containers(scenario)
    # However late the cut comes: it would wait longer than that for readiness.
    patient = settings({"backend-2": NEVER_READY | {"backend_app_ready_seconds": 120}})
    with patient as bad, faults.power_cut_at_drain(scenario, "backend-2"):
        said = played(scenario, "deploy.yml", "-i", bad, "-e", f"backend_app_version={NEW}", wanted=2)
    assert "The roll-out failed on backend-2 and was not wholly undone: backend-2 could not be put back in full" in said
    assert "backend-2 can't be reached any more" in said
    assert "result=failed on backend-2" in log(scenario)[-1]
    # The lock is free, and what the lost host may lack, the next run brings.
    played(scenario, "deploy.yml")
    wait_until_all_up(scenario)
    nothing_left(scenario)
    after = containers(scenario)
    assert [after[name][0] == before[name][0] for name in ("backend-1", "backend-3")] == [True, True]
    assert after["backend-1"][1] != before["backend-1"][1], "it was swapped before, and put back"


def test_changed_settings_and_backends_lose_nothing(scenario: Scenario, records: Path) -> None:
    made = changes.changed_site(scenario, "backend-3")
    nothing_lost(under_load(scenario, records, made, seconds=0, arguments=BUSY))


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


def test_rollback_without_a_container_is_one_sentence(scenario: Scenario) -> None:
    host = scenario.host("backend-3")
    host.check_output("docker rename backend_app elsewhere")
    try:
        said = played(scenario, "rollback.yml", wanted=2)
    finally:
        host.check_output("docker rename elsewhere backend_app")
    assert "backend-3 has no container of the application" in said
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
        (["site.yml", "-e", "backend_app_threads=120"], "drain | Take the host out at every balancer", ["site.yml"]),
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
        assert requests.get(url, timeout=10).status_code == 200
        # Said on the command line, it beat what a rollback was about to start.
        said = played(scenario, "rollback.yml", "-e", f"backend_app_image={image}")
        assert f"{image} -> {OLD}" in said
        running = {
            kills.on_host(scenario, name, "docker inspect backend_app --format '{{.Config.Image}}'")
            for name in BACKENDS
        }
        assert len(running) == 1
        assert f"/backend_app:{OLD}-" in running.pop()
    assert "{ path_beg /sleep/ }" in balancer.content_string


def test_front_that_does_not_serve_ends_the_run(scenario: Scenario) -> None:
    nothing_ready = ("haproxy_check_path=/nowhere", "503")
    too_late = ("haproxy_timeout_server=30ms backend_app_sleep_max_seconds=0", "504")
    try:
        for setting, answer in (nothing_ready, too_late):
            said = played(scenario, "site.yml", *changes.BALANCER, "-e", setting, wanted=2)
            assert f"did not answer as wanted within 10 s: last it said {answer}" in said
    finally:
        played(scenario, "site.yml", *changes.BALANCER)
