"""How the application's container ends and comes back: stopped, killed, with its engine, with its host."""

from __future__ import annotations

import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
from scenario import Scenario, wait_until

HOST = "backend-app-1"


@pytest.fixture
def url(scenario: Scenario) -> str:
    return f"http://{scenario.addresses[HOST]}:8081"


def on_host(scenario: Scenario, *command: str) -> str:
    """Run a command on the host, at once: SSH and Ansible would take longer than a drain. Returns its output."""
    whole = ["docker", "exec", scenario.container(HOST), *command]
    return subprocess.run(whole, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout


def state(scenario: Scenario, key: str) -> str:
    """Return what the engine says of the container's state, such as its `Pid`."""
    return on_host(scenario, "docker", "inspect", "backend_app", f"--format={{{{.State.{key}}}}}").strip()


def ready(url: str) -> int:
    """Return the status of /readyz; 0 where nothing answers."""
    try:
        return requests.get(f"{url}/readyz", timeout=60).status_code
    except requests.RequestException:
        return 0


def unit_is_active(scenario: Scenario) -> bool:
    """Tell whether the unit would stop the container at a shutdown."""
    return on_host(scenario, "systemctl", "show", "backend_app", "--property=ActiveState") == "ActiveState=active\n"


def is_drained(scenario: Scenario, url: str, *stop: str) -> None:
    """Stop the container by a command on the host: nothing asked before /readyz says 404 is lost."""
    fell = threading.Event()
    told: list[int] = []

    def ask_until_it_fell() -> set[int]:
        return {requests.get(url, timeout=60).status_code for _ in iter(fell.is_set, True)}

    def readiness_fell() -> bool:
        told.append(ready(url))
        return told[-1] != 200

    with ThreadPoolExecutor() as pool:
        # For longer than the drain, and not for longer than that and running requests get.
        slow = pool.submit(requests.get, f"{url}/sleep/16/finished", timeout=60)
        wait_until(
            lambda: "backend_app_requests_running 2.0" in requests.get(f"{url}/metrics", timeout=60).text,
            "the slow request runs",
        )
        short = [pool.submit(ask_until_it_fell) for _ in range(2)]
        stopped = pool.submit(on_host, scenario, *stop)
        try:
            wait_until(readiness_fell, "readiness falls")
            assert told[-1] == 404
        finally:
            fell.set()
        assert [answered.result() for answered in short] == [{200}, {200}]
        assert slow.result().json()["answer"] == "finished"
        stopped.result()


def test_stop_loses_no_request(scenario: Scenario, url: str) -> None:
    is_drained(scenario, url, "docker", "stop", "backend_app")
    assert state(scenario, "ExitCode") == "0"
    on_host(scenario, "docker", "start", "backend_app")
    wait_until(lambda: ready(url) == 200, "the application is ready again")


def test_killed_application_comes_back(scenario: Scenario, url: str) -> None:
    pid = state(scenario, "Pid")
    on_host(scenario, "kill", "-KILL", pid)
    wait_until(lambda: state(scenario, "Pid") not in {pid, "0"} and ready(url) == 200, "another one is ready")


def test_restart_of_the_engine_leaves_it_alone(scenario: Scenario, url: str) -> None:
    pid = state(scenario, "Pid")
    on_host(scenario, "systemctl", "restart", "docker")
    assert state(scenario, "Pid") == pid
    assert ready(url) == 200
    assert unit_is_active(scenario)


def test_reboot_of_the_host_drains_it_first_and_brings_it_back(scenario: Scenario, url: str) -> None:
    def last_words() -> int:
        # The engine has them only where it still ran when the application ended.
        return on_host(scenario, "docker", "logs", "backend_app").count("Shutting down: Master")

    before = last_words()
    is_drained(scenario, url, "systemctl", "reboot")
    wait_until(lambda: ready(url) == 200, "the application is ready again")
    assert last_words() == before + 1
    wait_until(lambda: unit_is_active(scenario), "the unit is active again")


def test_address_that_comes_late_at_boot_is_waited_for(scenario: Scenario, url: str) -> None:
    address = on_host(scenario, "sh", "-c", "ip -o -4 addr show eth0 | awk '{print $4}'").strip()
    route = on_host(scenario, "ip", "route", "show", "default").split()
    on_host(scenario, "systemctl", "stop", "backend_app")
    on_host(scenario, "ip", "addr", "del", address, "dev", "eth0")
    try:
        failed = "systemctl start backend_app && exit 1; docker logs backend_app >/dev/null"
        on_host(scenario, "sh", "-c", failed)
        assert ready(url) == 0
    finally:
        on_host(scenario, "ip", "addr", "add", address, "dev", "eth0")
        on_host(scenario, "ip", "route", "add", *route)
    wait_until(lambda: ready(url) == 200 and unit_is_active(scenario), "the application is ready")


def test_engine_that_comes_late_at_boot_is_waited_for(scenario: Scenario, url: str) -> None:
    on_host(scenario, "systemctl", "stop", "backend_app")
    on_host(scenario, "systemctl", "mask", "--runtime", "--now", "docker.socket", "docker.service")
    try:
        on_host(scenario, "sh", "-c", "systemctl start backend_app && exit 1; true")
    finally:
        on_host(scenario, "systemctl", "unmask", "--runtime", "docker.socket", "docker.service")
    on_host(scenario, "systemctl", "start", "docker")
    wait_until(lambda: ready(url) == 200 and unit_is_active(scenario), "the application is ready")


def test_host_is_announced_before_its_engine_does_anything(scenario: Scenario, url: str) -> None:
    engine = on_host(scenario, "cat", "/run/docker.pid").strip()
    # As on a host where everything else is too slow.
    on_host(scenario, "kill", "-STOP", engine)
    try:
        on_host(scenario, "systemctl", "stop", "backend_app_announce")
        assert ready(url) == 404
        assert requests.get(url, timeout=60).status_code == 200
    finally:
        on_host(scenario, "kill", "-CONT", engine)
    on_host(scenario, "systemctl", "start", "backend_app_announce")
    assert ready(url) == 200


def test_restarts_are_not_announced(scenario: Scenario, url: str) -> None:
    on_host(scenario, "systemctl", "restart", "docker")
    assert on_host(scenario, "ls", "/run/backend_app") == ""
    assert ready(url) == 200
