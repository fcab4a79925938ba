"""What the balancer costs on the way to a backend, against the same requests sent straight to it, in the same run.

Use: ``make bench-data-path`` (on a lab with ``BACKENDS=1``; needs h2load, package ``nghttp2-client``). The application
has one core to itself; HAProxy and h2load share another, in the balancer's network. So ratios count, and CPU time. Each
way is measured in every round, one after the other; the medians are told.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from changes import played
from h2load import send
from scenario import Scenario

from evenkeel.lab.engine import docker

BALANCER, BACKEND = "balancer", "backend-1"
APPLICATION, PROXY = "gunicorn", "haproxy"
STRAIGHT = "straight to the backend"
# What HAProxy is told of connections to servers, by way.
WAYS = {STRAIGHT: "auto", "through the balancer": "auto", "through the balancer, no connection used again": "never"}
REQUESTS, CLIENTS, SLEEPERS = 6000, 8, 100


@dataclass(frozen=True)
class Cost:
    """One measurement.

    Attributes:
        rate: requests per second.
        application: its CPU per request, in ms.
        proxy: HAProxy's CPU per request, in ms.
        p99: of the requests' durations at half of the ``rate``, in ms.
        sleepers: seconds until 100 requests for ``/sleep/1``, sent at once, were answered.
    """

    rate: float
    application: float
    proxy: float
    p99: float
    sleepers: float


def processes(host: Any, name: str) -> list[str]:
    """Return the ids of a program's processes on a host, as the host counts them."""
    return list(host.check_output("pgrep -f %s", f"^[^ ]*(python3? [^ ]*)?{name}").split())


def pin(host: Any, name: str, cores: str) -> None:
    """Let all threads of a program run on some cores only."""
    for process in processes(host, name):
        host.run("taskset --all-tasks --cpu-list --pid %s %s", cores, process)


def used(host: Any, name: str) -> float:
    """Return the CPU time that a program's processes have used, in seconds."""
    total = 0
    for process in processes(host, name):
        fields = host.check_output("cat %s", f"/proc/{process}/stat").rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


def load(container: str, url: str, options: Sequence[str], log: Path) -> list[tuple[int, int]]:
    """Send requests from a container's network; return start and duration of each, in microseconds."""
    process = docker("inspect", "--format={{.State.Pid}}", container).strip()
    before = ["nsenter", "--net", "--target", process, "taskset", "--cpu-list", "1"]
    return send(url, ["--h1", *options], log, before=before)[0]


def lasted(rows: Sequence[tuple[int, int]]) -> float:
    """Return the seconds from the first request to the last answer."""
    return (max(start + duration for start, duration in rows) - min(start for start, _ in rows)) / 1e6


def measure(scenario: Scenario, way: str, url: str, log: Path) -> Cost:
    """Measure one way to the application."""
    balancer, backend = scenario.host(BALANCER), scenario.host(BACKEND)
    pin(backend, APPLICATION, "0")
    pin(balancer, PROXY, "1")
    before = used(backend, APPLICATION), used(balancer, PROXY)
    container = scenario.container(BALANCER)
    rows = load(container, f"{url}/", [f"--requests={REQUESTS}", f"--clients={CLIENTS}"], log)
    after = used(backend, APPLICATION), used(balancer, PROXY)
    rate = len(rows) / lasted(rows)
    application, proxy = (1000 * (end - start) / len(rows) for start, end in zip(before, after, strict=True))
    half = [f"--rps={rate / 2 / CLIENTS:.1f}", f"--clients={CLIENTS}", f"--requests={int(rate * 2)}"]
    durations = sorted(duration for _, duration in load(container, f"{url}/", half, log))
    p99 = durations[int(0.99 * len(durations))] / 1000
    # Threads are started as they are needed: once for those, then what is measured.
    sleepers = [f"--requests={SLEEPERS}", f"--clients={SLEEPERS}"]
    load(container, f"{url}/sleep/1/ok", sleepers, log)
    slept = lasted(load(container, f"{url}/sleep/1/ok", sleepers, log))
    return Cost(rate, application, proxy if way != STRAIGHT else 0.0, p99, slept)


def main() -> None:
    """Measure all ways, print a table, and leave the lab as it was."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inventory", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    scenario = Scenario.of(arguments.inventory.resolve())
    if scenario.backends != [BACKEND]:
        sys.exit("data_path: the lab has several backends, and one is measured: make lab BACKENDS=1")
    only = ("site.yml", "--limit", BALANCER, "--tags", "haproxy")
    found: dict[str, list[Cost]] = {way: [] for way in WAYS}
    setting = ""
    with tempfile.TemporaryDirectory() as folder:
        try:
            for _ in range(arguments.rounds):
                for way, costs in found.items():
                    if setting != WAYS[way]:
                        setting = WAYS[way]
                        played(scenario, *only, "-e", f"haproxy_http_reuse={setting}", "-e", "haproxy_client_maxconn=0")
                        # The workers of before the reload end with their last connection.
                        time.sleep(3)
                    url = f"http://{scenario.addresses[BACKEND if way == STRAIGHT else BALANCER]}"
                    costs.append(measure(scenario, way, url, Path(folder) / "log"))
        finally:
            everywhere = f"0-{(os.cpu_count() or 1) - 1}"
            pin(scenario.host(BACKEND), APPLICATION, everywhere)
            pin(scenario.host(BALANCER), PROXY, everywhere)
            played(scenario, *only)
    print("| | requests per second | CPU per request: application | HAProxy | p99 at half load | 100 of `/sleep/1` |")
    print("|---|---|---|---|---|---|")
    for way, costs in found.items():
        keys = ("rate", "application", "proxy", "p99", "sleepers")
        rate, application, proxy, p99, slept = (statistics.median(getattr(each, key) for each in costs) for key in keys)
        print(f"| {way} | {rate:.0f} | {application:.2f} ms | {proxy:.2f} ms | {p99:.1f} ms | {slept:.2f} s |")


if __name__ == "__main__":
    main()
