"""Prometheus before two stub targets that the tests start and stop."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml
from scenario import PROJECT, Scenario, wait_until

CONVERGE = "molecule/prometheus/converge.yml"
RULES = PROJECT / "roles" / "prometheus" / "files" / "rules"
STUBS = {"first": 9101, "second": 9102}
PUSHED = """push_time_seconds{job="cpu_usage",instance="backend-7"} 1
cpu_usage{job="cpu_usage",instance="backend-7"} 12.5
"""
TWO_TARGETS = [{"address": f"127.0.0.1:{port}", "instance": f"backend-{port - 9100}"} for port in STUBS.values()]


@pytest.fixture
def host(scenario: Scenario) -> Any:
    return scenario.host("prometheus-1")


@pytest.fixture
def url(scenario: Scenario) -> str:
    return f"http://{scenario.addresses['prometheus-1']}:9090"


@pytest.fixture(autouse=True)
def stubs(host: Any) -> Iterator[None]:
    """Run both stubs for one test: web servers that offer metrics as text files."""
    write(host, "/srv/stub/pushed.txt", PUSHED)
    write(host, "/srv/stub/app.txt", "stub_answers 1\n")
    for name in STUBS:
        start(host, name)
    yield
    for name in STUBS:
        host.run("systemctl stop stub-%s", name)


def write(host: Any, path: str, text: str) -> None:
    """Write a file and the folders it needs."""
    host.check_output("mkdir -p %s && printf %%s %s >%s", str(Path(path).parent), text, path)


def start(host: Any, name: str) -> None:
    """Start one stub, unless it runs."""
    command = (
        "systemctl is-active --quiet stub-%s || systemd-run --unit=stub-%s --working-directory=/srv/stub "
        "--property=RuntimeMaxSec=600 python3 -m http.server --bind 127.0.0.1 %s"
    )
    host.check_output(command, name, name, str(STUBS[name]))


def ask(url: str, path: str, **parameters: object) -> Any:
    """Return the data of an answer of Prometheus' API."""
    answer = requests.get(f"{url}/api/v1/{path}", params={k: str(v) for k, v in parameters.items()}, timeout=60).json()
    assert answer["status"] == "success", answer
    return answer["data"]


def value(url: str, query: str) -> float:
    """Return the value of a query with one answer; NaN where there is none."""
    found = ask(url, "query", query=query)["result"]
    assert len(found) <= 1, found
    return float(found[0]["value"][1]) if found else float("nan")


def first_at(url: str, selector: str, wanted: str, since: float) -> float:
    """Return when the one series that is meant first had a value, by Prometheus' clock, in seconds since the epoch."""
    (series,) = ask(url, "query", query=f"{selector}[2m]")["result"]
    return min(float(stamp) for stamp, found in series["values"] if found == wanted and float(stamp) >= since)


def firing(url: str) -> set[tuple[str, str]]:
    """Return the alerts that fire, as name and instance."""
    alerts = [alert for alert in ask(url, "alerts")["alerts"] if alert["state"] == "firing"]
    return {(alert["labels"]["alertname"], alert["labels"]["instance"]) for alert in alerts}


def targets(url: str) -> dict[tuple[str, str], str]:
    """Return each target's health by job and instance."""
    active = ask(url, "targets")["activeTargets"]
    return {(target["labels"]["job"], target["labels"]["instance"]): target["health"] for target in active}


def running_config(url: str) -> dict[str, Any]:
    """Return the configuration that runs, as Prometheus tells it."""
    config: dict[str, Any] = yaml.safe_load(ask(url, "status/config")["yaml"])
    return config


def running_rules(url: str) -> dict[str, str]:
    """Return the expression of each rule that runs, by name."""
    groups = ask(url, "rules")["groups"]
    return {rule["name"]: rule["query"] for group in groups for rule in group["rules"]}


def main_pid(host: Any) -> str:
    return str(host.check_output("systemctl show prometheus --property=MainPID --value"))


def loaded_at(url: str) -> float:
    """Return when Prometheus last loaded its configuration."""
    text = requests.get(f"{url}/metrics", timeout=60).text
    found = re.search(r"^prometheus_config_last_reload_success_timestamp_seconds (\S+)", text, re.MULTILINE)
    assert found
    return float(found[1])


def at_least(url: str, major: int, minor: int) -> bool:
    """Tell whether the Prometheus that runs is of this version or newer."""
    found = ask(url, "status/buildinfo")["version"].split(".")
    return (int(found[0]), int(found[1])) >= (major, minor)


def ready(url: str) -> bool:
    try:
        return requests.get(f"{url}/-/ready", timeout=10).status_code == 200
    except requests.RequestException:
        return False


def words(run: subprocess.CompletedProcess[str]) -> str:
    return " ".join(run.stdout.split())


def converge(scenario: Scenario, **variables: object) -> subprocess.CompletedProcess[str]:
    return scenario.play(CONVERGE, "-e", json.dumps(variables))


def converged(scenario: Scenario, **variables: object) -> None:
    run = converge(scenario, **variables)
    assert run.returncode == 0, run.stdout


def test_targets_are_scraped_with_their_names(url: str) -> None:
    wanted = {("prometheus", "prometheus-1"), ("pushgateway", "backend-1"), ("backend_app", "backend-1")}
    wait_until(lambda: targets(url) == dict.fromkeys(wanted, "up"), "the three targets are up")
    told = {
        'stub_answers{job="backend_app", instance="backend-1"}': 1.0,
        # honor_labels: what was pushed keeps its own job and instance.
        'cpu_usage{job="cpu_usage", instance="backend-7"}': 12.5,
    }
    wait_until(lambda: {query: value(url, query) for query in told} == told, "what they tell is there")
    scraped = [target["scrapeUrl"] for target in ask(url, "targets")["activeTargets"]]
    assert "http://127.0.0.1:9101/app.txt?scope=all" in scraped


def test_scrapes_and_evaluates_every_second(url: str) -> None:
    config = running_config(url)
    assert config["global"]["scrape_interval"] == config["global"]["evaluation_interval"] == "1s"
    assert {(job["scrape_interval"], job["scrape_timeout"]) for job in config["scrape_configs"]} == {("1s", "900ms")}
    # Not of what it says but of what it does; ranges are left-open from 3.0 on, closed before.
    wait_until(lambda: value(url, 'count_over_time(up{job="prometheus"}[20s])') in {20, 21}, "20 scrapes in 20 seconds")


def test_retention_is_bounded(url: str) -> None:
    # By file or by flag, Prometheus tells both in the same place.
    retention = ask(url, "status/runtimeinfo")["storageRetention"]
    assert re.fullmatch(r"3d or 512Mi?B", retention)


def test_listens_on_its_address_alone(scenario: Scenario, host: Any) -> None:
    listening = host.check_output("ss -Hltnp").splitlines()
    mine = [line.split()[3] for line in listening if "prometheus" in line]
    assert mine == [f"{scenario.addresses['prometheus-1']}:9090"]


def test_offers_no_way_to_change_it_by_http(url: str) -> None:
    flags = ask(url, "status/flags")
    for flag in ("web.enable-admin-api", "web.enable-lifecycle", "web.enable-remote-write-receiver"):
        assert flags[flag] == "false", flag
    assert "remote_write" not in running_config(url)
    assert requests.post(f"{url}/-/quit", timeout=60).status_code == 403
    assert requests.post(f"{url}/api/v1/admin/tsdb/snapshot", timeout=60).status_code != 200
    assert requests.post(f"{url}/api/v1/write", timeout=60).status_code != 204


def test_runs_with_few_rights(host: Any) -> None:
    status = host.file(f"/proc/{main_pid(host)}/status").content_string
    uid = host.check_output("id -u prometheus")
    assert f"Uid:\t{uid}\t{uid}" in status
    assert "CapEff:\t0000000000000000" in status
    assert "NoNewPrivs:\t1" in status
    exposure = re.search(
        r"Overall exposure level.*: (\d+\.\d+)", host.check_output("systemd-analyze security prometheus")
    )
    assert exposure
    assert float(exposure[1]) <= 2.0
    assert host.file("/var/lib/prometheus").mode == 0o750
    assert host.run("sudo -u prometheus touch /etc/prometheus/prometheus.yml").rc != 0


def test_new_target_needs_nothing_and_a_setting_only_a_reload(scenario: Scenario, host: Any, url: str) -> None:
    pid, loaded = main_pid(host), loaded_at(url)
    converged(scenario, converge_app_targets=TWO_TARGETS)
    wait_until(lambda: targets(url).get(("backend_app", "backend-2")) == "up", "the new target is up")
    assert (main_pid(host), loaded_at(url)) == (pid, loaded)
    assert running_rules(url)["PrometheusScrapesMissed"] == "count_over_time(up[20s]) < 18"
    converged(scenario, prometheus_scrape_timeout="800ms", prometheus_scrape_interval="2s", prometheus_push_seconds=3)
    assert running_config(url)["global"]["scrape_timeout"] == "800ms"
    # The role's own rules follow.
    assert running_rules(url)["PrometheusScrapesMissed"] == "count_over_time(up[40s]) < 18"
    assert 'push_time_seconds{job="cpu_usage"} > 15' in running_rules(url)["CpuMonitorStale"]
    assert loaded_at(url) > loaded
    wait_until(lambda: ("backend_app", "backend-2") not in targets(url), "the target is gone")
    converged(scenario)
    assert running_config(url)["global"]["scrape_timeout"] == "900ms"
    assert main_pid(host) == pid


def test_vanished_target_fires_within_ten_seconds(host: Any, url: str) -> None:
    alert = ("TargetMissing", "backend-1")
    wait_until(lambda: alert not in firing(url), "the alert is quiet")
    # Prometheus can only end what it has seen since its last reload.
    wait_until(lambda: value(url, "timestamp(cpu_usage)") > loaded_at(url) + 3, "it knows what is pushed")
    host.check_output("systemctl stop stub-first")
    stopped = float(ask(url, "query", query="time()")["result"][1])
    wait_until(lambda: alert in firing(url), "the alert fires")
    # By Prometheus' own clock, of the target that told what was pushed.
    gone = 'job="pushgateway", instance="backend-1"'
    missed = first_at(url, f"up{{{gone}}}", "0", stopped)
    alerts = f'ALERTS{{alertname="TargetMissing", {gone}, alertstate='
    wait_until(lambda: ask(url, "query", query=f'{alerts}"firing"}}')["result"] != [], "this target's alert fires")
    # So many evaluations, one a second: a busy machine lets some pass.
    (pending,) = ask(url, "query", query=f'{alerts}"pending"}}[5m]')["result"]
    assert sum(float(stamp) >= stopped for stamp, _ in pending["values"]) <= 10
    # A gap and no flat line: what was pushed is gone with the one who told it, at once.
    assert ask(url, "query", query=f"cpu_usage @ {missed + 1}")["result"] == []
    start(host, "first")
    wait_until(lambda: alert not in firing(url), "the alert is quiet again")


def test_silent_monitor_fires(url: str) -> None:
    # The stub tells of a push in 1970, and of none by backend-1.
    wanted = {("CpuMonitorStale", "backend-7"), ("CpuMonitorSilent", "backend-1")}
    wait_until(lambda: wanted <= firing(url), "stale and silent monitors fire")


def test_killed_it_is_back_with_its_samples(host: Any, url: str) -> None:
    own = 'up{job="prometheus"}'
    assert host.check_output("systemctl show prometheus --property=RestartUSec") == "RestartUSec=500ms"

    def loses_no_more_than_it_must() -> bool:
        wait_until(lambda: value(url, f"count_over_time({own}[10s])") >= 10, "it has samples")
        # A scrape that has begun before is over by now.
        moment = float(ask(url, "query", query="time()")["result"][1]) - 10
        held = value(url, f"count_over_time({own}[1m] @ {moment})")
        pid = main_pid(host)
        host.check_output("kill -KILL %s", pid)
        killed = time.monotonic()
        wait_until(lambda: ready(url) and main_pid(host) != pid, "Prometheus is back")
        down = time.monotonic() - killed
        wait_until(lambda: value(url, f"count_over_time({own}[3s])") >= 3, "it scrapes again")
        assert value(url, f"count_over_time({own}[1m] @ {moment})") == held, "nothing from before is lost"
        series = ask(url, "query", query=f"{own}[2m]")["result"][0]["values"]
        stamps = [float(stamp) for stamp, _ in series if float(stamp) > moment + 5]
        gap = max(later - earlier for earlier, later in pairwise(stamps))
        # The scrape that was due when it died, and its place in the next second after the start. Before 3.12 a
        # Prometheus that starts learns its targets five seconds later.
        return gap <= down + 2 + (0 if at_least(url, 3, 12) else 5)

    # A busy machine may put off scrapes as well.
    assert any(loses_no_more_than_it_must() for _ in range(3)), "no samples for longer than it was down"


def test_broken_rule_never_goes_live(scenario: Scenario, host: Any, url: str, tmp_path: Path) -> None:
    broken = tmp_path / "alerts.yml"
    broken.write_text((RULES / "alerts.yml").read_text().replace("expr: up == 0", "expr: up == = 0"))
    state = main_pid(host), loaded_at(url), running_rules(url), host.file("/etc/prometheus/rules/alerts.yml").content
    run = converge(scenario, prometheus_rule_files=["rules/recording.yml", str(broken)])
    assert run.returncode == 2, run.stdout
    assert "could not parse expression: 1:7: parse error: unexpected" in words(run)
    assert state == (
        *(main_pid(host), loaded_at(url), running_rules(url)),
        host.file("/etc/prometheus/rules/alerts.yml").content,
    )


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({"prometheus_scrape_timeout": "5s"}, "scrape timeout greater than scrape interval"),
        ({"prometheus_retention_size": "plenty"}, "prometheus_retention_size is plenty: give a size such as 10GB."),
        ({"converge_app_targets": [{"address": "127.0.0.1/9101", "instance": "x"}]}, "is not a valid hostname"),
    ],
)
def test_broken_configuration_never_goes_live(
    scenario: Scenario, host: Any, url: str, variables: dict[str, object], sentence: str
) -> None:
    files = "cat /etc/prometheus/prometheus.yml /etc/prometheus/file_sd/*.yml"
    state = main_pid(host), loaded_at(url), running_config(url), host.check_output(files)
    run = converge(scenario, **variables)
    assert run.returncode == 2, run.stdout
    assert sentence in words(run)
    assert state == (main_pid(host), loaded_at(url), running_config(url), host.check_output(files))


def test_what_a_failed_run_left_behind_is_applied_by_the_next(
    scenario: Scenario, host: Any, url: str, tmp_path: Path
) -> None:
    changed = tmp_path / "alerts.yml"
    changed.write_text((RULES / "alerts.yml").read_text().replace("expr: up == 0", "expr: up < 1"))
    files = ["rules/recording.yml", str(changed)]
    # The rules are good and are written, then the configuration fails the play, and its handlers never run.
    run = converge(scenario, prometheus_rule_files=files, prometheus_scrape_timeout="5s")
    assert run.returncode == 2, run.stdout
    assert running_rules(url)["TargetMissing"] == "up == 0"
    pid = main_pid(host)
    converged(scenario, prometheus_rule_files=files)
    assert running_rules(url)["TargetMissing"] == "up < 1"
    assert main_pid(host) == pid
    # One that was cut off after it had written the unit.
    host.check_output("touch /etc/systemd/system/prometheus.service")
    converged(scenario)
    assert main_pid(host) != pid
    assert running_rules(url)["TargetMissing"] == "up == 0"


def test_reload_that_did_nothing_fails_the_play(scenario: Scenario, host: Any, url: str) -> None:
    # systemd calls any reload done whose command ends well; only Prometheus knows.
    folder = "/etc/systemd/system/prometheus.service.d"
    write(host, f"{folder}/test.conf", "[Service]\nExecReload=\nExecReload=/bin/true\n")
    host.check_output("systemctl daemon-reload")
    try:
        run = converge(scenario, prometheus_scrape_timeout="800ms", prometheus_start_seconds=10)
        assert run.returncode == 2, run.stdout
        assert "Ask Prometheus whether it runs this version and these files" in words(run)
        assert running_config(url)["global"]["scrape_timeout"] == "900ms"
    finally:
        host.check_output("rm -r %s && systemctl daemon-reload", folder)
        converged(scenario)
    assert running_config(url)["global"]["scrape_timeout"] == "900ms"


def test_check_mode_on_a_host_that_is_half_set_up(scenario: Scenario, host: Any) -> None:
    # A run was killed after the release was unpacked; and somebody adds a rule file.
    host.check_output("systemctl stop prometheus && mkdir -p /root/away/rules")
    host.check_output(
        "mv /etc/prometheus/rules/* /root/away/rules && mv /etc/systemd/system/prometheus.service /root/away"
    )
    host.check_output("systemctl daemon-reload")
    run = scenario.play(CONVERGE, "--check", "--diff")
    host.check_output("rm -r /root/away")
    converged(scenario)
    assert run.returncode == 0, run.stdout
    assert "+ExecStart=/usr/local/bin/prometheus" in run.stdout


def test_address_that_comes_late_is_waited_for(scenario: Scenario, host: Any) -> None:
    # Slow DHCP, a VPN. More failed starts than systemd's usual limit.
    there, gone = "ip address replace 192.0.2.9/32 dev lo", "ip address del 192.0.2.9/32 dev lo"
    host.check_output(there)
    try:
        converged(scenario, prometheus_address="192.0.2.9")
        host.check_output(f"{gone} && systemctl restart prometheus")
        restarts = "systemctl show prometheus --property=NRestarts --value"
        wait_until(lambda: int(host.check_output(restarts)) > 7, "it has tried several times")
        host.check_output(there)
        question = "curl --silent --fail --max-time 10 http://192.0.2.9:9090/-/ready"
        wait_until(lambda: host.run(question).rc == 0, "it is ready once its address is there")
    finally:
        host.run(gone)
        converged(scenario)


def test_somebody_elses_configuration_is_refused_by_name_and_adopted_when_said(
    scenario: Scenario, host: Any, url: str
) -> None:
    path = "/etc/prometheus/prometheus.yml"
    theirs = "global: {scrape_interval: 15s}\n"
    state = main_pid(host), loaded_at(url)
    write(host, path, theirs)
    try:
        run = converge(scenario)
        assert run.returncode == 2, run.stdout
        assert f"{path} was not written by this project" in words(run)
        assert "prometheus_adopt: true" in words(run)
        assert (main_pid(host), loaded_at(url), host.file(path).content_string) == (*state, theirs)
    finally:
        converged(scenario, prometheus_adopt=True)
    assert host.file(f"{path}.before-evenkeel").content_string == theirs
    assert running_config(url)["global"]["scrape_interval"] == "1s"
    host.check_output("rm %s.before-evenkeel", path)
    converged(scenario)


def test_samples_and_rules_of_somebody_else_are_refused_by_name(scenario: Scenario, host: Any) -> None:
    # As on a host where this role has never been: no release of its own.
    pid = main_pid(host)
    host.check_output("mv /opt/prometheus /opt/prometheus.away")
    try:
        run = converge(scenario)
        assert run.returncode == 2, run.stdout
        for path in ("/var/lib/prometheus/wal", "/etc/prometheus/rules/alerts.yml", "/usr/local/bin/prometheus"):
            assert f"{path} was not made by this project" in words(run)
        assert not host.file("/opt/prometheus").exists
        assert main_pid(host) == pid
    finally:
        host.check_output("mv /opt/prometheus.away /opt/prometheus")
    converged(scenario)


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({"prometheus_scrape_interval": 1}, "prometheus_scrape_interval has no unit: give a time with its unit"),
        ({"prometheus_version": 3.1}, "prometheus_version is 3.1: give the whole version in quotes"),
    ],
)
def test_number_where_a_unit_or_a_text_is_meant_is_refused(
    scenario: Scenario, variables: dict[str, object], sentence: str
) -> None:
    run = converge(scenario, **variables)
    assert run.returncode == 2, run.stdout
    assert sentence in words(run)


def test_rules_pass_their_unit_tests(host: Any) -> None:
    for path in [*RULES.glob("*.yml"), *(PROJECT / "tests" / "rules").glob("*.yml")]:
        write(host, f"/tmp/rules/{path.relative_to(PROJECT)}", path.read_text())
    run = host.run("cd /tmp/rules && promtool check rules roles/prometheus/files/rules/*.yml")
    assert run.rc == 0, run.stdout + run.stderr
    run = host.run("cd /tmp/rules && promtool test rules tests/rules/*.yml")
    assert run.rc == 0, run.stdout + run.stderr
    # The tests can fail: without its `for`, an alert fires too early.
    host.check_output("sed -i 's/for: 3s/for: 0s/' /tmp/rules/roles/prometheus/files/rules/alerts.yml")
    run = host.run("cd /tmp/rules && promtool test rules tests/rules/alerts.yml")
    assert run.rc != 0
    assert "FAILED" in run.stdout + run.stderr
