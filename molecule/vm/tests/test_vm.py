"""The site on hosts with a kernel of their own: every host reboots and loses its power, under chaos.yml backends do."""

from __future__ import annotations

import json
import subprocess
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import changes
import pytest
import requests
import yaml
from scenario import Scenario, wait_until
from under_load import states

# They share two cores, and a boot takes most of them.
BOOT_SECONDS = 300


def boots(scenario: Scenario) -> dict[str, str]:
    """Return each host's boot id; empty where it does not answer."""
    found = dict.fromkeys(scenario.addresses, "")
    for name in found:
        with suppress(RuntimeError):
            found[name] = scenario.host(name).check_output("cat /proc/sys/kernel/random/boot_id")
    return found


def serves(scenario: Scenario) -> bool:
    """Return whether the balancer sends requests to every backend, and one is answered."""
    with suppress(requests.RequestException):
        up = set(states(scenario).values()) == {"UP"}
        return up and requests.get(f"http://{scenario.addresses['balancer']}/", timeout=60).status_code == 200
    return False


def runs(host: Any) -> bool:
    """Return whether a host's init has started everything, and nothing has failed."""
    return bool(host.run("systemctl is-system-running").stdout.strip() == "running")


def wait_for_boots(scenario: Scenario, before: dict[str, str]) -> None:
    """Wait until every host has booted anew and the site serves, unaided."""

    def booted() -> bool:
        now = boots(scenario)
        return all(now[name] not in {"", before[name]} for name in before)

    wait_until(booted, "every host has booted", BOOT_SECONDS)
    wait_until(lambda: serves(scenario), "the site serves", BOOT_SECONDS)
    for name in scenario.addresses:
        host = scenario.host(name)
        wait_until(partial(runs, host), f"{name} runs, and no unit has failed", BOOT_SECONDS)


def power(scenario: Scenario, name: str, state: str) -> None:
    """Cut a host's power, or give it back, as chaos.yml does."""
    command = yaml.safe_load(scenario.inventory.read_text())["all"]["vars"][f"chaos_power_{state}"]
    subprocess.run(command.replace("{{ chaos_host }}", name), shell=True, check=True, timeout=60)


def test_hosts_have_kernels_of_their_own(scenario: Scenario) -> None:
    assert len(set(boots(scenario).values())) == len(scenario.addresses)
    assert scenario.host("backend-1").run("systemd-detect-virt --container").stdout.strip() == "none"


def test_orderly_reboot_of_every_host_needs_nobody(scenario: Scenario) -> None:
    before = boots(scenario)
    for name in scenario.addresses:
        scenario.reboot(name)
    wait_for_boots(scenario, before)


def test_power_cut_of_every_host_needs_nobody(scenario: Scenario) -> None:
    before = boots(scenario)
    for name in scenario.addresses:
        power(scenario, name, "off")
    for name in scenario.addresses:
        power(scenario, name, "on")
    wait_for_boots(scenario, before)


@pytest.mark.parametrize("fault", ["reboot", "poweroff", "stall"])
def test_no_get_is_lost_to(scenario: Scenario, tmp_path: Path, fault: str) -> None:
    settings = {
        "chaos_fault": fault,
        "chaos_reports": str(tmp_path),
        "chaos_settle": 180,
        "chaos_recover_seconds": BOOT_SECONDS,
        # The hosts share the cores with the generator.
        "chaos_max_lateness": 20,
        # What a busy machine decides is not tested; that nothing is lost is.
        "chaos_slo": {
            "rps_floor": 0.01,
            "longest_gap": 5,
            "p99": 8,
            "detect": 30,
            "recover": BOOT_SECONDS,
            "share_tolerance": 0.5,
        },
    }
    run = scenario.play("chaos.yml", "-e", json.dumps(settings))
    assert run.returncode == 0, run.stdout
    content = json.loads(next(tmp_path.glob("*/journal.json")).read_text())
    figures = {each["key"]: each for each in content["objectives"]}
    print({key: each["figure"] for key, each in figures.items()})
    assert (content["verdict"], figures["failed_get"]["value"]) == ("held", 0)


def test_deploy_and_rollback(scenario: Scenario) -> None:
    # It asks every backend for its version after each of the two.
    with changes.deploy_and_rollback(scenario):
        wait_until(lambda: serves(scenario), "the site serves", BOOT_SECONDS)
