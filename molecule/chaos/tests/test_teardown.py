"""The whole site is taken off its hosts, and set up anew. What is somebody else's is as before, all the time."""

from __future__ import annotations

import kills
import pytest
from changes import played
from kills import LOCK, on_host
from scenario import Scenario, recap
from under_load import wait_until_all_up

TEARDOWN = ("teardown.yml", "-e", "teardown_confirm=yes")
# Whatever carries our mark or name, wherever it is; images and their layers stay, and what makes the host a lab's.
REMAINS = """
grep -rIls "Written by evenkeel" /etc /usr/local /opt
find /etc /usr/local /opt /run /var/lib /var/log -path /var/lib/docker -prune -o -name "*evenkeel*" -print |
  grep -v evenkeel-entrypoint
ls -d /opt/prometheus /etc/prometheus/prometheus.yml /usr/local/bin/prom* /usr/local/sbin/cpu_monitor /run/backend_app
docker ps --all --format "container {{.Names}}"
systemctl list-unit-files --no-legend 'backend_*' 'prometheus*' 'pushgateway*' 'cpu_monitor*' 'haproxy.socket' |
  cut -d " " -f 1
nft list tables | grep evenkeel
for unit in haproxy grafana-server; do systemctl is-active --quiet $unit && echo "$unit runs"; done
"""
FORMER = "docker run --detach --name backend_former --label evenkeel.service=former prom/pushgateway:v1.11.4"
THEIRS = "docker run --detach --name theirs --volume theirs:/theirs prom/pushgateway:v1.11.4"
LOOK = "docker inspect theirs --format '{{.Id}} {{.State.StartedAt}} {{.State.Running}}'; docker volume ls --quiet"
FILES = {"/etc/haproxy/theirs.pem", "/etc/prometheus/rules/theirs.yml", "/etc/systemd/system/theirs.service"}


def remains(scenario: Scenario, name: str) -> set[str]:
    """Return what is on a host that may be ours, and all its containers."""
    return set(on_host(scenario, name, f"({REMAINS}) 2>/dev/null || true").splitlines())


def places(scenario: Scenario) -> list[str]:
    """Return the URLs at which a site answers, its parts too."""
    hosts = scenario.addresses
    paths = {"": ["balancer"], ":8404/stats": ["balancer"], ":9090/-/ready": ["balancer"]}
    paths |= {":3000/api/health": ["balancer"], ":80/": scenario.backends, ":9091/-/ready": scenario.backends}
    return [f"http://{hosts[name]}{path}" for path, names in paths.items() for name in names]


def answers(scenario: Scenario, url: str) -> bool:
    """Return whether somebody is there and says that all is well, to the balancer: backends answer to nobody else."""
    ask = f"curl --silent --fail --output /dev/null --max-time 60 {url} && echo yes || echo no"
    return on_host(scenario, "balancer", ask) == "yes"


@pytest.fixture(scope="module")
def theirs(scenario: Scenario) -> str:
    """Put down what is somebody else's; return how it looks."""
    for path in FILES:
        on_host(scenario, "balancer", f"echo theirs >{path}")
    # Of a service that nobody describes any more.
    on_host(scenario, "backend-1", FORMER)
    return on_host(scenario, "backend-1", f"{THEIRS} >/dev/null; {LOOK}")


def test_nothing_is_touched_without_the_word_or_in_check_mode(scenario: Scenario, theirs: str) -> None:
    assert theirs.splitlines()[0].endswith(" true")
    hosts = list(scenario.addresses)
    before = {name: remains(scenario, name) for name in hosts}
    said = played(scenario, "teardown.yml", wanted=2)
    assert f"Nothing was changed. To do it: type {len(hosts)} when asked, or -e teardown_confirm=yes" in said
    said = played(scenario, *TEARDOWN, "--check")
    assert "container backend_former" in said
    assert "/etc/haproxy/haproxy.cfg" in said
    assert {name: remains(scenario, name) for name in hosts} == before
    assert [url for url in places(scenario) if not answers(scenario, url)] == []


def test_running_roll_out_is_left_alone(scenario: Scenario) -> None:
    on_host(scenario, "balancer", f"""echo '{{"holder": "me@elsewhere", "token": "other"}}' >{LOCK}""")
    try:
        said = played(scenario, *TEARDOWN, wanted=2)
    finally:
        on_host(scenario, "balancer", f"rm -f {LOCK}")
    assert "me@elsewhere" in said
    assert "Nothing was removed." in said
    assert [url for url in places(scenario) if not answers(scenario, url)] == []


def test_killed_run_is_no_obstacle(scenario: Scenario) -> None:
    # In the middle of it, or soon after. The next takes over the lock, and goes on.
    assert kills.killed(scenario, TEARDOWN, lambda _, name: "prometheus : teardown | Stop" in name, delay=0.5)


def test_site_is_gone_and_others_things_are_as_before(scenario: Scenario, theirs: str) -> None:
    said = played(scenario, *TEARDOWN)
    assert "backend-1: /etc/docker/daemon.json stays: 1 container (theirs)" in said
    assert "Data stays: /var/lib/grafana, /var/lib/prometheus on balancer." in said
    assert [url for url in places(scenario) if answers(scenario, url)] == []
    # By the notes the next site.yml knows that the data is this site's.
    assert remains(scenario, "balancer") == {"/var/lib/prometheus/.evenkeel", "/var/lib/grafana/.evenkeel"}
    # The record of what is ours in daemon.json stays with it.
    assert remains(scenario, "backend-1") == {"container theirs", "/var/lib/evenkeel"}
    for name in scenario.backends[1:]:
        assert remains(scenario, name) == set()
        assert not scenario.host(name).file("/etc/docker/daemon.json").exists
    assert on_host(scenario, "backend-1", LOOK) == theirs
    for path in FILES:
        assert on_host(scenario, "balancer", f"cat {path}") == "theirs"


def test_second_teardown_changes_nothing(scenario: Scenario) -> None:
    run = scenario.play(*TEARDOWN)
    assert run.returncode == 0, run.stdout
    assert {name: counters["changed"] for name, counters in recap(run.stdout).items()} == dict.fromkeys(
        [*scenario.addresses, "localhost"], 0
    )


def test_site_is_set_up_anew_on_its_data(scenario: Scenario, theirs: str) -> None:
    played(scenario, "site.yml")
    wait_until_all_up(scenario)
    assert [url for url in places(scenario) if not answers(scenario, url)] == []
    assert on_host(scenario, "backend-1", LOOK) == theirs


def test_data_goes_when_said(scenario: Scenario) -> None:
    said = played(scenario, *TEARDOWN, "-e", "teardown_data=yes")
    assert "Data stays" not in said
    assert remains(scenario, "balancer") == set()
    gone = "ls -A /var/lib/grafana; ls -d /var/lib/prometheus 2>/dev/null; getent passwd prometheus; true"
    assert on_host(scenario, "balancer", gone) == ""
