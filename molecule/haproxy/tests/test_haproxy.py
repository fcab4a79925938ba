"""HAProxy before two small servers that the tests start and stop."""

from __future__ import annotations

import csv
import json
import re
import socket
from collections import Counter
from collections.abc import Iterator
from itertools import product
from typing import Any

import pytest
import requests
from scenario import Scenario, wait_until

CONVERGE = "molecule/haproxy/converge.yml"
CONFIG = "/etc/haproxy/haproxy.cfg"
SERVERS = {"first": 9001, "second": 9002}
# Ready, but it hangs up on whatever else it is asked.
HANGS_UP = """
import http.server
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/readyz":
            self.send_response(200)
            self.end_headers()
        self.close_connection = True
    do_POST = do_GET
http.server.ThreadingHTTPServer(("127.0.0.1", 9001), Handler).serve_forever()
"""
# Says something to the runtime socket, and fails where HAProxy answers anything.
SAY = """
import socket, sys
connection = socket.socket(socket.AF_UNIX)
connection.connect("/run/haproxy/admin.sock")
connection.sendall(sys.argv[1].encode() + b"\\n")
sys.exit(connection.recv(1000).decode().strip() or 0)
"""

# More than HAProxy takes on a line, and nobody's.
OTHERS = [f"198.51.100.{number}" for number in range(100)]
MANY = 60


@pytest.fixture
def host(scenario: Scenario) -> Any:
    return scenario.host("haproxy-1")


@pytest.fixture
def address(scenario: Scenario) -> str:
    return scenario.addresses["haproxy-1"]


@pytest.fixture(autouse=True)
def servers(host: Any, address: str) -> Iterator[None]:
    """Run both servers for one test: web servers with a file `readyz` and a file `name`."""
    for name in SERVERS:
        host.check_output("mkdir -p /srv/%s && touch /srv/%s/readyz && echo %s >/srv/%s/name", name, name, name, name)
        start(host, name)
    # The test before has stopped them: not on the way to DOWN either, from which a 404 would not lead to NOLB.
    wait_until(lambda: set(statuses(address).values()) == {"UP"}, "both servers are UP")
    yield
    for name in SERVERS:
        host.run("systemctl stop server-%s", name)


@pytest.fixture(scope="module")
def services(scenario: Scenario) -> Iterator[None]:
    """Put more services before the same two servers, each under a path of its own; for the last tests of this file."""
    address = scenario.addresses["haproxy-1"]
    with socket.create_connection((address, 8080), timeout=60) as connection:
        client = connection.getsockname()[0]
    described: dict[str, dict[str, Any]] = {
        "seats": {"sticky": "seat"},
        "few": {"rate_limit": {"requests": 3, "seconds": 600}},
        "open": {"allow": [*OTHERS, f"{client}/32", "2001:db8::/32"]},
        "closed": {"allow": [*OTHERS, "2001:db8::/32"]},
        "denied": {"allow": [client], "deny": [*OTHERS, f"{client}/32"]},
        "undenied": {"deny": OTHERS},
    }
    services = [
        {"name": name, "paths": [f"/{name}"], "routes": [f"*/{name}/"], **described[name]} for name in described
    ]
    settings: dict[str, Any] = {"haproxy_services": [{"name": "app"}, *services]}
    settings["haproxy_private_paths"] = ["/readyz", *(f"/private/{number}" for number in range(MANY))]
    run = scenario.play(CONVERGE, "-e", json.dumps(settings))
    assert run.returncode == 0, run.stdout
    for name, path in product(SERVERS, described):
        folder = f"/srv/{name}/{path}"
        scenario.host("haproxy-1").check_output("mkdir -p %s && echo %s >%s/name", folder, name, folder)
    yield
    run = scenario.play(CONVERGE)
    assert run.returncode == 0, run.stdout


def start(host: Any, name: str) -> None:
    """Start one server, unless it runs, and wait until it answers."""
    command = "systemctl is-active --quiet server-%s || systemd-run --unit=server-%s --working-directory=/srv/%s "
    host.check_output(command + "python3 -m http.server %s", name, name, name, str(SERVERS[name]))
    asked = f"curl --silent --fail http://127.0.0.1:{SERVERS[name]}/name"
    wait_until(lambda: host.run(asked).rc == 0, "the server answers")


def states(address: str, service: str = "app") -> dict[str, str]:
    """Return each server's state as HAProxy sees it, without how far it is on the way to another (`DOWN 1/5`)."""
    return {name: status.split()[0] for name, status in statuses(address, service).items()}


def statuses(address: str, service: str = "app") -> dict[str, str]:
    """Return each server's state as HAProxy tells it."""
    rows = csv.DictReader(
        requests.get(f"http://{address}:8404/stats;csv", timeout=60).text.removeprefix("# ").splitlines()
    )
    return {row["svname"]: row["status"] for row in rows if row["pxname"] == service and row["svname"] != "BACKEND"}


def who(address: str, count: int) -> Counter[str]:
    """Count who answers ``count`` requests; every one must be answered."""
    answers = [requests.get(f"http://{address}:8080/name", timeout=60) for _ in range(count)]
    assert [answer.status_code for answer in answers] == [200] * count
    return Counter(answer.text.strip() for answer in answers)


def digest(address: str) -> str:
    """Return the hash of the configuration that HAProxy runs."""
    return requests.get(f"http://{address}:8404/digest", timeout=60).text


def runtime(host: Any, command: str) -> None:
    """Give HAProxy a command through its runtime socket."""
    host.check_output("python3 -c %s %s", SAY, command)


def main_pid(host: Any) -> str:
    return str(host.check_output("systemctl show haproxy --property=MainPID"))


def test_requests_are_spread_evenly(address: str) -> None:
    wait_until(lambda: who(address, 20) == {"first": 10, "second": 10}, "each server has half")


def test_dead_server_is_taken_out_and_comes_back(host: Any, address: str) -> None:
    host.check_output("systemctl stop server-first")
    wait_until(lambda: states(address)["first"] == "DOWN", "the dead server is DOWN")
    assert who(address, 10) == {"second": 10}
    start(host, "first")
    wait_until(lambda: states(address)["first"] == "UP", "the server is UP again")
    wait_until(lambda: who(address, 10) == {"first": 5, "second": 5}, "it has its share again")


def test_server_that_is_not_ready_gets_no_requests(host: Any, address: str) -> None:
    # Its port is open and it answers; that there is no readiness is 404, "drain me".
    host.check_output("rm /srv/second/readyz")
    wait_until(lambda: states(address)["second"] == "NOLB", "the server that is not ready is drained")
    assert who(address, 10) == {"first": 10}
    host.check_output("touch /srv/second/readyz")
    wait_until(lambda: states(address)["second"] == "UP", "the server is ready again")


def test_only_what_may_be_done_twice_is_sent_twice(host: Any, address: str) -> None:
    host.check_output("systemctl stop server-first && systemd-run --unit=hangs-up python3 -c %s", HANGS_UP)
    try:
        wait_until(lambda: host.run("curl --silent --fail http://127.0.0.1:9001/readyz").rc == 0, "it is ready")
        wait_until(lambda: states(address)["first"] == "UP", "the server that hangs up is UP")
        assert who(address, 10) == {"second": 10}
        posts = [requests.post(f"http://{address}:8080/name", timeout=60) for _ in range(10)]
        # The other server's own refusal of a POST, in its own words; nobody else's for those hung up on.
        assert Counter((post.status_code, "Unsupported method" in post.text) for post in posts) == {
            (502, False): 5,
            (501, True): 5,
        }
    finally:
        host.check_output("systemctl stop hangs-up")


def test_no_server_left_is_said_in_words(host: Any, address: str) -> None:
    host.check_output("systemctl stop server-first server-second")
    wait_until(lambda: set(states(address).values()) == {"DOWN"}, "both servers are DOWN")
    answer = requests.get(f"http://{address}:8080/name", timeout=60)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    assert "try again" in answer.text


def test_state_of_servers_survives_a_reload(host: Any, address: str) -> None:
    host.check_output("systemctl stop server-first")
    runtime(host, "set server app/second state drain")
    try:
        wait_until(lambda: states(address) == {"first": "DOWN", "second": "DRAIN"}, "one is DOWN, one is drained")
        for _ in range(3):
            host.check_output("systemctl reload haproxy")
            assert states(address) == {"first": "DOWN", "second": "DRAIN"}
    finally:
        runtime(host, "set server app/second state ready")


def test_request_to_a_server_just_gone_is_answered_by_the_other(host: Any, address: str) -> None:
    # At once, while the balancer may still believe in the dead server.
    host.check_output("systemctl stop server-first")
    assert who(address, 10)["second"] == 10


def test_exporter_and_statistics_listen_on_the_private_address(host: Any, address: str) -> None:
    assert "haproxy_server_status" in requests.get(f"http://{address}:8404/metrics", timeout=60).text
    assert "Statistics Report" in requests.get(f"http://{address}:8404/stats", timeout=60).text
    listening = host.check_output("ss -Hltn 'sport = :8404'").split("\n")
    assert [line.split()[3] for line in listening] == [f"{address}:8404"]


def test_runtime_socket_answers_operators_only(host: Any) -> None:
    socket = host.file("/run/haproxy/admin.sock")
    assert socket.is_socket
    assert (socket.user, socket.group, socket.mode) == ("root", "haproxy", 0o660)


def test_changed_setting_is_reloaded_not_restarted(scenario: Scenario, host: Any, address: str) -> None:
    pid = main_pid(host)
    run = scenario.play(CONVERGE, "-e", "haproxy_timeout_queue=7s")
    assert run.returncode == 0, run.stdout
    assert "timeout queue 7s" in host.file("/etc/haproxy/haproxy.cfg").content_string
    assert main_pid(host) == pid
    assert sum(who(address, 10).values()) == 10
    run = scenario.play(CONVERGE)
    assert run.returncode == 0, run.stdout


def test_configuration_left_unread_by_a_run_cut_off_is_applied(scenario: Scenario, host: Any, address: str) -> None:
    # Another process runs on an older file than the one on the disk.
    host.check_output("sed -i.kept -E '/path .digest/s/[0-9a-f]{64}/old/; s/queue 5s/queue 6s/' %s", CONFIG)
    host.check_output("systemctl reload haproxy")
    wait_until(lambda: digest(address) == "old", "the older file is read")
    host.check_output("mv %s.kept %s", CONFIG, CONFIG)
    run = scenario.play(CONVERGE)
    assert run.returncode == 0, run.stdout
    assert re.fullmatch("[0-9a-f]{64}", digest(address))


def test_bad_configuration_never_goes_live(scenario: Scenario, host: Any, address: str) -> None:
    before = host.file("/etc/haproxy/haproxy.cfg").content_string
    run = scenario.play(CONVERGE, "-e", "haproxy_balance=no-such-algorithm")
    assert run.returncode == 2, run.stdout
    assert "balance only supports" in run.stdout
    assert host.file("/etc/haproxy/haproxy.cfg").content_string == before
    assert sum(who(address, 10).values()) == 10


def test_reload_that_fails_fails_the_play(scenario: Scenario, host: Any, address: str) -> None:
    before = host.file(CONFIG).content_string
    # `haproxy -c` accepts an address that is not the host's; only the reload finds out, and systemd reports success.
    run = scenario.play(CONVERGE, "-e", "haproxy_stats_address=203.0.113.9")
    assert run.returncode == 2, run.stdout
    assert "The one that it ran last is back in its place." in " ".join(run.stdout.split())
    assert sum(who(address, 10).values()) == 10, "the old process serves on"
    # It could be started again at any moment.
    assert host.file(CONFIG).content_string == before
    run = scenario.play(CONVERGE)
    assert run.returncode == 0, run.stdout


def test_killed_worker_costs_only_what_is_in_flight(host: Any, address: str) -> None:
    # One request after the other, each on a connection of its own: at most one is in flight.
    failures = []
    before = main_pid(host)
    for number in range(400):
        if number == 50:
            host.check_output("kill -KILL $(pgrep --parent %s)", before.partition("=")[2])
        try:
            requests.get(f"http://{address}:8080/name", timeout=60).raise_for_status()
        except requests.RequestException as error:
            failures.append(str(error))
    assert main_pid(host) != before, "HAProxy was started again"
    assert len(failures) <= 1, failures
    assert not any("refused" in failure for failure in failures), failures


def test_state_saved_by_a_reload_is_forgotten_by_a_restart(host: Any, address: str) -> None:
    runtime(host, "set server app/second state drain")
    host.check_output("systemctl reload haproxy")
    wait_until(lambda: states(address)["second"] == "DRAIN", "the drain outlives the reload")
    runtime(host, "set server app/second state ready")
    before = main_pid(host)
    host.check_output("systemctl kill --signal KILL haproxy")
    wait_until(lambda: main_pid(host) not in {before, "MainPID=0"}, "HAProxy was started again")
    # systemd holds the front door, and nobody the statistics' port.
    ready = "the server that was readied since is not drained"
    wait_until(lambda: set(states(address).values()) == {"UP"}, ready, starting=True)


def test_moved_server_is_asked_at_its_new_port(scenario: Scenario, host: Any, address: str) -> None:
    servers = [{"name": "first", "address": "127.0.0.1", "port": 9001}]
    servers += [{"name": "second", "address": "127.0.0.1", "port": 9003}]
    host.check_output("systemd-run --unit=moved --working-directory=/srv/second python3 -m http.server 9003")
    wait_until(lambda: host.run("curl --silent --fail http://127.0.0.1:9003/name").rc == 0, "the new one answers")
    try:
        run = scenario.play(CONVERGE, "-e", json.dumps({"haproxy_backends": servers}))
        assert run.returncode == 0, run.stdout
        host.check_output("systemctl stop server-second")
        wait_until(lambda: who(address, 10) == {"first": 5, "second": 5}, "the new one has its share")
    finally:
        start(host, "second")
        run = scenario.play(CONVERGE)
        host.check_output("systemctl stop moved")
    assert run.returncode == 0, run.stdout


@pytest.mark.parametrize("path", ["/readyz", "/metrics", "/healthz", "/%72eadyz", "/readyz?x=1", "//readyz"])
def test_private_paths_are_not_served_to_clients(host: Any, address: str, path: str) -> None:
    for name in SERVERS:
        host.check_output("touch /srv/%s/metrics /srv/%s/healthz", name, name)
    # As it is written: the library would decode it.
    command = "curl --silent --output /dev/null --write-out '%{http_code}' "
    assert host.check_output(command + "http://127.0.0.1:9001" + path) == "200", "the server has it"
    assert host.check_output(command + f"http://{address}:8080" + path) == "404"


def test_front_door_moves_where_it_is_told_to(scenario: Scenario, host: Any, address: str) -> None:
    run = scenario.play(CONVERGE, "-e", '{"haproxy_bind_port": 8086}')
    assert run.returncode == 0, run.stdout
    assert requests.get(f"http://{address}:8086/name", timeout=60).status_code == 200
    assert host.run("ss -Hltn 'sport = :8080'").stdout == ""
    run = scenario.play(CONVERGE)
    assert run.returncode == 0, run.stdout
    assert sum(who(address, 10).values()) == 10


def test_configuration_of_somebody_else_is_refused_and_adopted_when_told(scenario: Scenario, host: Any) -> None:
    host.check_output("cp %s /root/kept && sed -i '/evenkeel\\|failover.md/d' %s", CONFIG, CONFIG)
    theirs = host.file(CONFIG).content_string
    run = scenario.play(CONVERGE)
    assert run.returncode == 2, run.stdout
    said = " ".join(run.stdout.split())
    assert CONFIG in said
    assert "haproxy_adopt" in said
    assert host.file(CONFIG).content_string == theirs
    run = scenario.play(CONVERGE, "-e", "haproxy_adopt=true")
    assert run.returncode == 0, run.stdout
    assert host.file(f"{CONFIG}.before-evenkeel").content_string == theirs
    assert host.file(CONFIG).content_string == host.check_output("cat /root/kept") + "\n"
    host.check_output("rm /root/kept %s.before-evenkeel", CONFIG)


def test_port_of_somebody_else_is_refused(scenario: Scenario, host: Any, address: str) -> None:
    host.check_output("systemd-run --unit=squatter python3 -m http.server 8085")
    wait_until(lambda: host.run("ss -Hltn 'sport = :8085'").stdout != "", "the port is taken")
    before = host.file(CONFIG).content_string
    try:
        run = scenario.play(CONVERGE, "-e", '{"haproxy_bind_port": 8085}')
        assert run.returncode == 2, run.stdout
        assert "haproxy_bind_port" in run.stdout
        assert host.file(CONFIG).content_string == before
        assert sum(who(address, 10).values()) == 10
    finally:
        host.check_output("systemctl stop squatter")


def test_check_mode_shows_the_change_on_a_host_in_use(scenario: Scenario, host: Any) -> None:
    # As on a used host: HAProxy is there, package lists are not.
    host.check_output("mv /var/lib/apt/lists /var/lib/apt/lists.kept && mkdir /var/lib/apt/lists")
    try:
        run = scenario.play(CONVERGE, "--check", "--diff", "-e", "haproxy_timeout_queue=7s")
    finally:
        host.check_output("rm -r /var/lib/apt/lists && mv /var/lib/apt/lists.kept /var/lib/apt/lists")
    assert run.returncode == 0, run.stdout
    assert "+    timeout queue 7s" in run.stdout


@pytest.mark.usefixtures("services")
@pytest.mark.parametrize("state", ["DRAIN", "NOLB"])
def test_client_comes_to_its_server_again_unless_it_is_drained(host: Any, address: str, state: str) -> None:
    client = requests.Session()

    def seats() -> set[str]:
        answers = [client.get(f"http://{address}:8080/seats/name", timeout=60) for _ in range(6)]
        assert [answer.status_code for answer in answers] == [200] * 6
        return {answer.text.strip() for answer in answers}

    first = client.get(f"http://{address}:8080/seats/name", timeout=60)
    seat = first.text.strip()
    assert re.fullmatch("seat=[0-9a-f]{12}; path=/; HttpOnly; SameSite=Lax", first.headers["Set-Cookie"])
    assert seats() == {seat}
    (other,) = set(SERVERS) - {seat}
    if state == "DRAIN":
        runtime(host, f"set server seats/{seat} state drain")
    else:
        host.check_output("rm /srv/%s/readyz", seat)
    try:
        wait_until(lambda: states(address, "seats")[seat] == state, "the client's server is drained")
        assert seats() == {other}
    finally:
        runtime(host, f"set server seats/{seat} state ready")
        host.check_output("touch /srv/%s/readyz", seat)
    wait_until(lambda: states(address, "seats")[seat] == "UP", "its former server is back")
    # What it has begun there goes on there.
    assert seats() == {other}


@pytest.mark.usefixtures("services")
def test_client_that_asks_too_often_is_told_to_wait_and_no_other(host: Any, address: str) -> None:
    url = f"http://{address}:8080/few/name"
    answers = [requests.get(url, timeout=60) for _ in range(5)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 429]
    assert (answers[-1].headers["Retry-After"], answers[-1].text) == (
        *["600", "Too many requests. Please try again in 600 s.\n"],
    )
    # Another client is another count; and the load of chaos.yml has none.
    assert host.run("curl --silent --fail %s", url).rc == 0
    load = [requests.get(url, headers={"X-Evenkeel-Load": digest(address)}, timeout=60) for _ in range(5)]
    assert [answer.status_code for answer in load] == [200] * 5
    assert requests.get(url, timeout=60).status_code == 429


@pytest.mark.usefixtures("services")
@pytest.mark.parametrize(("service", "status"), [("open", 200), ("closed", 403), ("denied", 403), ("undenied", 200)])
def test_addresses_are_let_in_or_not(address: str, service: str, status: int) -> None:
    url = f"http://{address}:8080/{service}/name"
    answer = requests.get(url, timeout=60)
    assert answer.status_code == status
    assert (answer.text == "Your address may not use this.\n") == (status == 403)
    # Who knows the configuration's hash is let in everywhere, and nobody who guesses it.
    for known, wanted in ((digest(address), 200), ("", status), ("0" * 64, status)):
        assert requests.get(url, headers={"X-Evenkeel-Load": known}, timeout=60).status_code == wanted


@pytest.mark.usefixtures("services")
def test_private_paths_of_many_services_are_not_served(host: Any, address: str) -> None:
    for number in (0, MANY - 1, MANY):
        host.check_output("mkdir -p /srv/first/private /srv/second/private")
        host.check_output("touch /srv/first/private/%s /srv/second/private/%s", str(number), str(number))
        status = 404 if number < MANY else 200
        assert requests.get(f"http://{address}:8080/private/{number}", timeout=60).status_code == status
