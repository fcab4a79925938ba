"""The whole site, from outside: what a client of the balancer sees, and what a second run does."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest
import requests
import yaml
from changes import BALANCER, played, without
from scenario import Scenario, recap, wait_until
from under_load import decided_states, states

BACKENDS = ("backend-1", "backend-2", "backend-3")


def get(scenario: Scenario, path: str) -> requests.Response:
    """Ask the site on a connection of its own."""
    return requests.get(f"http://{scenario.addresses['balancer']}{path}", timeout=60)


def shares(scenario: Scenario, count: int) -> Counter[str]:
    """Count who answers ``count`` requests; every one must be answered."""
    answers = [get(scenario, "/") for _ in range(count)]
    assert [answer.status_code for answer in answers] == [200] * count
    return Counter(answer.headers["X-Backend"] for answer in answers)


def processes(scenario: Scenario) -> dict[str, str]:
    """Return what must survive a second run: container ids with their start, the PIDs of HAProxy and engines."""
    found = {"haproxy": scenario.host("balancer").check_output("systemctl show haproxy --property=MainPID")}
    for name in BACKENDS:
        host = scenario.host(name)
        found[name] = host.check_output("docker inspect backend_app --format '{{.Id}} {{.State.StartedAt}}'")
        found[f"{name} engine"] = host.check_output("systemctl show docker --property=MainPID")
    return found


def test_requests_reach_all_backends_evenly(scenario: Scenario) -> None:
    # A backend that has only just come back gets less for a while.
    wait_until(lambda: shares(scenario, 60) == dict.fromkeys(BACKENDS, 20), "each backend has a third")


@pytest.mark.parametrize(("path", "wanted"), [("/factorial/5", "120"), ("/sleep/0/hello", "hello"), ("/", "evenkeel")])
def test_application_answers_through_the_balancer(scenario: Scenario, path: str, wanted: str) -> None:
    answer = get(scenario, path)
    assert answer.status_code == 200
    assert wanted in answer.text
    assert answer.json()["host"] in BACKENDS
    assert answer.json()["date"]


@pytest.mark.parametrize("path", ["/factorial/-1", "/factorial/10000000", "/factorial/x", "/sleep/99999/x"])
def test_out_of_range_numbers_are_refused_with_a_sentence(scenario: Scenario, path: str) -> None:
    answer = get(scenario, path)
    assert answer.status_code == 400
    assert answer.json()["error"].endswith(".")


def test_header_names_keep_their_case(scenario: Scenario) -> None:
    output = scenario.host("balancer").check_output(
        "curl --silent --include http://%s/", scenario.addresses["balancer"]
    )
    assert "\nX-Backend: backend-" in output.replace("\r", "")
    assert "\nX-App-Version: 1.0.0-" in output.replace("\r", "")


def test_backends_listen_on_their_own_address_only(scenario: Scenario) -> None:
    for name in BACKENDS:
        listening = scenario.host(name).check_output("ss -Hltn 'sport = :80'").split("\n")
        assert [line.split()[3] for line in listening] == [f"{scenario.addresses[name]}:80"]


def test_no_connection_to_a_backend_outlives_its_post(scenario: Scenario) -> None:
    def kept() -> set[str]:
        # Prometheus has connections of its own. Checks come and go.
        rows = "ss -Htnp state established 'dport = :80' | grep haproxy || true"
        return {row.split()[2] for row in scenario.host("balancer").check_output(rows).splitlines()}

    # Where its backend vanished meanwhile, the client's next POST on one would be lost. From 3.0 on those of GET are
    # kept, for GET alone.
    version = re.search(r"version (\d+)", scenario.host("balancer").check_output("haproxy -v"))
    assert version
    before = kept()
    with requests.Session() as client:
        for method in ["POST"] * 6 + ["GET"] * 6 * (int(version[1]) < 3):
            answer = client.request(method, f"http://{scenario.addresses['balancer']}/factorial/5", timeout=60)
            assert answer.status_code == 200
        wait_until(lambda: kept() <= before, "none is kept", seconds=5)


def test_units_of_ours_are_kept_to_what_they_need(scenario: Scenario) -> None:
    # Those that we wrote, and those of packages that we keep to it by a file beside them.
    ours = (
        "cd /etc/systemd/system && grep -l 'Written by evenkeel' *.service; ls -d haproxy.service.d grafana-server.*.d"
    )
    found: dict[str, float] = {}
    for name in scenario.addresses:
        host = scenario.host(name)
        for unit in [line.removesuffix(".d") for line in host.run(ours).stdout.split()]:
            said = host.check_output("systemd-analyze security --no-pager %s", unit).splitlines()[-1]
            found[unit] = max(found.get(unit, 0), float(said.partition(f"for {unit}: ")[2].split()[0]))
    assert set(found) >= {"haproxy.service", "grafana-server.service", "prometheus.service", "cpu_monitor.service"}
    assert set(found) >= {"backend_app.service", "backend_app_announce.service", "evenkeel-firewall.service"}
    assert {unit: exposure for unit, exposure in found.items() if exposure > 2.5} == {}


def test_second_run_touches_nothing(scenario: Scenario) -> None:
    before = processes(scenario)
    run = scenario.play("site.yml")
    assert run.returncode == 0, run.stdout
    assert {name: counters["changed"] for name, counters in recap(run.stdout).items()} == dict.fromkeys(
        ("balancer", *BACKENDS), 0
    )
    assert processes(scenario) == before


def test_stopped_backend_is_taken_out_and_comes_back(scenario: Scenario) -> None:
    victim = scenario.host("backend-2")
    assert decided_states(scenario)["backend-2"] == "UP"
    victim.check_output("docker stop backend_app")
    wait_until(lambda: states(scenario)["backend-2"] == "DOWN", "backend-2 is DOWN at the balancer")
    assert shares(scenario, 20) == {"backend-1": 10, "backend-3": 10}
    victim.check_output("docker start backend_app")
    wait_until(lambda: states(scenario)["backend-2"] == "UP", "backend-2 is UP again")
    # Its share grows for a while first.
    wait_until(lambda: shares(scenario, 30) == dict.fromkeys(BACKENDS, 10), "backend-2 has its share again")


def test_limit_to_the_balancer_keeps_all_backends(scenario: Scenario) -> None:
    run = scenario.play("site.yml", "--limit", "balancer")
    assert run.returncode == 0, run.stdout
    assert recap(run.stdout)["balancer"]["changed"] == 0
    assert set(states(scenario)) == set(BACKENDS)


def test_backend_removed_from_the_inventory_leaves_the_balancer(scenario: Scenario) -> None:
    pid = processes(scenario)["haproxy"]
    try:
        with without(scenario, "backend-3") as smaller:
            run = scenario.play("site.yml", *BALANCER, inventory=smaller)
        assert run.returncode == 0, run.stdout
        assert set(states(scenario)) == {"backend-1", "backend-2"}
    finally:
        run = scenario.play("site.yml", *BALANCER)
    assert run.returncode == 0, run.stdout
    assert set(states(scenario)) == set(BACKENDS)
    assert processes(scenario)["haproxy"] == pid, "HAProxy was restarted, not reloaded"


def test_unreachable_backend_does_not_stop_the_others(scenario: Scenario, tmp_path: Path) -> None:
    inventory = yaml.safe_load(scenario.inventory.read_text())
    # A loopback port where nothing listens.
    inventory["all"]["children"]["backends"]["hosts"]["backend-1"]["ansible_port"] = 9
    broken = tmp_path / "hosts.yml"
    broken.write_text(yaml.safe_dump(inventory))
    run = scenario.play("site.yml", inventory=broken)
    counters = recap(run.stdout)
    assert run.returncode == 4, run.stdout
    assert counters["backend-1"]["unreachable"] == 1
    assert all(
        counters[name]["failed"] == counters[name]["unreachable"] == 0 for name in counters if name != "backend-1"
    )
    assert counters["balancer"]["changed"] == 0, "the balancer lost the unreachable backend"


def test_front_that_does_not_serve_ends_the_run(scenario: Scenario) -> None:
    nothing_ready = ("haproxy_check_path=/nowhere", "503")
    too_late = ("haproxy_timeout_server=30ms backend_app_sleep_max_seconds=0", "504")
    try:
        for setting, answer in (nothing_ready, too_late):
            said = played(scenario, "site.yml", *BALANCER, "-e", setting, wanted=2)
            assert f"did not answer as wanted within 10 s: last it said {answer}" in said
    finally:
        played(scenario, "site.yml", *BALANCER)
