"""What operators do to the running site, as context managers like the faults: done on entry, checked, put back."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import requests
import yaml
from scenario import PROJECT, Scenario, wait_until
from under_load import decided_states, states

OLD, NEW = "1.0.0", "2.0.0"
# The image that every backend has already: it starts, logs, and never answers on the application's port.
NEVER_READY = {"backend_app_image": "docker.io/prom/pushgateway:v1.11.4", "backend_app_ready_seconds": 8}
GUIDE = PROJECT / "bench" / "guide.yml"
# HAProxy alone; monitoring is not what such a test looks at.
BALANCER = ("--limit", "balancer", "--tags", "haproxy")


def played(scenario: Scenario, *arguments: str, wanted: int = 0, inventory: Path | None = None) -> str:
    """Run a playbook, which must end with the exit code ``wanted``; return what it said, in one line."""
    run = scenario.play(*arguments, inventory=inventory)
    assert run.returncode == wanted, run.stdout
    return " ".join(run.stdout.split())


@contextmanager
def rolled(scenario: Scenario, *arguments: str) -> Iterator[None]:
    """A playbook runs to its end."""
    played(scenario, *arguments)
    yield


@contextmanager
def settings(hosts: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Settings of single hosts, as an inventory to be named after the scenario's own (``-i``)."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "hosts.yml"
        path.write_text(yaml.safe_dump({"all": {"hosts": {name: dict(values) for name, values in hosts.items()}}}))
        yield str(path)


@contextmanager
def without(scenario: Scenario, backend: str) -> Iterator[Path]:
    """The scenario's inventory without one of its backends."""
    inventory = yaml.safe_load(scenario.inventory.read_text())
    del inventory["all"]["children"]["backends"]["hosts"][backend]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "hosts.yml"
        path.write_text(yaml.safe_dump(inventory))
        for beside in ("group_vars", "host_vars"):
            if (scenario.inventory.parent / beside).exists():
                (path.parent / beside).symlink_to((scenario.inventory.parent / beside).resolve())
        yield path


def versions(scenario: Scenario) -> set[str]:
    """Return the versions that answer, each without its hash."""
    url = f"http://{scenario.addresses['balancer']}/"
    return {requests.get(url, timeout=60).headers["X-App-Version"].partition("-")[0] for _ in range(9)}


def containers(scenario: Scenario) -> dict[str, tuple[str, str]]:
    """Return each backend's container and when it was started."""
    look = "docker inspect backend_app --format '{{.Id}} {{.State.StartedAt}}'"
    return {name: tuple(scenario.host(name).check_output(look).split()) for name in scenario.backends}


def deploys_log(scenario: Scenario) -> list[str]:
    """Return the lines of the balancer's log of deploys."""
    return str(scenario.host("balancer").run("cat /var/log/evenkeel/deploys.log").stdout).splitlines()


def expect(found: object, wanted: object) -> None:
    """Fail unless what was found is what was wanted."""
    assert found == wanted, f"{found!r} instead of {wanted!r}"


@contextmanager
def drained_by_hand(scenario: Scenario, name: str) -> Iterator[None]:
    """A backend gets no requests because an operator says so, whatever happens meanwhile."""
    played(scenario, "drain.yml", "-e", f"target={name}")
    said = played(scenario, "status.yml")
    assert "DRAIN" in said, said
    yield
    expect(states(scenario)[name].partition(" ")[0], "DRAIN")
    played(scenario, "ready.yml", "-e", f"target={name}")
    expect(decided_states(scenario)[name], "UP")


@contextmanager
def deploy_and_rollback(
    scenario: Scenario, meanwhile: AbstractContextManager[None] | None = None, batch: int = 1
) -> Iterator[None]:
    """A new version is brought out, some hosts at a time, then taken back, the latter with something else going on."""
    said = played(scenario, "deploy.yml", "-e", f"backend_app_version={NEW}", "-e", f"deploy_batch={batch}")
    expect(versions(scenario), {NEW})
    # The hosts of a batch go together.
    expect(said.count("swap_service | Note which service is at work"), math.ceil(len(scenario.backends) / batch))
    with meanwhile or nullcontext():
        played(scenario, "rollback.yml")
    expect(versions(scenario), {OLD})
    yield


@contextmanager
def foreign_image(scenario: Scenario) -> Iterator[str]:
    """The application's own image under a name that says nothing of it; it is on every backend, and pulled nowhere."""
    name = "site.example/app:1"
    hosts = [scenario.host(host) for host in scenario.backends]
    for host in hosts:
        host.check_output(f"docker tag $(docker inspect --format '{{{{.Image}}}}' backend_app) {name}")
    yield name
    for host in hosts:
        host.check_output(f"docker image rm {name}")


@contextmanager
def failed_deploy(scenario: Scenario, victim: str, batch: int = 1) -> Iterator[None]:
    """A new version is brought out that never gets ready on one host: it is undone everywhere."""
    new = ["-e", f"backend_app_version={NEW}", "-e", f"deploy_batch={batch}"]
    with settings({victim: NEVER_READY}) as bad:
        said = played(scenario, "deploy.yml", "-i", bad, *new, wanted=2)
    assert f"The roll-out failed on {victim} and was undone: the old version runs everywhere" in said, said
    # Of the container that was never ready: it is gone by now.
    assert "starting pushgateway" in said.partition("The container's last log lines:")[2], said
    yield


@contextmanager
def changed_site(scenario: Scenario, leaving: str) -> Iterator[None]:
    """Settings of application and HAProxy are changed, its port too, a backend is taken out, then all is as it was."""
    changed = json.dumps({"backend_app_threads": 64, "backend_app_port": 8080, "haproxy_timeout_queue": "6s"})
    everybody = set(states(scenario))
    main_process = "systemctl show haproxy --property=MainPID"
    started = scenario.host("balancer").check_output(main_process)
    with without(scenario, leaving) as inventory:
        played(scenario, "site.yml", "-e", changed, inventory=inventory)
    expect(set(states(scenario)), everybody - {leaving})
    played(scenario, "site.yml")
    expect(set(states(scenario)), everybody)
    # Reloaded, not restarted.
    expect(scenario.host("balancer").check_output(main_process), started)
    yield


@contextmanager
def guide(scenario: Scenario) -> Iterator[None]:
    """The balancer has the settings of the guide that this project replaces."""
    try:
        played(scenario, "site.yml", *BALANCER, "-e", f"@{GUIDE}")
        yield
    finally:
        played(scenario, "site.yml", *BALANCER)


@contextmanager
def reloads(scenario: Scenario, dead: str, count: int, pause: float = 0) -> Iterator[None]:
    """HAProxy is reloaded many times, with seconds between, while a server is dead; it must remember that."""
    wait_until(lambda: states(scenario)[dead] == "DOWN", "the balancer knows")
    for _ in range(count):
        scenario.host("balancer").check_output(f"systemctl reload haproxy && sleep {pause}")
        expect(states(scenario)[dead], "DOWN")
    yield
