"""The CPU monitor on its host: its rhythm, what it measures, and what it does when it or its Pushgateway fails."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
from scenario import Scenario, recap, wait_until

CONVERGE = "molecule/cpu_monitor/converge.yml"
LABELS = '{instance="somebody",job="cpu_usage"}'
PUSHES = 'pushgateway_http_push_duration_seconds_count{method="put"}'


@pytest.fixture
def host(scenario: Scenario) -> Any:
    return scenario.host("cpu-monitor-1")


@pytest.fixture
def url(scenario: Scenario) -> str:
    return f"http://{scenario.addresses['cpu-monitor-1']}:9091"


@pytest.fixture(autouse=True)
def pushing(host: Any, url: str) -> Iterator[None]:
    """Begin every test with a monitor that pushes, whatever the test before did."""
    host.run("docker unpause pushgateway")
    host.check_output("docker start pushgateway && systemctl start cpu_monitor")
    wait_for_pushes(url, 1)
    yield
    host.run("docker unpause pushgateway")


def metrics(url: str) -> dict[str, float]:
    """Return all series of the Pushgateway; none while it does not answer."""
    try:
        text = requests.get(f"{url}/metrics", timeout=60).text
    except requests.RequestException:
        return {}
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def own(url: str) -> dict[str, float]:
    """Return the monitor's own series, by name."""
    return {
        name.removesuffix(LABELS): value
        for name, value in metrics(url).items()
        if name.startswith("cpu_") and name.endswith(LABELS)
    }


def wait_for_pushes(url: str, count: int) -> None:
    """Wait for so many pushes from now on; the group is then there."""
    before = metrics(url).get(PUSHES, 0.0)
    wait_until(lambda: metrics(url).get(PUSHES, 0.0) >= before + count and own(url) != {}, f"{count} pushes arrive")


def main_pid(host: Any) -> int:
    return int(host.check_output("systemctl show cpu_monitor --property=MainPID --value"))


def journal(host: Any, pid: int) -> list[str]:
    """Return what one process of the monitor has said."""
    lines: list[str] = host.check_output("journalctl --output=cat _PID=%s", str(pid)).splitlines()
    return lines


def is_gone(url: str) -> bool:
    """Return whether the Pushgateway has nothing of the monitor; it deletes a little later than it says so."""
    found = metrics(url)
    return PUSHES in found and not any(name.endswith(LABELS) for name in found)


def goes_when(end: Callable[[], object], again: Callable[[], object], url: str) -> None:
    """End the monitor of the group, and see the group go.

    It has one short try to delete the group, and a push that was under way may come after it. A busy Pushgateway makes
    either possible, so it may be made to run again, and be ended once more.
    """
    for _ in range(2):
        end()
        patience = time.monotonic() + 30
        while time.monotonic() < patience:
            if is_gone(url):
                return
            time.sleep(0.5)
        again()
        wait_for_pushes(url, 1)
    pytest.fail("the group is still there")


def ended(host: Any, url: str, command: str) -> None:
    """End the monitor by a command, and see its group go."""
    goes_when(lambda: host.check_output(command), lambda: host.check_output("systemctl start cpu_monitor"), url)


def test_one_push_a_second(url: str) -> None:
    # Numbers of pushes against the time that passed, however long that was: no push can be late for the next. A busy
    # host may miss some for a while.
    stamp = f"push_time_seconds{LABELS}"

    def in_step() -> bool:
        first, started = metrics(url), time.monotonic()
        time.sleep(20)
        last, passed = metrics(url), time.monotonic() - started
        if not {PUSHES, stamp} <= first.keys() & last.keys():
            return False
        pushed = last[PUSHES] - first[PUSHES]
        # Each push is as late as its host was busy, but lateness does not add up.
        return abs(pushed - passed) <= 0.1 * passed and abs(last[stamp] - first[stamp] - pushed) <= 0.5

    wait_until(in_step, "a push a second arrives")


def test_group_has_value_success_and_errors(url: str) -> None:
    found = own(url)
    assert set(found) == {"cpu_usage", "cpu_monitor_last_success_timestamp_seconds", "cpu_monitor_errors_total"}
    assert 0 <= found["cpu_usage"] <= 100

    def is_told() -> bool:
        now = metrics(url)
        told = now[f"cpu_monitor_last_success_timestamp_seconds{LABELS}"]
        return abs(now[f"push_time_seconds{LABELS}"] - told) <= 2

    # A push may take a busy machine longer.
    wait_until(is_told, "the monitor tells the time of its push")


def test_busy_cpus_are_seen(host: Any, url: str) -> None:
    # As many loops as there are CPUs, which end by themselves should nobody stop them.
    loops = "for cpu in $(seq $(nproc)); do while :; do :; done & done; wait"
    host.check_output(f"systemd-run --quiet --collect --unit=busy --property=RuntimeMaxSec=600 sh -c '{loops}'")
    seen: list[float] = []

    def busy() -> bool:
        seen.append(own(url)["cpu_usage"])
        return seen[-1] > 90

    try:
        wait_until(busy, "the value is above 90")
    finally:
        host.check_output("systemctl stop busy")
    assert all(0 <= value <= 100 for value in seen)


def test_stopped_gateway_is_survived(host: Any, url: str) -> None:
    pid = main_pid(host)
    before = len(journal(host, pid))
    host.check_output("docker stop pushgateway")

    def told_since(words: str) -> bool:
        return any(words in line for line in journal(host, pid)[before:])

    wait_until(lambda: told_since("pushes fail"), "the failure is in the journal")
    time.sleep(15)
    host.check_output("docker start pushgateway")
    wait_for_pushes(url, 3)
    wait_until(lambda: told_since("succeed again"), "so is its end")
    assert main_pid(host) == pid
    assert own(url)["cpu_monitor_errors_total"] >= 3
    # On a busy machine a Pushgateway that has just started may be too slow once more: an outage of its own.
    said = [line for line in journal(host, pid)[before:] if "pushes " in line]
    told = ["pushes fail" in line for line in said]
    assert told == ([True, False] * len(said))[: len(said)], "an outage is told once, and so is its end"
    assert any(int(line.rpartition("; ")[2].split()[0]) >= 3 for line in said[1::2]), "every failure was logged"


def test_nothing_waits_in_a_gateway_that_hangs(host: Any, url: str) -> None:
    pid = main_pid(host)
    started, before, errors = time.monotonic(), metrics(url)[PUSHES], own(url)["cpu_monitor_errors_total"]
    host.check_output("docker pause pushgateway")
    paused = time.monotonic()
    wait_until(lambda: any("no answer within" in line for line in journal(host, pid)), "a push was given up")
    time.sleep(30)
    held = time.monotonic() - paused
    host.check_output("docker unpause pushgateway")
    # At once: whatever had been queued would arrive now. One push may: it was under way when the hang began.
    wait_for_pushes(url, 3)
    pushed, passed = metrics(url)[PUSHES] - before, time.monotonic() - started
    assert pushed <= passed - held + 3, "pushes of the past arrived"
    assert main_pid(host) == pid
    assert own(url)["cpu_monitor_errors_total"] - errors >= 10


def test_killed_monitor_comes_back(host: Any, url: str) -> None:
    # More often than systemd's usual limit of starts would let it.
    for _ in range(6):
        pid = main_pid(host)
        host.check_output("kill -9 %s", str(pid))
        wait_until(lambda gone=pid: main_pid(host) not in {0, gone}, "another process runs")  # type: ignore[misc]
    wait_for_pushes(url, 2)


def test_killed_monitor_leaves_nothing_behind(host: Any, url: str) -> None:
    # Kept from coming back: systemd has cleared up for it by then.
    killed = "kill -9 $(systemctl show cpu_monitor --property=MainPID --value)"
    ended(host, url, f"{killed} && systemctl stop cpu_monitor")


def test_stop_deletes_the_group(host: Any, url: str) -> None:
    ended(host, url, "systemctl stop cpu_monitor")
    assert host.check_output("systemctl show cpu_monitor --property=Result --value") == "success"


def test_stop_is_bounded_while_the_gateway_hangs(host: Any) -> None:
    host.check_output("docker pause pushgateway")
    host.check_output("systemctl stop cpu_monitor")
    # Not ended by systemd's patience: it ended by itself.
    assert host.check_output("systemctl show cpu_monitor --property=Result --value") == "success"


def test_process_has_no_rights_to_spare(host: Any) -> None:
    status = host.check_output("cat /proc/%s/status", str(main_pid(host)))
    assert not re.search(r"^Uid:\t0\t", status, re.MULTILINE)
    for line in ("CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"):
        assert line in status
    assert "cpu_monitor" not in host.check_output("cat /etc/passwd")


def test_bad_setting_fails_the_play_and_says_why(scenario: Scenario, host: Any, url: str) -> None:
    try:
        run = scenario.play(CONVERGE, "-e", "cpu_monitor_timeout=2", "-e", "cpu_monitor_start_seconds=5")
        assert run.returncode == 2, run.stdout
        wait_until(
            lambda: host.check_output("systemctl show cpu_monitor --property=ActiveState --value") == "failed",
            "it is not started again and again",
        )
        said = host.check_output("journalctl --output=cat --unit=cpu_monitor --lines=20")
        assert "CPU_MONITOR_TIMEOUT is 2: give more than 0 and less than the interval of 1 s." in said
    finally:
        run = scenario.play(CONVERGE)
    assert run.returncode == 0, run.stdout
    wait_for_pushes(url, 1)


def test_role_fails_where_no_recent_push_is(scenario: Scenario, host: Any, url: str) -> None:
    # The unit is active, the Pushgateway answers and has the group: only the age of the push tells.
    pid = str(main_pid(host))
    host.check_output("kill -STOP %s", pid)
    try:
        # However quick the run is.
        wait_until(lambda: time.time() - metrics(url)[f"push_time_seconds{LABELS}"] > 10, "the push is old")
        run = scenario.play(CONVERGE, "-e", "cpu_monitor_start_seconds=5")
    finally:
        host.check_output("kill -CONT %s", pid)
    assert run.returncode == 2, run.stdout
    assert "for a recent push" in run.stdout


def test_another_name_is_another_group(scenario: Scenario, url: str) -> None:
    def named(*arguments: str) -> None:
        run = scenario.play(CONVERGE, *arguments)
        assert run.returncode == 0, run.stdout

    def other() -> None:
        named("-e", "cpu_monitor_instance=other")
        assert 'cpu_usage{instance="other",job="cpu_usage"}' in metrics(url)

    # The old name's group goes with the old monitor.
    goes_when(other, named, url)
    named()


def test_what_a_run_has_written_that_was_cut_off_is_applied_by_the_next(scenario: Scenario, host: Any) -> None:
    pid = main_pid(host)
    # Its handler would have been next.
    host.check_output("touch /usr/local/sbin/cpu_monitor")
    # To see that, and the restart.
    assert [recap(scenario.play(CONVERGE).stdout)["cpu-monitor-1"]["changed"] for _ in range(2)] == [2, 0]
    assert main_pid(host) != pid


def test_check_mode_changes_nothing_here(scenario: Scenario) -> None:
    run = scenario.play(CONVERGE, "--check")
    assert run.returncode == 0, run.stdout
    assert recap(run.stdout)["cpu-monitor-1"]["changed"] == 0


def test_host_without_package_lists_and_one_half_set_up(scenario: Scenario, host: Any) -> None:
    # As on a new cloud image, whose empty folder is of today. Half set up is what a run leaves that was killed once the
    # library was there.
    unit = "/etc/systemd/system/cpu_monitor.service"
    host.check_output("systemctl stop cpu_monitor && rm %s && systemctl daemon-reload", unit)
    half = scenario.play(CONVERGE, "--check", "--diff")
    host.check_output("mv /var/lib/apt/lists /root/lists && mkdir /var/lib/apt/lists")
    host.check_output("dpkg --remove --force-depends python3-prometheus-client")
    new = scenario.play(CONVERGE, "--check", "--diff")
    # And one that went down while packages were installed.
    host.check_output("sed -n '/^Package: python3$/,/^$/p' /var/lib/dpkg/status >/var/lib/dpkg/updates/0001")
    real = scenario.play(CONVERGE)
    host.check_output("rm -r /var/lib/apt/lists && mv /root/lists /var/lib/apt/lists")
    assert real.returncode == 0, real.stdout
    assert half.returncode == 0, half.stdout
    assert "+ExecStart=/usr/local/sbin/cpu_monitor" in half.stdout
    assert new.returncode == 0, new.stdout
    assert "library is not installed yet" in " ".join(new.stdout.split())


def test_program_of_somebody_else_is_refused_by_name(scenario: Scenario, host: Any, url: str) -> None:
    path = "/usr/local/sbin/cpu_monitor"
    host.check_output("printf '#!/bin/sh\\nexec sleep 1d\\n' >%s", path)
    try:
        run = scenario.play(CONVERGE)
        assert run.returncode == 2, run.stdout
        assert f"{path} was not written by this project" in " ".join(run.stdout.split())
        assert host.file(path).content_string.startswith("#!/bin/sh\nexec sleep")
    finally:
        run = scenario.play(CONVERGE, "-e", "cpu_monitor_adopt=true")
    assert run.returncode == 0, run.stdout
    assert host.file(f"{path}.before-evenkeel").content_string.startswith("#!/bin/sh\nexec sleep")
    host.check_output("rm %s.before-evenkeel", path)
    wait_for_pushes(url, 1)
