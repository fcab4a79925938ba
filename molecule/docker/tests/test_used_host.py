"""A host that somebody used before: their engine's settings, containers, apt entries and holds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from scenario import PROJECT, Scenario

CONVERGE = "molecule/docker/converge.yml"
SETTINGS = "/etc/docker/daemon.json"


@pytest.fixture
def host(scenario: Scenario) -> Any:
    return scenario.host("docker-1")


def words(output: str) -> str:
    """Return the output without its line breaks."""
    return " ".join(output.split())


@pytest.fixture
def theirs(host: Any) -> Iterator[dict[str, Any]]:
    """An engine that was set up by hand, with a data root and a running container; returns its settings."""
    former = host.check_output("cat %s", SETTINGS)
    mirrors = json.loads(former).get("registry-mirrors", [])
    settings = {"data-root": "/srv/docker", "registry-mirrors": mirrors}
    image = yaml.safe_load((PROJECT / "roles/pushgateway/defaults/main.yml").read_text())["pushgateway_image"]
    host.check_output(
        "systemctl stop docker docker.socket; rm -rf /var/lib/evenkeel/docker %s.before-evenkeel", SETTINGS
    )
    write(host, SETTINGS, json.dumps(settings))
    host.check_output("systemctl reset-failed docker; systemctl start docker; docker run -d --name web %s", image)
    yield settings
    host.check_output("docker rm -f web; systemctl stop docker docker.socket; rm -rf /srv/docker")
    host.check_output("rm -rf /var/lib/evenkeel/docker %s.before-evenkeel", SETTINGS)
    write(host, SETTINGS, former)
    host.check_output("systemctl reset-failed docker; systemctl start docker")


def write(host: Any, path: str, text: str) -> None:
    """Write a file on the host."""
    host.check_output("printf %%s %s > %s", text, path)


def started(host: Any) -> str:
    return str(host.check_output("docker inspect --format '{{.State.StartedAt}} {{.State.Running}}' web"))


def test_settings_and_containers_of_others_stay(scenario: Scenario, host: Any, theirs: dict[str, Any]) -> None:
    before = started(host)
    run = scenario.play(CONVERGE)
    assert run.returncode == 0, run.stdout
    assert started(host) == before
    settings = json.loads(host.check_output("cat %s", SETTINGS))
    assert settings["data-root"] == "/srv/docker"
    assert settings["log-driver"] == "json-file"
    assert host.check_output("docker info --format '{{.LiveRestoreEnabled}} {{.DockerRootDir}}'") == "true /srv/docker"
    assert json.loads(host.check_output("cat %s.before-evenkeel", SETTINGS)) == theirs
    # What is ours goes, what is theirs stays; the containers are never out of sight.
    run = scenario.play(
        CONVERGE, "-e", '{"docker_daemon_options": {"live-restore": true, "data-root": "/var/lib/docker"}}'
    )
    assert run.returncode == 2
    assert "the engine would find none of its containers" in words(run.stdout)
    run = scenario.play(CONVERGE, "-e", '{"docker_daemon_options": {"live-restore": true}}')
    assert run.returncode == 0, run.stdout
    assert json.loads(host.check_output("cat %s", SETTINGS)) == {**theirs, "live-restore": True}
    assert started(host) == before


def test_value_that_others_set_otherwise_is_refused(scenario: Scenario, host: Any, theirs: dict[str, Any]) -> None:
    write(host, SETTINGS, json.dumps({**theirs, "log-driver": "local"}))
    pid = host.check_output("systemctl show docker --property=MainPID")
    run = scenario.play(CONVERGE)
    assert run.returncode == 2
    assert 'log-driver is "local" there, and this project needs "json-file"' in words(run.stdout)
    assert "changed=0" in run.stdout
    assert host.check_output("systemctl show docker --property=MainPID") == pid
    assert host.check_output("ls /etc/docker") == "daemon.json"


@pytest.fixture
def without_entry(host: Any) -> Iterator[tuple[str, str]]:
    """Take this project's apt entry away; returns its URI and suite."""
    sources = host.check_output("cat /etc/apt/sources.list.d/docker.sources")
    fields = dict(line.split(": ", 1) for line in sources.splitlines() if ": " in line)
    host.check_output("mkdir /root/aside; mv /etc/apt/sources.list.d/docker.sources /root/aside")
    host.check_output("cp /etc/apt/keyrings/docker.asc /root/aside/")
    yield fields["URIs"], fields["Suites"]
    host.check_output("rm -f /etc/apt/sources.list.d/somebody* /etc/apt/keyrings/somebody*")
    host.check_output(
        "cp /root/aside/docker.sources /etc/apt/sources.list.d/; cp /root/aside/docker.asc /etc/apt/keyrings/"
    )
    host.check_output("rm -r /root/aside; apt-get update -qq")


def test_repository_of_others_is_used_as_it_is(scenario: Scenario, host: Any, without_entry: tuple[str, str]) -> None:
    uri, suite = without_entry
    entry = f"deb [signed-by=/etc/apt/keyrings/somebody.asc] {uri}/ {suite} stable"
    host.check_output("cp /etc/apt/keyrings/docker.asc /etc/apt/keyrings/somebody.asc; apt-get update -qq")
    write(host, "/etc/apt/sources.list.d/somebody.list", entry)
    run = scenario.play(CONVERGE)
    assert run.returncode == 0, run.stdout
    assert host.check_output("ls /etc/apt/sources.list.d | grep -v '^debian\\|^ubuntu'") == "somebody.list"
    assert host.check_output("cat /etc/apt/sources.list.d/somebody.list") == entry
    assert host.run("apt-get update").rc == 0


def test_repository_that_cant_be_read_leaves_apt_as_it_was(
    scenario: Scenario, host: Any, without_entry: tuple[str, str]
) -> None:
    uri, suite = without_entry
    run = scenario.play(CONVERGE, "-e", "docker_apt_suite=nowhere")
    assert run.returncode == 2
    assert f"The package lists of {uri} nowhere can't be read, so apt was put back as it was" in words(run.stdout)
    assert host.run("ls /etc/apt/sources.list.d/docker.sources").rc != 0
    assert host.run("apt-get update").rc == 0
    assert suite


def test_held_package_is_named_before_any_change(scenario: Scenario, host: Any) -> None:
    host.check_output("apt-mark hold docker-ce")
    try:
        run = scenario.play(CONVERGE, "-e", "docker_version=1.2.3")
    finally:
        host.check_output("apt-mark unhold docker-ce")
    assert run.returncode == 2
    assert "apt-mark unhold docker-ce" in words(run.stdout)
    assert "changed=0" in run.stdout


def test_engine_that_cant_start_says_why(scenario: Scenario, host: Any) -> None:
    folder = "/etc/systemd/system/docker.service.d"
    host.check_output("systemctl stop docker docker.socket")
    write(host, f"{folder}/broken.conf", "[Service]\nExecStart=\nExecStart=/usr/bin/env dockerd --no-such-flag\n")
    try:
        run = scenario.play(CONVERGE)
    finally:
        host.check_output(
            "rm %s/broken.conf; systemctl daemon-reload; systemctl reset-failed docker docker.socket", folder
        )
    assert run.returncode == 2
    assert "Docker's engine does not start. Its journal ends:" in words(run.stdout)
    assert "no-such-flag" in run.stdout
    run = scenario.play(CONVERGE)
    assert run.returncode == 0, run.stdout
    assert host.service("docker").is_running


@pytest.fixture
def distributions_engine(host: Any) -> str:
    """The distribution's engine in place of Docker's, on a host that this project never saw; returns its container.

    The test that adopts it leaves the host as the project sets it up.
    """
    mirrors = json.loads(host.check_output("cat %s", SETTINGS)).get("registry-mirrors", [])
    image = yaml.safe_load((PROJECT / "roles/pushgateway/defaults/main.yml").read_text())["pushgateway_image"]
    ours = "docker-ce docker-ce-cli containerd.io docker-buildx-plugin docker-compose-plugin"
    host.check_output(f"DEBIAN_FRONTEND=noninteractive apt-get purge -qq {ours}")
    host.check_output(
        "rm -r /var/lib/evenkeel/docker /etc/apt/sources.list.d/docker.sources /etc/apt/keyrings/docker.asc"
    )
    host.check_output("rm -rf /etc/docker && mkdir /etc/docker && apt-get update -qq")
    write(host, SETTINGS, json.dumps({"registry-mirrors": mirrors}))
    # From Debian 13 on the client is a package of its own.
    client = "docker-cli" if host.run("apt-cache show docker-cli").rc == 0 else ""
    theirs = f"docker.io docker-buildx {client}"
    host.check_output(f"DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends {theirs}")
    host.check_output("docker run -d --name web %s", image)
    return str(host.check_output("docker inspect --format '{{.Id}}' web"))


def test_distributions_engine_is_replaced_when_said_and_its_containers_run_again(
    scenario: Scenario, host: Any, distributions_engine: str
) -> None:
    before = started(host)
    run = scenario.play(CONVERGE)
    assert run.returncode == 2
    assert "Somebody else's engine is here (docker.io " in words(run.stdout)
    assert "with 1 container (web (" in words(run.stdout)
    assert "which stop meanwhile and are started again. docker_adopt: true replaces it by docker-ce." in words(
        run.stdout
    )
    assert "changed=0" in run.stdout
    assert started(host) == before
    run = scenario.play(CONVERGE, "-e", "docker_adopt=true")
    assert run.returncode == 0, run.stdout
    assert host.package("docker-ce").is_installed
    assert not host.package("docker.io").is_installed
    assert (
        host.check_output("docker inspect --format '{{.Id}} {{.State.Running}}' web") == f"{distributions_engine} true"
    )
    run = scenario.play(CONVERGE)
    assert run.returncode == 0, run.stdout
    assert "changed=0" in run.stdout
    host.check_output("docker rm -f web")
