"""The application in its container: what it answers, how much at once, with which rights, how it is replaced."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml
from scenario import PROJECT, Scenario, wait_until

CONVERGE = "molecule/backend_app/converge.yml"
RELEASES = "/var/lib/evenkeel/backend_app/releases.json"
AT_ONCE = 100


@pytest.fixture
def url(scenario: Scenario) -> str:
    return f"http://{scenario.addresses['backend-app-1']}:8081"


@pytest.fixture
def host(scenario: Scenario) -> Any:
    return scenario.host("backend-app-1")


def container(host: Any) -> dict[str, Any]:
    """Return what the engine knows of the container."""
    found: dict[str, Any] = json.loads(host.check_output("docker inspect backend_app"))[0]
    return found


def metric(url: str, name: str) -> float:
    """Return a metric without labels."""
    lines = requests.get(f"{url}/metrics", timeout=60).text.splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith(f"{name} ")))


def test_answers_carry_name_and_version(url: str, host: Any) -> None:
    answer = requests.get(f"{url}/", timeout=60)
    assert answer.headers["X-Backend"] == answer.json()["host"] == "somebody"
    assert answer.headers["X-App-Version"] == container(host)["Config"]["Image"].rpartition(":")[2]


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_probes_answer(url: str, path: str) -> None:
    assert requests.get(url + path, timeout=60).status_code == 200


def test_limits_are_settings(url: str) -> None:
    assert requests.get(f"{url}/factorial/20", timeout=60).json()["factorial"] == "2432902008176640000"
    refused = requests.get(f"{url}/factorial/21", timeout=60)
    assert (refused.status_code, refused.json()["error"]) == (400, "n must be a whole number from 0 to 20.")
    refused = requests.get(f"{url}/sleep/25.5/x", timeout=60)
    assert (refused.status_code, refused.json()["error"]) == (400, "seconds must be a number from 0 to 25.")


def test_a_hundred_slow_requests_run_at_once(url: str) -> None:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        pending = [pool.submit(requests.get, f"{url}/sleep/20/x", timeout=60) for _ in range(AT_ONCE)]
        # Not a matter of time: a server with fewer workers than that never reaches the number. The request that asks
        # for the metric counts itself.
        wait_until(lambda: metric(url, "backend_app_requests_running") > AT_ONCE, f"{AT_ONCE} requests run at once")
        assert [request.result().status_code for request in pending] == [200] * AT_ONCE


def test_metrics_add_up_over_all_workers(url: str) -> None:
    def requests_counted() -> float:
        series = 'backend_app_requests_total{endpoint="/factorial/<n>",method="GET",status="200"}'
        lines = requests.get(f"{url}/metrics", timeout=60).text.splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(series))

    before = requests_counted()
    for _ in range(30):
        # A connection each, so that both workers get some.
        requests.get(f"{url}/factorial/3", timeout=60)
    assert {requests_counted() - before for _ in range(10)} == {30.0}


def test_container_has_no_rights_to_spare(host: Any) -> None:
    found = container(host)
    assert found["HostConfig"]["ReadonlyRootfs"] is True
    assert [right.lower() for right in found["HostConfig"]["CapDrop"]] == ["all"]
    assert found["HostConfig"]["SecurityOpt"] == ["no-new-privileges:true"]
    status = host.check_output("docker exec backend_app cat /proc/1/status")
    assert "Uid:\t10001\t10001" in status
    assert "CapEff:\t0000000000000000" in status
    assert host.run("docker exec backend_app touch /opt/app/x").rc != 0


def test_container_reports_its_health(host: Any) -> None:
    wait_until(lambda: container(host)["State"]["Health"]["Status"] == "healthy", "the container is healthy", 180)


def test_container_of_somebody_else_is_refused_by_name(scenario: Scenario, url: str, host: Any) -> None:
    host.check_output(
        "docker rename backend_app aside && docker create --name backend_app $(docker inspect "
        "--format '{{.Config.Image}}' aside)"
    )
    try:
        run = scenario.play(CONVERGE)
        said = " ".join(run.stdout.split())
        assert run.returncode == 2, run.stdout
        assert "backend_app_adopt" in said
        assert requests.get(f"{url}/readyz", timeout=60).status_code == 200
    finally:
        host.check_output("docker rm backend_app && docker rename aside backend_app")


@pytest.mark.parametrize(
    ("broken", "mended", "sentence"),
    [
        (
            "mv /usr/lib/python3/dist-packages/requests /var/tmp/requests",
            "mv /var/tmp/requests /usr/lib/python3/dist-packages/requests",
            "which asks the engine, is not installed here",
        ),
        ("systemctl stop docker.socket docker", "systemctl start docker.socket docker", "No engine runs here."),
    ],
)
def test_check_mode_says_what_it_can_not_look_at(
    scenario: Scenario, host: Any, broken: str, mended: str, sentence: str
) -> None:
    host.check_output(broken)
    try:
        run = scenario.play(CONVERGE, "--check")
    finally:
        host.check_output(mended)
    assert run.returncode == 0, run.stdout
    assert sentence in " ".join(run.stdout.split())


def test_application_that_stopped_since_it_was_compared_is_started(
    scenario: Scenario, url: str, host: Any, tmp_path: Path
) -> None:
    # As a stop does that a killed run has begun: it ends after the next run has compared the container.
    host.check_output("docker stop backend_app")
    play = yaml.safe_load((PROJECT / CONVERGE).read_text())[0]
    settings = {key: value for key, value in play["roles"][1].items() if key != "role"}
    role = {"name": "backend_app", "tasks_from": "asked"}
    service = {"backend_app_service": "{{ topology_services_said | first }}", "topology_project": str(PROJECT)}
    # The first question is in vain. What is started then may take longer.
    seconds = {"backend_app_ready_seconds": "{{ 10 if __backend_app_container is undefined else 120 }}"}
    play |= {"roles": [], "vars": play["vars"] | settings | service | seconds}
    play["vars_files"] = [str(PROJECT / "group_vars" / "all" / "services.yml")]
    play["tasks"] = [{"ansible.builtin.include_role": role}]
    (tmp_path / "asked.yml").write_text(yaml.safe_dump([play]))
    run = scenario.play(str(tmp_path / "asked.yml"))
    assert run.returncode == 0, run.stdout
    assert requests.get(f"{url}/readyz", timeout=60).status_code == 200


def test_changed_version_is_another_image(scenario: Scenario, url: str, host: Any) -> None:
    before = container(host)
    # As a run leaves it that was killed while it stopped the container: there is none to drain and replace.
    host.check_output("rm -f %s && docker stop backend_app", RELEASES)
    left = {"backend_app_version": "9.9.9", "backend_app_leave_running": True}
    run = scenario.play(CONVERGE, "-e", json.dumps(left))
    assert run.returncode == 0, run.stdout
    wanted = {"current": container(host)["Config"]["Image"], "previous": before["Config"]["Image"]}
    assert json.loads(host.file(RELEASES).content_string) == wanted
    assert requests.get(f"{url}/", timeout=60).headers["X-App-Version"].startswith("9.9.9-")
    assert container(host)["Id"] != before["Id"]
    # And one that was cut off when it had written the units.
    host.check_output("touch /etc/systemd/system/backend_app.service /etc/systemd/system/backend_app_announce.service")
    unread = "systemctl show backend_app backend_app_announce --property=NeedDaemonReload --value"
    assert host.check_output(unread).split() == ["yes", "yes"]
    run = scenario.play(CONVERGE)
    assert run.returncode == 0, run.stdout
    assert host.check_output(unread).split() == ["no", "no"]
    assert container(host)["Config"]["Image"] == before["Config"]["Image"]
    assert json.loads(host.file(RELEASES).content_string)["current"] == before["Config"]["Image"]
