"""All that is wrong with hosts is told at once, and nothing is changed."""

from __future__ import annotations

import json
from pathlib import Path

from scenario import Scenario, recap

LOCK = (
    "import fcntl, time; f = open('/var/lib/dpkg/lock-frontend', 'w'); fcntl.lockf(f, fcntl.LOCK_EX); time.sleep(120)"
)


def test_sound_site_has_no_problem_and_is_left_as_it_is(scenario: Scenario) -> None:
    run = scenario.play("preflight.yml")
    assert run.returncode == 0, run.stdout
    assert all(host["changed"] == 0 for host in recap(run.stdout).values())


def test_several_faults_on_several_hosts_are_told_at_once(scenario: Scenario, tmp_path: Path) -> None:
    balancer, backend = scenario.host("balancer"), scenario.host("backend-1")
    address = scenario.addresses["backend-1"]
    found = tmp_path / "found.json"
    undo = [
        (backend, "rm -f /etc/apt/sources.list.d/broken.list"),
        (balancer, f"ip route del blackhole {address}/32"),
        (balancer, "systemctl stop hold-apt hold-port"),
    ]
    try:
        backend.check_output("echo 'deb nonsense' > /etc/apt/sources.list.d/broken.list")
        balancer.check_output(f"ip route add blackhole {address}/32")
        balancer.check_output(f'systemd-run --unit=hold-apt python3 -c "{LOCK}"')
        balancer.check_output("systemd-run --unit=hold-port python3 -m http.server 9099")
        settings = {"preflight_json": str(found), "preflight_apt_seconds": 1, "grafana_port": 9099, "haproxy_prot": 1}
        run = scenario.play("site.yml", "-e", json.dumps(settings))
    finally:
        for host, command in undo:
            host.run(command)
    assert run.returncode == 2, run.stdout
    assert all(host["changed"] == 0 for host in recap(run.stdout).values())
    said = [(set(each["hosts"]), each["what"]) for each in json.loads(found.read_text())["problems"]]
    for name, words in (
        ("balancer", "haproxy_prot is set for every host"),
        ("balancer", "Apt is locked by python3 (process"),
        ("backend-1", "apt is broken (Malformed entry 1 in list file /etc/apt/sources.list.d/broken.list"),
        ("balancer", f"balancer does not get through to backend-1 at {address}:80"),
        ("balancer", "is taken by python3 (process"),
    ):
        assert any(name in hosts and words in what for hosts, what in said), said
