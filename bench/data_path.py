"""What the balancer costs on the way to a backend, against the same requests sent straight to it, in the same run.

Use: ``make bench-data-path`` (on a lab with ``BACKENDS=1``; needs h2load, package ``nghttp2-client``). The application
has one core to itself; HAProxy and h2load share another, in the balancer's network. So ratios count, and CPU time. Each
way is measured in every round, one after the other; the medians are told. The guide's way has its settings of HAProxy
(guide.yml) and its application server, one process that answers one request at a time.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from changes import GUIDE, played
from h2load import send
from scenario import Scenario

from evenkeel.lab.engine import docker

BALANCER, BACKEND = "balancer", "backend-1"
APPLICATION, PROXY = "gunicorn", "haproxy"
REQUESTS, CLIENTS, SLEEPERS = 6000, 8, 100
# Where the guide's application server listens, beside the site's own.
GUIDE_SERVER, GUIDE_PORT = "guide", 8100


@dataclass(frozen=True)
class Way:
    """A way to an application.

    Attributes:
        name: for people.
        settings: what ``ansible-playbook`` is told besides.
        straight: past the balancer.
        short: how many requests of ``/sleep/0.05`` are measured.
        patient: whether the application answers many requests at a time.
    """

    name: str
    settings: tuple[str, ...] = ("haproxy_http_reuse=auto",)
    straight: bool = False
    short: int = 4000
    patient: bool = True


WAYS = (
    Way("straight to the backend", straight=True),
    Way("through the balancer"),
    Way("through the balancer, no connection used again", ("haproxy_http_reuse=never",)),
    Way(
        "the guide's settings and application server",
        (f"@{GUIDE}", f"backend_app_port={GUIDE_PORT}"),
        False,
        200,
        False,
    ),
)
COLUMNS: Mapping[str, str] = {
    "rate": "requests per second",
    "application": "CPU per request: application, ms",
    "proxy": "HAProxy, ms",
    "p99": "p99 at half load, ms",
    "short": "`/sleep/0.05` per second",
    "sleepers": "100 of `/sleep/1`, s",
}


@dataclass(frozen=True)
class Cost:
    """One measurement; None is what a way does not have.

    Attributes:
        rate: requests per second.
        application: its CPU per request, in ms.
        proxy: HAProxy's CPU per request, in ms.
        p99: of the requests' durations at half of the ``rate``, in ms.
        short: requests for ``/sleep/0.05`` per second, by as many clients as ``sleepers`` has.
        sleepers: seconds until 100 requests for ``/sleep/1``, sent at once, were answered.
    """

    rate: float
    application: float
    proxy: float | None
    p99: float
    short: float
    sleepers: float | None


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


def measure(scenario: Scenario, way: Way, url: str, log: Path) -> Cost:
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
    clients = f"--clients={SLEEPERS}"
    load(container, f"{url}/sleep/0.05/ok", [f"--requests={SLEEPERS}", clients], log)
    short = load(container, f"{url}/sleep/0.05/ok", [f"--requests={way.short}", clients], log)
    slept = None
    if way.patient:
        slept = lasted(load(container, f"{url}/sleep/1/ok", [f"--requests={SLEEPERS}", clients], log))
    return Cost(rate, application, None if way.straight else proxy, p99, len(short) / lasted(short), slept)


@contextmanager
def guides_server(scenario: Scenario) -> Iterator[None]:
    """The guide's application server runs beside the site's own, from the same image."""
    backend = scenario.host(BACKEND)
    image = backend.check_output("docker inspect --format '{{.Config.Image}}' backend_app")
    # Left by a run that was killed.
    backend.check_output("docker rm --force %s", GUIDE_SERVER)
    try:
        backend.check_output(
            "docker run --detach --name %s --publish %s:8000 --read-only --tmpfs /tmp --env GUNICORN_CMD_ARGS=%s %s",
            GUIDE_SERVER,
            str(GUIDE_PORT),
            # With more threads than one, gunicorn takes another kind of worker than it is told.
            "--worker-class=sync --workers=1 --threads=1",
            image,
        )
        yield
    finally:
        backend.check_output("docker rm --force %s", GUIDE_SERVER)


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
    found: dict[Way, list[Cost]] = {way: [] for way in WAYS}
    settings: tuple[str, ...] = ()
    with tempfile.TemporaryDirectory() as folder, guides_server(scenario):
        try:
            for _ in range(arguments.rounds):
                for way, costs in found.items():
                    if settings != way.settings:
                        settings = way.settings
                        told = [word for setting in (*settings, "haproxy_client_maxconn=0") for word in ("-e", setting)]
                        played(scenario, *only, *told)
                        # The workers of before the reload end with their last connection.
                        time.sleep(3)
                    url = f"http://{scenario.addresses[BACKEND if way.straight else BALANCER]}"
                    costs.append(measure(scenario, way, url, Path(folder) / "log"))
        finally:
            played(scenario, *only)
            everywhere = f"0-{(os.cpu_count() or 1) - 1}"
            pin(scenario.host(BACKEND), APPLICATION, everywhere)
            pin(scenario.host(BALANCER), PROXY, everywhere)
    print(f"| | {' | '.join(COLUMNS.values())} |\n|---{'|---' * len(COLUMNS)}|")
    for way, costs in found.items():
        cells = [[getattr(cost, key) for cost in costs] for key in COLUMNS]
        said = [
            f"{statistics.median(cell):{'.0f' if max(cell) >= 10 else '.2f'}}" if None not in cell else ""
            for cell in cells
        ]
        print(f"| {way.name} | {' | '.join(said)} |")


if __name__ == "__main__":
    main()
