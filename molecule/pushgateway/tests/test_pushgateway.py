"""The Pushgateway in its container: who reaches it, with which rights it runs, and what it remembers."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest
import requests
from scenario import Scenario, wait_until

CONVERGE = "molecule/pushgateway/converge.yml"


@pytest.fixture
def host(scenario: Scenario) -> Any:
    return scenario.host("pushgateway-1")


@pytest.fixture
def address(scenario: Scenario) -> str:
    return scenario.addresses["pushgateway-1"]


@pytest.fixture
def url(address: str) -> str:
    return f"http://{address}:9091"


def container(host: Any) -> dict[str, Any]:
    """Return what the engine knows of the container."""
    found: dict[str, Any] = json.loads(host.check_output("docker inspect pushgateway"))[0]
    return found


def group(url: str, name: str) -> str:
    """Return the address of a group of metrics."""
    return f"{url}/metrics/job/test/instance/{name}"


def series(url: str) -> set[str]:
    """Return the series that tests pushed."""
    lines = requests.get(f"{url}/metrics", timeout=60).text.splitlines()
    return {line for line in lines if line.startswith("test_")}


def delete(url: str, name: str) -> None:
    """Delete a group, and wait until it is gone: the Pushgateway says 202 and deletes later."""
    assert requests.delete(group(url, name), timeout=60).status_code == 202
    wait_until(lambda: series(url) == set(), "the group is gone")


def ready(host: Any, url: str) -> bool:
    return bool(host.run("curl --fail --silent %s/-/ready", url).rc == 0)


def test_pushed_group_is_kept_replaced_and_deleted(url: str) -> None:
    assert requests.put(group(url, "a"), data="test_one 1\ntest_two 2\n", timeout=60).status_code == 200
    assert series(url) == {'test_one{instance="a",job="test"} 1', 'test_two{instance="a",job="test"} 2'}
    requests.put(group(url, "a"), data="test_one 3\n", timeout=60)
    assert series(url) == {'test_one{instance="a",job="test"} 3'}
    assert 'push_time_seconds{instance="a",job="test"}' in requests.get(f"{url}/metrics", timeout=60).text
    delete(url, "a")


def test_only_its_own_address_answers(host: Any, address: str) -> None:
    listening = [line.split()[3] for line in host.check_output("ss -Hltn 'sport = :9091'").splitlines()]
    assert listening == [f"{address}:9091"]
    assert host.run("curl --silent --max-time 2 http://127.0.0.1:9091/-/ready").rc == 7


def test_container_has_no_rights_to_spare(host: Any) -> None:
    found = container(host)
    assert found["HostConfig"]["ReadonlyRootfs"] is True
    assert [right.lower() for right in found["HostConfig"]["CapDrop"]] == ["all"]
    assert found["HostConfig"]["SecurityOpt"] == ["no-new-privileges:true"]
    assert found["HostConfig"]["Privileged"] is False
    assert found["Mounts"] == []
    status = host.check_output("cat /proc/%s/status", str(found["State"]["Pid"]))
    assert "Uid:\t65534\t65534" in status
    assert "CapEff:\t0000000000000000" in status
    assert "CapBnd:\t0000000000000000" in status


def test_image_is_the_pinned_one(host: Any) -> None:
    assert container(host)["Config"]["Image"] == "docker.io/prom/pushgateway:v1.11.4"


def test_killed_process_comes_back_by_itself_and_knows_nothing_old(host: Any, url: str) -> None:
    requests.put(group(url, "old"), data="test_one 1\n", timeout=60)
    before = container(host)["State"]["Pid"]
    host.check_output("kill -9 %s", str(before))
    wait_until(lambda: container(host)["State"]["Pid"] not in {0, before} and ready(host, url), "it is back")
    assert series(url) == set()
    assert requests.put(group(url, "new"), data="test_one 1\n", timeout=60).status_code == 200
    delete(url, "new")


def test_another_run_keeps_the_container_and_its_groups(scenario: Scenario, host: Any, url: str) -> None:
    requests.put(group(url, "kept"), data="test_one 1\n", timeout=60)
    before = container(host)
    # As a run leaves it that was cut off.
    host.check_output("touch /etc/systemd/system/pushgateway.service")
    unread = "systemctl show pushgateway --property=NeedDaemonReload --value"
    assert host.check_output(unread) == "yes"
    run = scenario.play(CONVERGE)
    assert run.returncode == 0, run.stdout
    assert (container(host)["Id"], container(host)["State"]["Pid"]) == (before["Id"], before["State"]["Pid"])
    assert series(url) == {'test_one{instance="kept",job="test"} 1'}
    assert host.check_output(unread) == "no"
    delete(url, "kept")


def test_container_of_others_is_refused_and_put_aside_when_said(scenario: Scenario, host: Any, address: str) -> None:
    image = container(host)["Config"]["Image"]
    host.check_output("docker rm -f pushgateway")
    host.check_output("docker run -d --name pushgateway -p %s:9091:9091 %s", address, image)
    theirs = container(host)["Id"]
    try:
        run = scenario.play(CONVERGE)
        assert run.returncode == 2
        assert "was not made by this project. To go on: pushgateway_adopt: true" in " ".join(run.stdout.split())
        assert container(host)["Id"] == theirs
        run = scenario.play(CONVERGE, "-e", "pushgateway_adopt=true")
        assert run.returncode == 0, run.stdout
        kept = json.loads(host.check_output("docker inspect pushgateway.before-evenkeel"))[0]
        assert (kept["Id"], kept["State"]["Running"]) == (theirs, False)
        assert kept["HostConfig"]["RestartPolicy"]["Name"] == "no"
    finally:
        host.run("docker rm -f pushgateway.before-evenkeel")


def test_port_of_others_is_refused_by_name(scenario: Scenario, host: Any) -> None:
    host.check_output("systemd-run --unit=somebody python3 -m http.server 9191")
    wait_until(lambda: host.run("ss -Hltn 'sport = :9191'").stdout != "", "the port is taken")
    try:
        run = scenario.play(CONVERGE, "-e", "pushgateway_port=9191")
    finally:
        host.check_output("systemctl stop somebody")
    assert run.returncode == 2
    said = " ".join(run.stdout.split())
    assert "is taken by python3" in said
    assert "of somebody.service). To go on: choose another one with pushgateway_port" in said


def on_host(scenario: Scenario, command: str) -> None:
    """Run a command on the host, which needs no network there."""
    subprocess.run(["docker", "exec", scenario.container("pushgateway-1"), "sh", "-c", command], check=True)


def test_address_that_comes_late_at_boot_is_waited_for(scenario: Scenario, host: Any, url: str) -> None:
    on_host(
        scenario,
        """
        address=$(ip -o -4 addr show eth0 | awk '{print $4}')
        route=$(ip route show default)
        docker stop pushgateway
        systemctl stop pushgateway
        ip addr del $address dev eth0
        systemctl start pushgateway && late=no || late=yes
        ip addr add $address dev eth0
        ip route add $route
        test $late = yes
        """,
    )
    wait_until(lambda: ready(host, url), "the Pushgateway answers")


@pytest.mark.parametrize(
    ("broken", "mended", "why"),
    [
        ("mv {0}/requests {0}/aside", "mv {0}/aside {0}/requests", "python3-requests"),
        ("systemctl stop docker.socket docker", "systemctl start docker", "No engine runs here"),
    ],
)
def test_check_mode_does_not_guess(scenario: Scenario, host: Any, broken: str, mended: str, why: str) -> None:
    modules = "/usr/lib/python3/dist-packages"
    host.check_output(broken.format(modules))
    try:
        run = scenario.play(CONVERGE, "--check", "--diff")
        stopped = host.run("systemctl is-active docker").stdout.strip()
    finally:
        host.check_output(mended.format(modules))
    assert run.returncode == 0, run.stdout
    assert why in " ".join(run.stdout.split())
    # To be looked at starts no engine.
    assert stopped == ("active" if "requests" in broken else "inactive")
