"""Measures what grows with the number of backends: the look at settings, HAProxy's file, its checks and its metrics.

Use: ``make bench-scale`` (makes hosts of its own, beside a lab). The backends are invented. For the look at settings
they are hosts that nobody asks. For HAProxy they are addresses of the balancer's own loopback, where one small server
answers for all of them. So what is measured is the balancer, and this machine.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import yaml
from play_table import INVENTORY, LAB, NAMED, keep, run, spent

from evenkeel.lab import engine

BALANCER = "evenkeel-bench-balancer"
PORT = 9001
CHECKED_SECONDS = 20
SCRAPES = 10
# Answers for every server, with less than a Python server would use.
ANSWERING = f"""
defaults
    mode http
    timeout client 30s
frontend all
    bind :{PORT}
    http-request return status 200
"""


@dataclass(frozen=True)
class Grown:
    """What a site of so many backends costs.

    Attributes:
        backends: of the site.
        settings: CPU seconds of this machine to look at all hosts' settings.
        role: CPU seconds of this machine to run the role haproxy, which writes a changed file.
        parse: CPU seconds of HAProxy to check its file.
        file: kB of it.
        checks: CPU seconds per second of an HAProxy that does nothing but check its servers.
        memory: MB of its worker.
        scrape: CPU seconds of one answer to Prometheus.
        metrics: kB of it.
    """

    backends: int
    settings: float
    role: float
    parse: float
    file: float
    checks: float
    memory: float
    scrape: float
    metrics: float


def at_balancer(*command: str) -> str:
    """Run a command on the balancer and return what it prints."""
    return engine.docker("exec", BALANCER, *command)


def worker() -> tuple[float, float]:
    """Return the CPU seconds that HAProxy's newest worker has used, and its memory in MB."""
    number = at_balancer("sh", "-c", "pgrep --newest --parent $(systemctl show haproxy --property=MainPID --value)")
    fields = at_balancer("cat", f"/proc/{number.strip()}/stat").rpartition(")")[2].split()
    ticks, pages = int(fields[11]) + int(fields[12]), int(fields[21])
    return ticks / 100, pages * 4096 / 1e6


def settings(backends: int, folder: Path) -> float:
    """Return what the look at the settings of an invented site costs, in CPU seconds."""
    hosts = {f"backend-{n}": {"ansible_host": address(n)} for n in range(backends)}
    inventory = {"backends": {"hosts": hosts}, "balancers": {"hosts": {"balancer": {"ansible_host": "127.0.0.2"}}}}
    file = folder / f"{backends}.yml"
    file.write_text(yaml.safe_dump(inventory))
    cost, _ = spent(["ansible-playbook", "-i", str(file), "playbooks/inventory.yml"], {})
    return cost


def address(number: int) -> str:
    """Return an address of the loopback for each number below 65,000."""
    return f"127.1.{number // 250}.{number % 250 + 1}"


def role(backends: int, folder: Path) -> float:
    """Have the balancer balance between so many servers; return this machine's CPU seconds."""
    servers = [{"name": f"backend-{n}", "address": address(n), "port": PORT} for n in range(backends)]
    variables = folder / f"{backends}.json"
    variables.write_text(json.dumps({"haproxy_backends": servers}))
    play = ["ansible-playbook", "-i", str(INVENTORY), "bench/scale.yml", "-e", f"@{variables}"]
    cost, _ = spent(play, {})
    return cost


def up() -> int:
    """Return how many servers HAProxy says are UP."""
    said = at_balancer("curl", "-sf", "http://127.0.0.1:8404/metrics?scope=server&no-maint")
    return sum(1 for line in said.splitlines() if line.startswith("haproxy_server_status{") and 'state="UP"} 1' in line)


def grown(backends: int, folder: Path) -> Grown:
    """Measure one size."""
    looked, wrote = settings(backends, folder), role(backends, folder)
    deadline = time.monotonic() + 120
    while up() != backends:
        if time.monotonic() > deadline:
            sys.exit(f"scale_table: {up()} of {backends} servers are UP")
        time.sleep(1)
    timed = "bash -c 'TIMEFORMAT=%U; time haproxy -c -f /etc/haproxy/haproxy.cfg >/dev/null 2>&1' 2>&1"
    parse = float(at_balancer("sh", "-c", timed))
    (before, _), began = worker(), time.monotonic()
    time.sleep(CHECKED_SECONDS)
    after, memory = worker()
    checks = (after - before) / (time.monotonic() - began)
    began = time.monotonic()
    for _ in range(SCRAPES):
        said = at_balancer("curl", "-sf", "http://127.0.0.1:8404/metrics")
    scraped, _ = worker()
    scrape = max(0.0, scraped - after - checks * (time.monotonic() - began)) / SCRAPES
    size = int(at_balancer("stat", "--format=%s", "/etc/haproxy/haproxy.cfg"))
    return Grown(backends, looked, wrote, parse, size / 1000, checks, memory, scrape, len(said) / 1000)


def sizes(wanted: Sequence[int]) -> Iterator[Grown]:
    """Measure these numbers of backends on one balancer."""
    run([*LAB, "up", *NAMED, "--backends", "1"], {})
    with tempfile.TemporaryDirectory() as folder:
        # HAProxy itself is installed by the role.
        role(1, Path(folder))
        at_balancer("sh", "-c", f"printf %s '{ANSWERING}' >/run/answering.cfg")
        at_balancer("systemd-run", "--unit=answering", "haproxy", "-f", "/run/answering.cfg")
        for backends in wanted:
            yield grown(backends, Path(folder))


def straight(xs: Sequence[float], ys: Sequence[float]) -> float:
    """Return how near to a straight line some points are, as R²."""
    return statistics.correlation(xs, ys) ** 2


def main() -> None:
    """Measure, print a table, and write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10, 100, 500, 1000], metavar="BACKENDS")
    arguments = parser.parse_args()
    found = []
    try:
        for one in sizes(sorted(set(arguments.sizes))):
            found.append(one)
            print(f"{one.backends} backends: measured", flush=True)
    finally:
        run([*LAB, "down", *NAMED], {})
    print(
        "\n| backends | settings, CPU s | role haproxy, CPU s | HAProxy reads its file, CPU s | file, kB | "
        "checks, CPU s/s | memory, MB | one scrape, CPU s | scrape, kB |\n" + "|---" * 9 + "|"
    )
    for one in found:
        print(
            f"| {one.backends} | {one.settings:.1f} | {one.role:.1f} | {one.parse:.2f} | {one.file:.0f} "
            f"| {one.checks:.3f} | {one.memory:.0f} | {one.scrape:.3f} | {one.metrics:.0f} |"
        )
    if len(found) > 2:
        counts = [one.backends for one in found]
        line = straight(counts, [one.settings + one.role for one in found])
        print(f"\nR² of settings and role together: {line:.4f}")
    keep("scale", [asdict(one) for one in found])


if __name__ == "__main__":
    main()
