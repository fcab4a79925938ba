"""Faults of a backend, as context managers: they begin on entry and are undone on exit, whatever happens between."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Any

from scenario import PROJECT, Scenario, wait_until
from under_load import states

from evenkeel.lab.system import as_root

_BURN = "while True: pass"
_SLOW_PORT = 18999


def _docker(*arguments: str) -> None:
    """Run the engine's client on this machine, where the hosts are containers."""
    subprocess.run(["docker", *arguments], check=True, capture_output=True, timeout=60)


def _started(scenario: Scenario, name: str) -> str:
    """Return when the host's init was started."""
    command = ["docker", "inspect", "--format", "{{.State.StartedAt}}", scenario.container(name)]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


def _init(scenario: Scenario, name: str) -> str:
    """Return the PID, on this machine, of the host's init."""
    command = ["docker", "inspect", "--format", "{{.State.Pid}}", scenario.container(name)]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.strip()


def app_processes(host: Any, *services: str) -> str:
    """Return the PIDs of services' processes, or of the application's, as the host sees them, the first one first."""
    tops = [host.check_output(f"docker top backend_{service} -o pid") for service in services or ("app",)]
    return " ".join(pid for top in tops for pid in str(top).split()[1:])


def _firewall(scenario: Scenario, action: str, *match: str) -> str:
    """Return commands for a host that drop packets between it and the balancer, both ways; SSH comes from elsewhere."""
    peer = scenario.addresses["balancer"]
    options = " ".join((*match, "-j DROP"))
    return (
        f"iptables --wait -t raw {action} PREROUTING -s {peer} {options} && "
        f"iptables --wait -t mangle {action} POSTROUTING -d {peer} {options}"
    )


@contextmanager
def power_cut(scenario: Scenario, name: str) -> Iterator[None]:
    """The host is gone at once: no packet leaves it any more, no connection is closed. Then its power comes back."""
    # The killed processes' sockets would still say goodbye.
    scenario.host(name).check_output(_firewall(scenario, "-I"))
    _docker("kill", scenario.container(name))
    try:
        yield
    finally:
        _docker("start", scenario.container(name))


@contextmanager
def power_cut_at_drain(scenario: Scenario, name: str) -> Iterator[None]:
    """A backend loses its power as soon as it is drained; it comes back on exit."""

    def cut() -> None:
        wait_until(lambda: states(scenario)[name].startswith("DRAIN"), f"{name} is drained")
        _docker("kill", scenario.container(name))

    thread = Thread(target=cut)
    thread.start()
    try:
        yield
    finally:
        thread.join()
        _docker("start", scenario.container(name))


@contextmanager
def blackhole(scenario: Scenario, name: str) -> Iterator[None]:
    """The network between host and balancer swallows every packet."""
    with loss(scenario, name, 1):
        yield


@contextmanager
def loss(scenario: Scenario, name: str, share: float) -> Iterator[None]:
    """A share of the packets is lost, each way."""
    match = ("-m statistic --mode random --probability", str(share))
    scenario.host(name).check_output(_firewall(scenario, "-I", *match))
    try:
        yield
    finally:
        scenario.host(name).check_output(_firewall(scenario, "-D", *match))


@contextmanager
def stall(scenario: Scenario, *names: str, seconds: float, times: int = 3, pause: float = 3) -> Iterator[None]:
    """Hosts pass no packet for some seconds, several times, all of them at once. Nothing of them is down."""
    # In the hosts' networks, by this machine's programs: not every host has some. All of them at the same moment.
    script = """
        set -e
        trap 'rules -D 2>/dev/null || true' EXIT
        trap 'exit 1' INT TERM HUP
        rules() {
            printf '%s\\n' '*raw' "$1 PREROUTING ! -i lo -j DROP" COMMIT \\
                '*mangle' "$1 POSTROUTING ! -o lo -j DROP" COMMIT | iptables-restore --wait --noflush
        }
        sleep $(awk -v now=$(date +%s.%N) -v at=$1 'BEGIN { print (at > now ? at - now : 0) }')
        for time in $(seq $3); do rules -I; sleep $2; rules -D; sleep $4; done
    """
    arguments = (str(time.time() + 1), str(seconds), str(times), str(pause))
    running = [
        subprocess.Popen(
            as_root(["nsenter", "--net", "--target", _init(scenario, name), "sh", "-c", script, "stall", *arguments]),
            env=os.environ | {"PATH": f"{os.environ['PATH']}:/usr/sbin"},
        )
        for name in names
    ]
    assert [process.wait(30 + times * (seconds + pause)) for process in running] == [0] * len(names)
    yield


@contextmanager
def late(scenario: Scenario, *names: str, seconds: float) -> Iterator[None]:
    """The application answers so many seconds later, on all these hosts: a proxy holds every byte back."""
    lead = f"PREROUTING -s {scenario.addresses['balancer']} -p tcp --dport 80 -j REDIRECT --to-ports {_SLOW_PORT}"
    program = PROJECT / "roles" / "chaos" / "files" / "slow_proxy.py"
    for name in names:
        _docker("cp", str(program), f"{scenario.container(name)}:/var/tmp/slow_proxy.py")
        scenario.host(name).check_output(
            "systemd-run --quiet --collect --unit=late-$$ --property=TimeoutStopSec=300 "
            f"python3 /var/tmp/slow_proxy.py {_SLOW_PORT} {scenario.addresses[name]} 80 {seconds} && "
            f"for try in $(seq 100); do ss -Hltn 'sport = :{_SLOW_PORT}' | grep -q . && exit 0; sleep 0.1; done; exit 1"
        )
    for name in names:
        scenario.host(name).check_output(f"iptables --wait -t nat -I {lead}")
    try:
        yield
    finally:
        for name in names:
            scenario.host(name).check_output(f"iptables --wait -t nat -D {lead}")
        # It ends with the last of its connections, which clients keep: nobody waits for that.
        for name in names:
            scenario.host(name).check_output("systemctl stop --no-block 'late-*'; rm /var/tmp/slow_proxy.py")


@contextmanager
def worker_killed(scenario: Scenario) -> Iterator[None]:
    """HAProxy's worker gets SIGKILL, which ends its master too; systemd starts it again."""
    # A killed process dies when it is given a core, and only then are its connections closed.
    scenario.host("balancer").check_output(
        "worker=$(pgrep --parent $(systemctl show haproxy --property=MainPID --value)) && kill -KILL $worker && "
        "for try in $(seq 500); do kill -0 $worker 2>&- || exit 0; sleep 0.02; done; exit 1"
    )
    yield
    wait_until(lambda: states(scenario) != {}, "HAProxy tells its servers' states again", starting=True)


@contextmanager
def frozen(scenario: Scenario, name: str) -> Iterator[None]:
    """The application's processes stand still: connections are accepted and never answered."""
    host = scenario.host(name)
    pids = app_processes(host)
    host.check_output(f"kill -STOP {pids}")
    try:
        yield
    finally:
        host.check_output(f"kill -CONT {pids}")


@contextmanager
def stopped(scenario: Scenario, name: str) -> Iterator[None]:
    """The application is stopped, as an operator does it."""
    scenario.host(name).check_output("docker stop backend_app")
    try:
        yield
    finally:
        scenario.host(name).check_output("docker start backend_app")


@contextmanager
def saturation() -> Iterator[None]:
    """Every core of this machine, hence of all hosts, is busy."""
    burning = [subprocess.Popen([sys.executable, "-c", _BURN]) for _ in os.sched_getaffinity(0)]
    try:
        yield
    finally:
        for process in burning:
            process.kill()
            process.wait()


@contextmanager
def overload(scenario: Scenario, *names: str, times: int) -> Iterator[None]:
    """On these hosts so many busy loops for each core want it, as they would on hosts of their own."""
    loops = f"for loop in $(seq $(({times} * $(nproc)))); do while :; do :; done & done; wait"
    for name in names:
        scenario.host(name).check_output(f"systemd-run --quiet --collect --unit=busy sh -c '{loops}'")
    try:
        yield
    finally:
        for name in names:
            scenario.host(name).check_output("systemctl stop busy")


@contextmanager
def crash(scenario: Scenario, name: str, *services: str) -> Iterator[None]:
    """All processes of services, or of the application, are killed at once; the engine starts them again."""
    host = scenario.host(name)
    containers = " ".join(f"backend_{service}" for service in services or ("app",))
    look = f"docker inspect {containers} --format '{{{{.State.Running}}}} {{{{.State.StartedAt}}}}'"
    before = host.check_output(look).splitlines()

    def back() -> bool:
        now = host.check_output(look).splitlines()
        return all(line.startswith("true") for line in now) and not set(now) & set(before)

    host.check_output(f"kill -KILL {app_processes(host, *services)}")
    yield
    wait_until(back, "every container is back")


@contextmanager
def engine_restart(scenario: Scenario, name: str) -> Iterator[None]:
    """The container engine is restarted."""
    # Benchmarks do this several times a minute, which systemd takes for a unit that fails to start.
    scenario.host(name).check_output("systemctl reset-failed docker; systemctl restart docker")
    yield


@contextmanager
def reboot(scenario: Scenario, name: str) -> Iterator[None]:
    """The host is rebooted by its own init."""
    before = _started(scenario, name)
    scenario.reboot(name)
    yield
    wait_until(lambda: _started(scenario, name) != before, "the host has rebooted")
