"""Deploy, rollback and changed settings while clients are being served: nobody may notice."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests
import yaml
from failover import Outcome, states, under_load
from scenario import Scenario

BACKENDS = ("backend-1", "backend-2", "backend-3")
BUSY = ("--max-lateness", "5")
LOCK = "/run/evenkeel-deploy.lock"
# Ready never: it ends as soon as it is started.
NEVER_READY = "backend_app_image=docker.io/library/python:3.13-slim-trixie backend_app_ready_seconds=3"


@pytest.fixture
def records(tmp_path: Path) -> Path:
    return tmp_path / "load.gz"


@contextmanager
def played(scenario: Scenario, *arguments: str, wanted: int = 0, inventory: Path | None = None) -> Iterator[str]:
    """Run a playbook, which must end with the exit code ``wanted``."""
    run = scenario.play(*arguments, inventory=inventory)
    assert run.returncode == wanted, run.stdout
    yield " ".join(run.stdout.split())


def versions(scenario: Scenario) -> set[str]:
    """Return the versions that answer, each without its hash."""
    url = f"http://{scenario.addresses['balancer']}/"
    return {requests.get(url, timeout=5).headers["X-App-Version"].partition("-")[0] for _ in range(9)}


def log(scenario: Scenario) -> list[str]:
    """Return the lines of the balancer's log of deploys."""
    return str(scenario.host("balancer").run("cat /var/log/evenkeel/deploys.log").stdout).splitlines()


def nothing_lost(outcome: Outcome) -> None:
    print(outcome)
    assert outcome.summary.valid, outcome.summary.schedule
    assert outcome.failed("GET") == outcome.failed("POST") == []
    assert set(outcome.summary.backends) == set(BACKENDS)


def test_deploy_and_rollback_lose_nothing(scenario: Scenario, records: Path) -> None:
    before = log(scenario)

    @contextmanager
    def there_and_back() -> Iterator[None]:
        with played(scenario, "deploy.yml", "-e", "backend_app_version=2.0.0"):
            assert versions(scenario) == {"2.0.0"}
        with played(scenario, "rollback.yml"):
            assert versions(scenario) == {"1.0.0"}
        yield

    nothing_lost(under_load(scenario, records, there_and_back(), seconds=0, arguments=BUSY))
    lines = log(scenario)[len(before) :]
    assert [(" deploy " in line, " rollback " in line, "result=ok" in line) for line in lines] == [
        (True, False, True),
        (False, True, True),
    ]


def test_version_that_never_gets_ready_is_undone(scenario: Scenario, records: Path) -> None:
    @contextmanager
    def failed_deploy() -> Iterator[None]:
        with played(scenario, "deploy.yml", "-e", NEVER_READY, wanted=2) as said:
            assert "The roll-out failed on backend-1 and was undone" in said
            assert "The container's last log lines" in said
        yield

    nothing_lost(under_load(scenario, records, failed_deploy(), seconds=0, arguments=BUSY))
    assert versions(scenario) == {"1.0.0"}
    assert set(states(scenario).values()) == {"UP"}
    assert "result=failed on backend-1" in log(scenario)[-1]
    for name in BACKENDS:
        assert scenario.host(name).check_output("docker ps --all --quiet --filter name=backend_app_former") == ""


def test_changed_settings_and_backends_lose_nothing(scenario: Scenario, records: Path, tmp_path: Path) -> None:
    inventory = yaml.safe_load(scenario.inventory.read_text())
    del inventory["all"]["children"]["backends"]["hosts"]["backend-3"]
    smaller = tmp_path / "hosts.yml"
    smaller.write_text(yaml.safe_dump(inventory))
    changed = json.dumps({"backend_app_threads": 64, "haproxy_timeout_queue": "6s"})

    @contextmanager
    def changes() -> Iterator[None]:
        # One backend fewer and other settings for the rest, then everything as it was.
        with played(scenario, "site.yml", "-e", changed, inventory=smaller):
            assert set(states(scenario)) == {"backend-1", "backend-2"}
        with played(scenario, "site.yml"):
            assert set(states(scenario)) == set(BACKENDS)
        yield

    nothing_lost(under_load(scenario, records, changes(), seconds=0, arguments=BUSY))


def test_second_deploy_is_refused(scenario: Scenario) -> None:
    balancer = scenario.host("balancer")
    held = json.dumps({"holder": "somebody@elsewhere", "since": "2026-01-01T00:00:00Z", "token": "other"})
    balancer.check_output("echo %s >%s", held, LOCK)
    try:
        with played(scenario, "deploy.yml", "-e", "backend_app_version=3.0.0", wanted=2) as said:
            assert "somebody@elsewhere" in said
            assert "Nothing was changed." in said
    finally:
        balancer.check_output("rm %s", LOCK)
    assert versions(scenario) == {"1.0.0"}


def test_backend_is_drained_and_readied(scenario: Scenario) -> None:
    with played(scenario, "drain.yml", "-e", "target=backend-2"):
        assert states(scenario)["backend-2"].startswith("DRAIN")
    with played(scenario, "status.yml") as said:
        assert "backend-2 1.0.0" in said
        assert "DRAIN" in said
    with played(scenario, "ready.yml", "-e", "target=backend-2"):
        assert states(scenario)["backend-2"] == "UP"
    with played(scenario, "drain.yml", "-e", "target=backend-9", wanted=2) as said:
        assert "`backend-9` is no backend of this inventory" in said
