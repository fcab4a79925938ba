"""Chaos: what is refused, that every fault is undone without a trace, and that a run cut off leaves no fault."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from faults import stopped
from kills import LOCK
from scenario import PROJECT, Scenario, recap, wait_until
from under_load import states, wait_until_all_up

STATE = "/run/evenkeel-chaos"
VICTIM = "backend-2"
DROPPED = "iptables --wait -t raw -S | grep -c DROP || true"


def refused(scenario: Scenario, sentence: str, *arguments: str) -> None:
    """Assert that chaos.yml refuses with the sentence and has harmed nothing."""
    run = scenario.play("chaos.yml", *arguments)
    words = " ".join(run.stdout.split())
    assert run.returncode == 2, words
    assert sentence in words
    assert "No fault was injected." in words or "inject | Inject" not in words
    assert not scenario.host("balancer").file(LOCK).exists or "holds the lock" in sentence


def test_unknown_fault_and_target_are_refused(scenario: Scenario) -> None:
    refused(scenario, "There is no fault `flood`: set chaos_fault to one of blackhole,", "-e", "chaos_fault=flood")
    refused(scenario, "`backend-9` is no backend of this inventory", "-e", "chaos_target=backend-9")


def test_hosts_that_are_no_lab_are_not_harmed_unasked(scenario: Scenario) -> None:
    refused(scenario, "To do it: -e chaos_confirm=yes", "-e", "chaos_lab=false")


def test_unsteady_site_is_refused(scenario: Scenario) -> None:
    with stopped(scenario, "backend-2"):
        wait_until(lambda: states(scenario)["backend-2"].startswith("DOWN"), "the balancer knows")
        refused(scenario, "backend-2 is DOWN at balancer, and at most 1 may be out at once")
    wait_until_all_up(scenario)


def test_second_run_is_refused(scenario: Scenario) -> None:
    balancer = scenario.host("balancer")
    held = json.dumps({"holder": "somebody@elsewhere", "since": "2026-01-01T00:00:00Z", "token": "other"})
    balancer.check_output("echo %s >%s", held, LOCK)
    # Alerts about the test before need not have ended, and a busy balancer may be late.
    settled = json.dumps({"chaos_settle": 300, "chaos_prometheus_url": ""})
    sentence = "Another run holds the lock: somebody@elsewhere since 2026-01-01T00:00:00Z. Nothing was done."
    try:
        refused(scenario, sentence, "-e", settled)
    finally:
        balancer.check_output("rm %s", LOCK)


def test_check_mode_says_what_it_would_do_and_does_nothing(scenario: Scenario, tmp_path: Path) -> None:
    settings = json.dumps({"chaos_fault": "poweroff", "chaos_reports": str(tmp_path / "none"), "chaos_settle": 300})
    wait_until_all_up(scenario)
    run = scenario.play("chaos.yml", "--check", "-e", settings)
    assert run.returncode == 0, run.stdout
    assert "poweroff strikes backend-1: its power is cut and comes back." in run.stdout
    assert all(counters["changed"] == 0 for counters in recap(run.stdout).values())
    assert not (tmp_path / "none").exists()
    assert not scenario.host("balancer").file(LOCK).exists


def test_every_lasting_fault_is_undone_without_a_trace(scenario: Scenario) -> None:
    run = scenario.play("molecule/chaos/catalogue.yml", "-e", f"topology_project={PROJECT}")
    assert run.returncode == 0, run.stdout
    wait_until_all_up(scenario)


@contextmanager
def struck(scenario: Scenario, reports: Path) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """Run chaos.yml until packets of the victim vanish; yield it and the run's folder."""
    # It lasts until it is seen on a busy machine. Its timer must run out for one of the tests.
    settings = {"chaos_fault": "blackhole", "chaos_target": VICTIM, "chaos_duration": 30, "chaos_undo_margin": 5}
    # Alerts about the test before need not have ended.
    settings |= {"chaos_prometheus_url": ""}
    settings |= {"chaos_before": 3, "chaos_settle": 120, "chaos_max_lateness": 20, "chaos_reports": str(reports)}
    # Nobody judges its figures, and a slow site is steady enough.
    settings |= {"chaos_rate": 10, "chaos_timeout": 60, "chaos_slo": {"rps_floor": 0}}
    command = ["ansible-playbook", "-i", str(scenario.inventory), "chaos.yml", "-e", json.dumps(settings)]
    with (reports / "log").open("wb") as log:
        process = subprocess.Popen(
            command,
            cwd=PROJECT,
            stdout=log,
            stderr=log,
            # Tests started in the background inherit that Ctrl-C is ignored.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
    try:
        host = scenario.host(VICTIM)
        wait_until(lambda: host.check_output(DROPPED) != "0" or process.poll() is not None, "it strikes")
        assert process.poll() is None, (reports / "log").read_text()
        yield process, next(path for path in reports.iterdir() if path.is_dir())
    finally:
        process.kill()
        process.wait()


def nothing_is_left(scenario: Scenario) -> None:
    """Wait until the victim is as it was."""
    host = scenario.host(VICTIM)
    wait_until(lambda: host.check_output(DROPPED) == "0", "packets pass again")
    wait_until(lambda: not host.file(STATE).exists, "nothing is left to undo")
    wait_until(
        lambda: "evenkeel-chaos" not in host.check_output("systemctl list-units --all --plain"), "no unit is left"
    )
    wait_until_all_up(scenario)


def supervisor(folder: Path) -> Path:
    """Return the place of a run's supervisor among the processes."""
    return Path("/proc") / (folder / "supervisor.pid").read_text().strip()


def interrupt(playbook: subprocess.Popen[bytes]) -> None:
    """Press Ctrl-C, and again where it was not heard: Python loses an exception that is raised while it forks."""
    for _ in range(3):
        playbook.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            playbook.wait(60)
            return


def test_interrupted_run_is_undone(scenario: Scenario, tmp_path: Path) -> None:
    with struck(scenario, tmp_path) as (playbook, folder):
        interrupt(playbook)
        wait_until(lambda: not supervisor(folder).exists(), "the run's supervisor has ended")
        assert scenario.host(VICTIM).check_output(DROPPED) == "0"
        assert not scenario.host("balancer").file(LOCK).exists
        assert "chaos: The fault is undone." in (tmp_path / "log").read_text()
    nothing_is_left(scenario)


def test_fault_whose_control_node_is_gone_ends_by_itself(scenario: Scenario, tmp_path: Path) -> None:
    with struck(scenario, tmp_path) as (playbook, folder):
        # First the one that would notice, with load and sampler.
        os.killpg(int(supervisor(folder).name), signal.SIGKILL)
        playbook.kill()
        nothing_is_left(scenario)
    # Nobody is left to release it.
    scenario.host("balancer").check_output("rm %s", LOCK)
