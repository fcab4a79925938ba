"""Measures what runs of site.yml cost: CPU seconds of this machine and of the hosts, as multiples of a floor.

Use: ``make bench-plays`` (makes hosts of its own, beside a lab), ``ARGS="--sizes 3 6"``. The floor is what it costs to
ask every host for its facts, `ansible all -m setup`, in the same minute: what no run can go below that asks each host
one thing. CPU seconds, since they hardly depend on what else the machine does; what the hosts use anyhow is taken off.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from evenkeel.lab import engine

PROJECT = Path(__file__).resolve().parents[1]
INVENTORY = PROJECT / ".lab" / "bench" / "hosts.yml"
LAB = [sys.executable, "-m", "evenkeel.lab"]
NAMED = ["--name", "bench", "--subnet", "10.213.90.0/24", "--ssh-port", "2900"]
SITE = ["ansible-playbook", "site.yml"]
IDLE_SECONDS = 10
LONGEST = 1800


@dataclass(frozen=True)
class Cost:
    """What a run cost.

    Attributes:
        backends: of the site, which has one balancer besides.
        what: was run.
        control: CPU seconds of this machine.
        hosts: CPU seconds of all hosts, less what they use anyhow.
        results: of tasks, each of one host, the skipped ones too; None where nothing counts them.
        wall: seconds from start to end, which say much about what else the machine did.
    """

    backends: int
    what: str
    control: float
    hosts: float
    results: int | None
    wall: float

    @property
    def all(self) -> float:
        """Return the CPU seconds of this machine and the hosts."""
        return self.control + self.hosts


def used() -> float:
    """Return the CPU seconds that the hosts have used since they were made."""
    # Backends and balancer, without the mirror.
    names = engine.docker("ps", "--format", "{{.Names}}", "--filter", "name=^evenkeel-bench-b").split()
    found = 0.0
    for name in names:
        said = engine.docker("exec", name, "cat", "/sys/fs/cgroup/cpu.stat")
        found += int(dict(line.split() for line in said.splitlines())["usage_usec"]) / 1e6
    return found


def idle() -> float:
    """Return the CPU seconds that the hosts use per second when nobody works on them."""
    before, began = used(), time.monotonic()
    time.sleep(IDLE_SECONDS)
    return (used() - before) / (time.monotonic() - began)


def run(command: Sequence[str], environment: dict[str, str]) -> str:
    """Run a command to its end and return what it prints; ends this program where it fails."""
    done = subprocess.run(
        command, cwd=PROJECT, env=os.environ | environment, capture_output=True, text=True, timeout=LONGEST, check=False
    )
    if done.returncode:
        sys.exit(f"play_table: {' '.join(command)} ended with {done.returncode}:\n{done.stdout[-3000:]}{done.stderr}")
    return done.stdout


def spent(command: Sequence[str], environment: dict[str, str]) -> tuple[float, str]:
    """Run a command as :func:`run` does; return the CPU seconds of this machine, and what it prints."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    said = run(command, environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, said


def measured(backends: int, what: str, command: Sequence[str], rate: float, times: int = 1, strategy: str = "") -> Cost:
    """Return the cheapest of some runs of a command; ``rate`` is what the hosts use per second anyhow."""
    found = []
    for _ in range(times):
        busy, began = used(), time.monotonic()
        control, said = spent(
            [command[0], "-i", str(INVENTORY), *command[1:]], {"ANSIBLE_STRATEGY": strategy} if strategy else {}
        )
        wall = time.monotonic() - began
        counted = [int(number) for number in re.findall(r"\b(?:ok|skipped)=(\d+)", said)]
        found.append(Cost(backends, what, control, used() - busy - rate * wall, sum(counted) or None, wall))
    return min(found, key=lambda cost: cost.all)


def sizes(wanted: Sequence[int]) -> Iterator[Cost]:
    """Measure sites of these numbers of backends, ascending: each grows out of the one before."""
    for place, backends in enumerate(wanted):
        run([*LAB, "up", *NAMED, "--backends", str(backends)], {})
        grown = f"{backends - wanted[place - 1]} more backends" if place else "from bare"
        yield measured(backends, grown, SITE, idle())
        rate = idle()
        print(f"{backends} backends: the hosts use {rate:.3f} CPU s per second when nobody works on them")
        yield measured(backends, "floor", ["ansible", "all", "-m", "ansible.builtin.setup"], rate, times=2)
        yield measured(backends, "nothing changes", SITE, rate, times=2)
        yield measured(backends, "nothing changes, haproxy alone", [*SITE, "--tags", "haproxy"], rate)
        yield measured(backends, "one line of HAProxy's changes", [*SITE, "-e", "haproxy_timeout_queue=6s"], rate)
        if not place:
            yield measured(backends, "nothing changes, without Mitogen", SITE, rate, strategy="ansible.builtin.linear")


def keep(what: str, rows: list[dict[str, Any]]) -> None:
    """Write what was measured into the folder of reports, as JSON."""
    path = PROJECT / "reports" / f"{what}-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(rows, indent=2) + "\n")
    print(f"As JSON: {path.relative_to(PROJECT)}")


def main() -> None:
    """Measure, print a table, and write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[3, 6], metavar="BACKENDS", help="of the sites")
    parser.add_argument("--keep", action="store_true", help="leave the hosts there")
    arguments = parser.parse_args()
    costs = []
    try:
        for cost in sizes(sorted(set(arguments.sizes))):
            costs.append(cost)
            print(f"{cost.backends} backends, {cost.what}: {cost.all:.1f} CPU s", flush=True)
    finally:
        if not arguments.keep:
            run([*LAB, "down", *NAMED], {})
    floors = {cost.backends: cost.all for cost in costs if cost.what == "floor"}
    print("\n| backends | what | CPU s | of it, hosts | times the floor | results | s |\n|---|---|---|---|---|---|---|")
    for cost in costs:
        ratio = cost.all / floors[cost.backends]
        print(
            f"| {cost.backends} | {cost.what} | {cost.all:.1f} | {cost.hosts:.1f} | {ratio:.1f} | {cost.results or ''} "
            f"| {cost.wall:.0f} |"
        )
    still = {cost.backends: cost.all for cost in costs if cost.what == "nothing changes"}
    least, most = min(still), max(still)
    if most > least:
        print(
            f"\nEach further backend: {(still[most] - still[least]) / (most - least):.2f} CPU s where nothing changes."
        )
    keep("plays", [asdict(cost) for cost in costs])


if __name__ == "__main__":
    main()
