"""The firewall of a site, from outside and from inside: what answers to whom, and what outlives what."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests
import yaml
from scenario import Scenario, recap, wait_until

SITE = "site.yml"
SITE_HOSTS = ("balancer", "backend-1", "backend-2")
TABLE = "inet evenkeel"
# What may answer to strangers, by what a host's name begins with.
OPEN = {"balancer": {22, 80}, "backend": {22}}
RULES = "/etc/evenkeel-firewall.nft"
KEPT = "/var/lib/evenkeel/firewall/rules.nft"
# Asks every port for a connection; a port that says nothing takes two seconds.
SCAN = """
import socket, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
for port in range(1, 65536):
    with socket.socket(family) as probe:
        probe.settimeout(2)
        if probe.connect_ex((sys.argv[1], port)) == 0:
            print(port)
"""
# Two networks of which the second has the balancer's rules, and a service that those close.
NETWORKS = """
set -e
ip netns add one
ip netns add two
ip link add one0 netns one type veth peer name two0 netns two
for side in one:1 two:2; do
  ip -netns ${{side%:*}} address add 198.51.100.${{side#*:}}/24 dev ${{side%:*}}0
  ip -netns ${{side%:*}} link set ${{side%:*}}0 up
done
nsenter --net=/run/netns/two nft --file {kept}
systemd-run --unit=pieces nsenter --net=/run/netns/two python3 -m http.server 9091
for try in $(seq 1000); do
  nsenter --net=/run/netns/two ss -Hltn | grep -q 9091 && exit
  sleep 0.1
done
exit 1
"""
# A SYN whose flags come in a second piece; prints the answer's flags, or nothing.
PIECES = """
import socket, struct, sys
source, target, port, cut = "198.51.100.1", "198.51.100.2", 9091, int(sys.argv[1])
def total(data):
    words = struct.unpack(f"!{len(data) // 2}H", data)
    value = sum(words)
    while value >> 16:
        value = (value & 0xFFFF) + (value >> 16)
    return ~value & 0xFFFF
addresses = socket.inet_aton(source) + socket.inet_aton(target)
head = struct.pack("!HHIIBBHHH", 45678, port, 1, 0, 5 << 4, 2, 1024, 0, 0)
check = total(addresses + struct.pack("!HH", 6, len(head)) + head)
head = head[:16] + struct.pack("!H", check) + head[18:]
answers = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP)
answers.settimeout(3)
send = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
def piece(data, offset, more):
    about = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(data), 4242, (0x2000 if more else 0) | offset, 64, 6, 0)
    send.sendto(about + addresses + data, (target, 0))
if cut:
    piece(head[:cut], 0, True)
    piece(head[cut:], cut // 8, False)
else:
    piece(head, 0, False)
try:
    while True:
        packet = answers.recv(200)
        if packet[12:16] == socket.inet_aton(target) and packet[20:24] == struct.pack("!HH", port, 45678):
            print(packet[33])
            break
except TimeoutError:
    pass
"""


def on(scenario: Scenario, name: str, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command on a host without SSH, so that no firewall is in the way; returns its result."""
    line = ["docker", "exec", scenario.container(name), *command]
    return subprocess.run(line, check=False, capture_output=True, text=True, timeout=300)


def done(scenario: Scenario, name: str, script: str) -> str:
    """Run a shell script on a host, and return what it prints; fails the test where the script fails."""
    result = on(scenario, name, "sh", "-c", script)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def address6(scenario: Scenario, name: str) -> str:
    """Return a host's IPv6 address."""
    about = json.loads(done(scenario, name, "ip -json -6 address show dev eth0 scope global"))
    return str(about[0]["addr_info"][0]["local"])


def scan(scenario: Scenario, address: str) -> set[int]:
    """Return the TCP ports of an address that answer to the outsider."""
    result = on(scenario, "outsider", "python3", "-c", SCAN, address)
    assert result.returncode == 0, result.stderr
    return {int(port) for port in result.stdout.split()}


def reaches(scenario: Scenario, name: str, address: str, port: int) -> bool:
    """Return whether a host gets a connection to a port."""
    script = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 2)"
    return on(scenario, name, "python3", "-c", script, address, str(port)).returncode == 0


def live(scenario: Scenario, name: str) -> str:
    """Return the table as the kernel has it; empty where it has none."""
    return on(scenario, name, "nft", "--stateless", "list", "table", *TABLE.split()).stdout


def others(scenario: Scenario, name: str) -> str:
    """Return all tables but ours."""
    tables = done(scenario, name, "nft list tables").splitlines()
    foreign = [table.removeprefix("table ") for table in tables if table != f"table {TABLE}"]
    assert foreign
    return "\n".join(done(scenario, name, f"nft --stateless list table {table} 2>&1") for table in foreign)


def firewall(scenario: Scenario, *arguments: str, inventory: Path | None = None) -> tuple[int, str]:
    """Run site.yml for the firewall alone; returns exit code and output."""
    run = scenario.play(SITE, "--tags", "firewall", *arguments, inventory=inventory)
    return run.returncode, run.stdout + run.stderr


def said(output: str) -> str:
    """Return an output in one line."""
    return " ".join(output.split())


def serves(scenario: Scenario) -> bool:
    try:
        answer = requests.get(f"http://{scenario.addresses['balancer']}/", timeout=10)
    except requests.RequestException:
        return False
    return answer.status_code == 200


@contextmanager
def listener(scenario: Scenario, name: str, port: int) -> Iterator[None]:
    """A service of somebody else's, at every address of a host, IPv6 too."""
    done(scenario, name, f"systemd-run --unit=somebody python3 -m http.server {port} --bind ::")
    try:
        ask = f"for try in $(seq 1000); do ss -Hltn 'sport = :{port}' | grep -q . && exit; sleep 0.1; done; exit 1"
        done(scenario, name, ask)
        yield
    finally:
        done(scenario, name, "systemctl stop somebody")


def check_outside(scenario: Scenario) -> None:
    """Scan every host of the site as a stranger, by IPv4 and IPv6."""
    for name, open_ports in OPEN.items():
        for host in [each for each in scenario.addresses if each.startswith(name)]:
            assert scan(scenario, scenario.addresses[host]) == open_ports, host
            # What listens there by IPv6.
            assert {22} <= scan(scenario, address6(scenario, host)) <= open_ports, host


def test_stranger_finds_services_and_ssh_alone(scenario: Scenario) -> None:
    with listener(scenario, "backend-1", 7777):
        # It is there.
        assert reaches(scenario, "backend-2", scenario.addresses["backend-1"], 7777)
        check_outside(scenario)


def rebooted(scenario: Scenario, name: str) -> None:
    """Reboot a host, and wait until it has come up to where it may be asked."""
    started = done(scenario, name, "stat -c %Y /proc/1")
    scenario.reboot(name)

    def again() -> bool:
        return on(scenario, name, "stat", "-c", "%Y", "/proc/1").stdout not in {"", started}

    wait_until(again, f"{name} has booted")


def wait_for_ssh(scenario: Scenario) -> None:
    """Wait until SSH gets in at every host of the site."""
    for name in SITE_HOSTS:
        wait_until(lambda: reaches(scenario, "outsider", scenario.addresses[name], 22), f"{name} has SSH")  # noqa: B023


def test_reboot_and_restart_of_the_engine_change_nothing(scenario: Scenario) -> None:
    before = [live(scenario, name) for name in SITE_HOSTS]
    for name in ("balancer", "backend-1"):
        rebooted(scenario, name)
    done(scenario, "backend-2", "systemctl restart docker")
    wait_until(lambda: serves(scenario), "the site serves")
    wait_until(lambda: [live(scenario, name) for name in SITE_HOSTS] == before, "all are closed again")
    pushgateway = scenario.addresses["backend-1"]
    wait_until(lambda: reaches(scenario, "balancer", pushgateway, 9091), "the Pushgateway is up again")
    wait_for_ssh(scenario)
    check_outside(scenario)


def test_backends_answer_to_balancers_and_to_no_other_backend(scenario: Scenario) -> None:
    other = scenario.addresses["backend-2"]
    for port in (80, 9091):
        assert reaches(scenario, "balancer", other, port)
        # The host itself, and so its monitor.
        assert reaches(scenario, "backend-2", other, port)
        assert not reaches(scenario, "backend-1", other, port)
        # An operator has no business there.
        with pytest.raises(requests.ConnectionError):
            requests.get(f"http://{other}:{port}/", timeout=5)


def test_monitoring_answers_to_site_and_operators(scenario: Scenario) -> None:
    balancer = scenario.addresses["balancer"]
    for port, path in ((8404, "/stats"), (9090, "/-/ready"), (3000, "/api/health")):
        url = f"http://{balancer}:{port}{path}"
        # The balancer may have come up only just now.
        wait_until(lambda: requests.get(url, timeout=60).status_code == 200, path, starting=True)  # noqa: B023
        assert reaches(scenario, "backend-1", balancer, port)
        assert not reaches(scenario, "outsider", balancer, port)


def test_containers_reach_their_host_and_the_world(scenario: Scenario) -> None:
    inside = "import socket; socket.create_connection(('{}', {}), 5)"
    own, balancer = scenario.addresses["backend-1"], scenario.addresses["balancer"]
    for address, port in ((own, 9091), (own, 22), (balancer, 80)):
        script = inside.format(address, port)
        assert on(scenario, "backend-1", "docker", "exec", "backend_app", "python3", "-c", script).returncode == 0


def test_no_way_around_by_a_second_network(scenario: Scenario) -> None:
    backend = scenario.addresses["backend-1"]
    container = done(
        scenario, "backend-1", "docker inspect --format '{{.NetworkSettings.IPAddress}}' backend_app"
    ).strip()
    done(scenario, "backend-1", "ip address add 192.0.2.11/24 dev eth0")
    done(scenario, "outsider", "ip address add 192.0.2.13/24 dev eth0")
    try:
        routes = f"ip route add {backend} via 192.0.2.11; ip route add {container} via 192.0.2.11"
        done(scenario, "outsider", routes)
        for address, port in ((backend, 80), (backend, 9091), ("192.0.2.11", 9091), (container, 8000)):
            assert not reaches(scenario, "outsider", address, port)
        assert reaches(scenario, "outsider", backend, 22)
        # Without the table it is a way.
        done(scenario, "backend-1", f"nft delete table {TABLE}")
        assert reaches(scenario, "outsider", backend, 9091)
    finally:
        done(scenario, "backend-1", f"ip address del 192.0.2.11/24 dev eth0; nft --file {KEPT}")
        done(scenario, "outsider", f"ip address del 192.0.2.13/24 dev eth0; ip route del {backend} || true")


def test_no_way_around_by_small_pieces(scenario: Scenario) -> None:
    # Between two networks that track no connection, as on a balancer without an engine: tracking puts pieces together.
    done(scenario, "balancer", NETWORKS.format(kept=KEPT))

    def answer(cut: int) -> str:
        result = on(scenario, "balancer", "nsenter", "--net=/run/netns/one", "python3", "-c", PIECES, str(cut))
        assert result.returncode == 0, result.stderr
        return result.stdout.strip()

    try:
        # RST and ACK: it is closed.
        assert answer(0) == "20"
        assert answer(8) == ""
        done(scenario, "balancer", f"nsenter --net=/run/netns/two nft delete table {TABLE}")
        # SYN and ACK: it would be open.
        assert (answer(0), answer(8)) == ("18", "18")
    finally:
        done(scenario, "balancer", "systemctl stop pieces; ip netns del one; ip netns del two")


def test_table_that_was_emptied_by_hand_is_mended_once(scenario: Scenario) -> None:
    before = live(scenario, "backend-1")
    done(scenario, "backend-1", f"nft flush table {TABLE}")
    assert reaches(scenario, "outsider", scenario.addresses["backend-1"], 9091)
    code, output = firewall(scenario, "--check")
    assert (code, recap(output)["backend-1"]["changed"], recap(output)["backend-2"]["changed"]) == (0, 1, 0), output
    code, output = firewall(scenario)
    assert code == 0, output
    assert live(scenario, "backend-1") == before
    code, output = firewall(scenario)
    assert (code, {host: each["changed"] for host, each in recap(output).items()}) == (
        0,
        dict.fromkeys(SITE_HOSTS, 0),
    )


def test_distributions_unit_that_empties_all_tables_brings_ours_back(scenario: Scenario) -> None:
    # The balancer has no engine whose rules would go.
    before = live(scenario, "balancer")
    try:
        for verb in ("start", "reload", "restart"):
            done(scenario, "balancer", f"systemctl {verb} nftables")
            assert live(scenario, "balancer") == before, verb
    finally:
        done(scenario, "balancer", "systemctl stop nftables; systemctl restart evenkeel-firewall")
    assert live(scenario, "balancer") == before


def test_rules_that_let_nobody_in_are_taken_back(scenario: Scenario) -> None:
    before = live(scenario, "backend-1"), done(scenario, "backend-1", f"cat {KEPT}")
    # The attempt to get in ends before the trial does.
    closed = {"__firewall_open": [80], "admin_networks": [], "ansible_timeout": 45, "firewall_undo_seconds": 300}
    code, output = firewall(scenario, "--limit", "backend-1", "-e", json.dumps(closed))
    assert code == 2
    assert "backend-1 was not let in anew under the new rules" in said(output)
    assert "The former ones are back" in said(output)
    assert (live(scenario, "backend-1"), done(scenario, "backend-1", f"cat {KEPT}")) == before
    assert scenario.host("backend-1").check_output("id -u") == "0"
    code, output = firewall(scenario)
    assert code == 0, output
    assert (live(scenario, "backend-1"), done(scenario, "backend-1", f"cat {KEPT}")) == before


def trial(scenario: Scenario, seconds: int) -> None:
    """Load rules that let no stranger in by SSH, for so long, and say no more."""
    done(scenario, "backend-1", f"sed 's/tcp dport {{ 22 }}/tcp dport 9/' {RULES} >/tmp/closed.nft")
    arguments = f"state=tried rules=/tmp/closed.nft kept={KEPT} seconds={seconds}"
    command = ["ansible", "-i", str(scenario.inventory), "backend-1", "--become", "-m", "nft_table", "-a", arguments]
    run = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stdout + run.stderr


def test_host_whose_run_was_cut_off_opens_itself(scenario: Scenario) -> None:
    before = live(scenario, "backend-1")
    address = scenario.addresses["backend-1"]
    trial(scenario, 40)
    assert not reaches(scenario, "outsider", address, 22)
    wait_until(lambda: reaches(scenario, "outsider", address, 22), "the timer opens it")
    wait_until(lambda: live(scenario, "backend-1") == before, "the former table is back")


def test_next_run_does_not_build_on_what_was_on_trial(scenario: Scenario) -> None:
    before = live(scenario, "backend-1")
    trial(scenario, 60)
    # It gets in as an operator.
    code, output = firewall(scenario)
    assert code == 0, output
    assert live(scenario, "backend-1") == before
    assert on(scenario, "backend-1", "systemctl", "is-active", "evenkeel-firewall-undo.timer").returncode != 0


def test_new_host_is_let_in_and_nothing_else_is_touched(scenario: Scenario, tmp_path: Path) -> None:
    containers = "docker inspect --format '{{.Id}} {{.State.Pid}}' backend_app pushgateway"
    before = done(scenario, "backend-1", containers)
    found = yaml.safe_load(scenario.inventory.read_text())
    newcomer = {"ansible_host": "127.0.0.1", "ansible_port": 9, "service_address": scenario.addresses["outsider"]}
    found["all"]["children"]["balancers"]["hosts"]["newcomer"] = newcomer
    del found["all"]["children"]["outsiders"]
    inventory = tmp_path / "hosts.yml"
    inventory.write_text(yaml.safe_dump(found))
    other = scenario.addresses["backend-2"]
    try:
        # Outside the limit is not outside the site.
        code, output = firewall(scenario, "--limit", "backend-1", inventory=inventory)
        assert code == 0, output
        assert reaches(scenario, "outsider", scenario.addresses["backend-1"], 9091)
        assert reaches(scenario, "balancer", scenario.addresses["backend-1"], 9091)
        assert not reaches(scenario, "outsider", other, 9091)
        assert done(scenario, "backend-1", containers) == before
    finally:
        assert firewall(scenario)[0] == 0
    assert not reaches(scenario, "outsider", scenario.addresses["backend-1"], 9091)


def test_off_and_on_leaves_what_is_foreign_as_it_was(scenario: Scenario) -> None:
    theirs = "table inet theirs { chain guard { type filter hook input priority 5; tcp dport 6666 drop; }; }"
    done(scenario, "backend-1", f"nft '{theirs}'")
    before, ours = others(scenario, "backend-1"), live(scenario, "backend-1")
    assert "DOCKER" in before
    address = scenario.addresses["backend-1"]
    try:
        code, output = firewall(scenario, "-e", "firewall=false")
        assert code == 0, output
        assert (live(scenario, "backend-1"), others(scenario, "backend-1")) == ("", before)
        assert reaches(scenario, "outsider", address, 9091)
        left = (
            "ls -d /etc/evenkeel-firewall* /var/lib/evenkeel/firewall /etc/systemd/system/*/evenkeel-firewall* || true"
        )
        assert done(scenario, "backend-1", left) == ""
        assert on(scenario, "backend-1", "systemctl", "cat", "evenkeel-firewall").returncode != 0
        code, output = firewall(scenario, "-e", "firewall=false")
        assert (code, sum(each["changed"] for each in recap(output).values())) == (0, 0), output

        with listener(scenario, "backend-1", 7777):
            code, output = firewall(scenario)
            assert code == 2
            assert re.search(r"7777, held by python3 \(process \d+ of somebody\.service\)", said(output)), output
            assert "leave it open with firewall_open_ports: [7777]" in said(output)
            assert live(scenario, "backend-1") == live(scenario, "balancer") == ""
            code, output = firewall(scenario, "-e", '{"firewall_open_ports": [7777]}')
            assert code == 0, output
            assert reaches(scenario, "outsider", address, 7777)
            assert not reaches(scenario, "outsider", address, 9091)
    finally:
        code, output = firewall(scenario)
    assert code == 0, output
    assert (live(scenario, "backend-1"), others(scenario, "backend-1")) == (ours, before)
    done(scenario, "backend-1", "nft delete table inet theirs")


@pytest.fixture(autouse=True)
def reachable(scenario: Scenario) -> Iterator[None]:
    """Whatever a test has done, SSH gets in afterwards."""
    yield
    wait_for_ssh(scenario)
