"""A service in maintenance: its page at once and for as long as an operator wants, and the other services serve."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
import yaml
from changes import BALANCER, deploys_log, expect, played
from described import SETTINGS, described, run
from scenario import Scenario, recap, wait_until

MAP = "/var/lib/evenkeel/haproxy/maintenance.map"
PICTURES = {"Host": "pictures.example.com"}
# The longest that is allowed.
PAGE = "<!DOCTYPE html><p>Gleich zurück</p>".ljust(13_999, ".")
PLAIN = "This service is down for maintenance. Please try again later.\n"
NOTE = "pictures is in maintenance at balancer, as an operator has ordered: clients get 503."
ON = ("-e", "service=pictures", "-e", "state=on")
OFF = ("-e", "service=pictures", "-e", "state=off")


@pytest.fixture
def url(scenario: Scenario) -> Iterator[str]:
    yield f"http://{scenario.addresses['balancer']}"
    scenario.host("balancer").check_output(f"sed -i '/^[^#]/d' {MAP} && systemctl reload haproxy")


def answer(url: str, method: str = "GET", path: str = "/") -> tuple[int, str]:
    """Return status and text of what a client of the pictures gets."""
    got = requests.request(method, url + path, headers=PICTURES, timeout=60)
    got.encoding = "utf-8"
    return got.status_code, got.text


def errors(scenario: Scenario) -> str:
    """Return how many errors HAProxy counts for the pictures."""
    text = requests.get(f"http://{scenario.addresses['balancer']}:8404/stats;csv", timeout=60).text
    rows = csv.DictReader(text.removeprefix("# ").splitlines())
    return next(row["hrsp_5xx"] for row in rows if (row["pxname"], row["svname"]) == ("pictures", "BACKEND"))


def test_maintenance_lasts_until_it_is_ended_and_is_one_services_own(
    scenario: Scenario, url: str, tmp_path: Path
) -> None:
    (tmp_path / "page.html").write_text(PAGE)
    host = scenario.host("balancer")
    with described(pictures={"maintenance_page": str(tmp_path / "page.html")}) as changed:
        played(scenario, "site.yml", "-i", changed, *BALANCER)
        assert answer(url)[0] == 200
        said = played(scenario, "maintenance.yml", "-i", changed, *ON, "--check")
        assert "pictures would be put into maintenance on balancer." in said
        assert answer(url)[0] == 200

        process = host.check_output("systemctl show haproxy --property=MainPID && pgrep haproxy")
        said = played(scenario, "maintenance.yml", "-i", changed, *ON)
        assert NOTE in said
        assert " maintenance service=pictures state=on" in deploys_log(scenario)[-1]
        counted = errors(scenario)
        got = requests.get(url, headers=PICTURES, timeout=60)
        assert (got.headers["Retry-After"], got.headers["Content-Type"]) == ("60", "text/html; charset=utf-8")
        for method, path in (("GET", "/"), ("POST", "/order"), ("DELETE", "/x?y=1")):
            assert answer(url, method, path) == (503, PAGE), method
        assert answer(url, "HEAD") == (503, "")
        assert requests.get(url, timeout=60).json()["version"].startswith("1.0-")
        # No reload, and nothing that the alert ErrorShareHigh counts.
        assert host.check_output("systemctl show haproxy --property=MainPID && pgrep haproxy") == process
        assert errors(scenario) == counted

        again = scenario.play("maintenance.yml", "-i", changed, *ON)
        assert recap(again.stdout)["balancer"]["changed"] == 0, again.stdout
        for change in ("reload", "restart"):
            host.check_output(f"systemctl {change} haproxy")
            wait_until(lambda: answer(url) == (503, PAGE), f"maintenance lasts over a {change}", starting=True)
        assert NOTE in played(scenario, "status.yml", "-i", changed)
        said = played(scenario, "chaos.yml", "-i", changed, "-e", "chaos_service=pictures", wanted=2)
        assert "pictures is in maintenance at balancer, so nothing could be learnt of it: end that first" in said

    # Without its page, which is gone from the host.
    assert NOTE in run(scenario, "site.yml", *BALANCER)
    assert answer(url) == (503, PLAIN)
    assert not host.run("ls /etc/haproxy/evenkeel-*.html").succeeded
    assert "pictures is not in maintenance at balancer: " in run(scenario, "maintenance.yml", *OFF)
    assert answer(url)[0] == 200


def test_roll_outs_keep_maintenance_and_say_so(scenario: Scenario, url: str) -> None:
    run(scenario, "maintenance.yml", *ON)
    for playbook in (("deploy.yml", "-e", "version=7.0"), ("rollback.yml",)):
        assert NOTE in run(scenario, *playbook, "-e", "service=pictures")
        assert answer(url) == (503, PLAIN)


def test_balancer_out_of_reach_is_named_and_the_others_are_switched(
    scenario: Scenario, url: str, tmp_path: Path
) -> None:
    away = {"ansible_host": "127.0.0.1", "ansible_port": 9, "service_address": "192.0.2.9"}
    inventory = tmp_path / "hosts.yml"
    inventory.write_text(yaml.safe_dump({"all": {"children": {"balancers": {"hosts": {"balancer-2": away}}}}}))
    said = played(scenario, "maintenance.yml", "-i", str(SETTINGS), "-i", str(inventory), *ON, wanted=2)
    assert "balancer-2 can't be reached, so nobody knows whether pictures was put into maintenance there" in said
    assert NOTE in said
    assert answer(url) == (503, PLAIN)


def test_map_that_a_killed_run_left_is_mended_and_services_that_are_gone_are_forgotten(
    scenario: Scenario, url: str
) -> None:
    # As YAML reads "on".
    run(scenario, "maintenance.yml", "-e", "service=pictures", "-e", '{"state": true}')
    host = scenario.host("balancer")
    # In the file, and not yet in the process.
    host.check_output(f"printf 'gone on\\nshop on\\n' >>{MAP}")
    assert requests.get(url, timeout=60).status_code == 200
    run(scenario, "site.yml", *BALANCER)
    expect(host.check_output(f"grep -v '^#' {MAP}").splitlines(), ["pictures on", "shop on"])
    assert requests.get(url, timeout=60).text == PLAIN
