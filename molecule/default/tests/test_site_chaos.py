"""Chaos: what the two runs before these tests have left, and what only a machine of its own can show."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from changes import played
from scenario import Scenario, wait_until
from under_load import states, wait_until_all_up

VICTIM = "backend-2"


def journal(scenario: Scenario, fault: str) -> tuple[Path, dict[str, Any]]:
    """Return folder and journal of the run with ``fault`` that molecule's side effect made."""
    found = sorted((scenario.inventory.parent / "reports").glob(f"*-{fault}-*"))
    if not found:
        pytest.fail(f"no report about {fault}: run molecule's side_effect first")
    return found[-1], json.loads((found[-1] / "journal.json").read_text())


@pytest.mark.parametrize(("fault", "target"), [("reboot", "backend-1"), ("kill_app", "backend-2")])
def test_side_effect_was_judged_and_held(scenario: Scenario, fault: str, target: str) -> None:
    folder, content = journal(scenario, fault)
    figures = {each["key"]: each for each in content["objectives"]}
    print({key: each["figure"] for key, each in figures.items()})
    assert (content["fault"], content["target"], content["verdict"]) == (fault, target, "held")
    assert figures["failed_get"]["value"] == 0
    assert sum(content["figures"]["sent"].values()) > 1000
    assert {"report.html", "junit.xml", "summary.md", "cpu.png", "rps-backends.png", "rps-total.png"} <= {
        path.name for path in folder.iterdir()
    }
    assert content["prometheus"]["graphs"]["CPU per backend"]["backend-3"]
    # The run marked Grafana's dashboards: with a password that no report holds.
    password = (scenario.inventory.parent / "grafana_admin_password").read_bytes().strip()
    assert password
    assert [path for path in folder.rglob("*") if path.is_file() and password in path.read_bytes()] == []


def test_reboot_took_its_target_out_and_brought_it_back(scenario: Scenario) -> None:
    _, content = journal(scenario, "reboot")
    assert content["times"]["detected"] < content["times"]["recovered"]
    assert content["figures"]["shares"]["during"]["counts"].get("backend-1", 0) == 0


def test_overloaded_host_announces_its_reboot_before_anything_fails(scenario: Scenario) -> None:
    wait_until_all_up(scenario)
    host = scenario.host(VICTIM)
    seen: list[str] = []

    def is_out() -> bool:
        seen.append(states(scenario)[VICTIM])
        return not seen[-1].startswith("UP")

    # Several times as many busy loops as cores, and an engine that does not even begin to stop anything.
    busy = "for core in $(seq $((4 * $(nproc)))); do while :; do :; done & done; wait"
    host.check_output(f"systemd-run --quiet --collect --unit=busy sh -c '{busy}'")
    engine = host.check_output("cat /run/docker.pid")
    host.check_output(f"kill -STOP {engine}")
    try:
        scenario.reboot(VICTIM)
        wait_until(is_out, "the balancer knows")
    finally:
        host.run(f"kill -CONT {engine}")
    assert seen[-1] == "NOLB", seen
    wait_until(lambda: not states(scenario)[VICTIM].startswith("NOLB"), "it is down")
    wait_until_all_up(scenario)
    assert host.check_output("ls /run/backend_app") == ""


def test_load_that_can_not_be_sent_is_refused(scenario: Scenario, tmp_path: Path) -> None:
    settings = {"chaos_rate": 30000, "chaos_before": 3, "chaos_mix": "GET /=1", "chaos_reports": str(tmp_path)}
    settings |= {"chaos_settle": 120, "chaos_prometheus_url": ""}
    said = played(scenario, "chaos.yml", "-e", json.dumps(settings), wanted=2)
    assert "This machine can't send 30000 requests per second" in said
    assert "No fault was injected." in said
    wait_until_all_up(scenario)
