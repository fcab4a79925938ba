"""What TLS costs at the front door: handshakes and requests per second, against plain text in the same run.

Use: ``make bench-tls`` (on the lab, which gets a certificate for the while; needs h2load, package ``nghttp2-client``).
Clients and site share this machine. So the ratios count, and HAProxy's CPU time, and not the figures themselves. Each
kind is measured in every round, one after the other; the medians are told. Paths that HAProxy answers itself
(``/metrics``, 404) show its own cost, and ``/`` what is left of it with the application behind.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from changes import played
from h2load import send
from scenario import Scenario

from evenkeel.lab.authority import Authority

# Name, h2load's options, scheme, path.
KINDS = {
    "a connection for each request, plain": (("--h1", "--requests=300", "--clients=300"), "http", "/metrics"),
    "a connection for each request, TLS": (("--h1", "--requests=300", "--clients=300"), "https", "/metrics"),
    "kept connections, plain": (("--h1", "--requests=20000", "--clients=20"), "http", "/metrics"),
    "kept connections, TLS": (("--h1", "--requests=20000", "--clients=20"), "https", "/metrics"),
    "kept connections, TLS and HTTP/2": (("--requests=20000", "--clients=20"), "https", "/metrics"),
    "the application, plain": (("--h1", "--requests=1500", "--clients=5"), "http", "/"),
    "the application, TLS": (("--h1", "--requests=1500", "--clients=5"), "https", "/"),
    "the application, TLS and HTTP/2": (("--requests=1500", "--clients=5"), "https", "/"),
}


@dataclass(frozen=True)
class Cost:
    """One measurement: requests per second, HAProxy's CPU in ms per thousand requests, and the p99 in ms."""

    rate: float
    cpu: float
    p99: float


def cpu_seconds(host: Any) -> float:
    """Return the CPU time that HAProxy's worker has used, in seconds."""
    worker = "cat /proc/$(pgrep --parent $(systemctl show haproxy --property=MainPID --value))/stat"
    user, system = host.check_output(worker).rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def measure(host: Any, address: str, kind: str, log: Path) -> Cost:
    """Send one kind of requests; exits where one of them gets no answer."""
    options, scheme, path = KINDS[kind]
    before = cpu_seconds(host)
    rows, said = send(f"{scheme}://{address}{path}", options, log, status=404 if path == "/metrics" else 200)
    used = cpu_seconds(host) - before
    durations = sorted(duration for _, duration in rows)
    finished = next(line for line in said.splitlines() if line.startswith("finished in "))
    rate = float(finished.split(", ")[1].split()[0])
    return Cost(rate, 1e6 * used / len(rows), durations[int(0.99 * len(rows))] / 1000)


def main() -> None:
    """Give the lab a certificate, measure, print a table, and take the certificate off again."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inventory", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    scenario = Scenario.of(arguments.inventory.resolve())
    host, address = scenario.host("balancer"), scenario.addresses["balancer"]
    only = ("site.yml", "--limit", "balancer", "--tags", "haproxy,firewall")
    found: dict[str, list[Cost]] = {kind: [] for kind in KINDS}
    with tempfile.TemporaryDirectory() as folder:
        certificate, settings = Path(folder) / "site.pem", Path(folder) / "hosts.yml"
        certificate.write_text(Authority().pem("site.example.com"))
        # Plain text must be answered too; and this one client is all that there are.
        given = {"haproxy_tls_file": str(certificate), "haproxy_tls_redirect": False, "haproxy_client_maxconn": 0}
        settings.write_text(yaml.safe_dump({"all": {"vars": given}}))
        try:
            played(scenario, *only, "-i", str(settings))
            for _ in range(arguments.rounds):
                for kind, costs in found.items():
                    costs.append(measure(host, address, kind, Path(folder) / "log"))
        finally:
            played(scenario, *only)
    print("| | requests per second | HAProxy's CPU per 1000 | p99 |\n|---|---|---|---|")
    for kind, costs in found.items():
        rate, cpu, p99 = (statistics.median(getattr(cost, key) for cost in costs) for key in ("rate", "cpu", "p99"))
        print(f"| {kind} | {rate:.0f} | {cpu:.0f} ms | {p99:.1f} ms |")


if __name__ == "__main__":
    main()
