"""The engine: where it comes from, how it is configured, and that a bad configuration never reaches it."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from scenario import PROJECT, Scenario

CONVERGE = "molecule/docker/converge.yml"


@pytest.fixture
def host(scenario: Scenario) -> Any:
    return scenario.host("docker-1")


def test_engine_comes_from_the_signed_repository(scenario: Scenario, host: Any) -> None:
    variables = yaml.safe_load(scenario.inventory.read_text())["all"]["vars"]
    sources = host.file("/etc/apt/sources.list.d/docker.sources").content_string
    assert "Signed-By: /etc/apt/keyrings/docker.asc" in sources
    assert "trusted" not in sources.lower()
    policy = host.check_output("apt-cache policy docker-ce")
    installed = next(line.split()[1] for line in policy.splitlines() if "Installed:" in line)
    # Where upstream answers, the inventory names no version and the role's own holds.
    role = yaml.safe_load((PROJECT / "roles/docker/defaults/main.yml").read_text())
    assert installed.startswith(f"5:{variables.get('docker_version', role['docker_version'])}-")
    uri = next(line.split()[1] for line in sources.splitlines() if line.startswith("URIs:"))
    assert uri in policy


def test_engine_has_the_configuration(host: Any) -> None:
    info = json.loads(host.check_output("docker info --format '{{json .}}'"))
    assert info["LiveRestoreEnabled"] is True
    assert info["LoggingDriver"] == "json-file"
    options = json.loads(host.file("/etc/docker/daemon.json").content_string)
    assert options["log-opts"] == {"max-file": "3", "max-size": "10m"}


def test_engine_runs_at_boot(host: Any) -> None:
    assert host.service("docker").is_enabled
    assert host.service("docker").is_running


def test_configuration_left_unread_by_a_run_cut_off_is_applied(scenario: Scenario, host: Any) -> None:
    pid = host.check_output("systemctl show docker --property=MainPID")
    host.check_output("touch /etc/docker/daemon.json")
    run = scenario.play(CONVERGE)
    assert run.returncode == 0, run.stdout
    assert host.check_output("systemctl show docker --property=MainPID") != pid


def test_package_lists_left_unread_by_a_run_cut_off_are_read(scenario: Scenario, host: Any) -> None:
    host.check_output("find /var/lib/apt/lists -type f -delete")
    run = scenario.play(CONVERGE)
    assert run.returncode == 0, run.stdout
    assert "docker" in host.check_output("apt-get indextargets --format '$(FILENAME)'")


def test_restart_can_be_left_to_the_caller(scenario: Scenario, host: Any) -> None:
    pid = host.check_output("systemctl show docker --property=MainPID")
    host.check_output("touch /etc/docker/daemon.json")
    run = scenario.play(CONVERGE, "-e", "docker_leave_running=true")
    assert run.returncode == 0, run.stdout
    assert host.check_output("systemctl show docker --property=MainPID") == pid
    run = scenario.play(CONVERGE, "-e", "docker_leave_running=false")
    assert run.returncode == 0, run.stdout
    assert host.check_output("systemctl show docker --property=MainPID") != pid


def test_bad_configuration_never_goes_live(scenario: Scenario, host: Any) -> None:
    before = host.file("/etc/docker/daemon.json").content_string
    pid = host.check_output("systemctl show docker --property=MainPID")
    run = scenario.play(
        CONVERGE, "-e", '{"docker_daemon_options": {"log-driver": "json-file", "no-such-option": true}}'
    )
    assert run.returncode == 2, run.stdout
    assert "no-such-option" in run.stdout
    assert host.file("/etc/docker/daemon.json").content_string == before
    assert host.check_output("systemctl show docker --property=MainPID") == pid
