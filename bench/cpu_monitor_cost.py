"""Measures what the CPU monitor costs beside the loop of a shell that it replaces, on the host where it runs.

Needs root, systemd on cgroup v2, and the role cpu_monitor with its Pushgateway; for the loop also vmstat (procps),
awk and curl. Both run at the same time, against the same Pushgateway. On a lab host::

    docker exec -i evenkeel-lab-backend-1 python3 - 60 <bench/cpu_monitor_cost.py
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

# The Pushgateway is this machine's own: no proxy leads there.
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))
UNIT = "cpu-monitor-cost-loop.service"
# What people write: the idle column of the second line of vmstat, sent by curl, then a pause. Under another name:
# without a type it would not agree with the monitor's cpu_usage, and the Pushgateway would refuse it.
LOOP = """while true; do
  cpu=$(vmstat 1 2 | tail -1 | awk '{print 100-$15}')
  echo "cpu_usage_loop $cpu" | curl -s --data-binary @- "$0/metrics/job/cpu_usage/instance/loop"
  sleep 1
done"""


@dataclass(frozen=True)
class Reading:
    """What a service has used since its start: CPU seconds with all children, processes, pushes of its method."""

    cpu: float
    processes: int
    pushes: int


def run(*command: str) -> str:
    """Return what a command prints; raises CalledProcessError."""
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def shown(unit: str, name: str) -> str:
    """Return a property of a unit."""
    return run("systemctl", "show", unit, f"--property={name}", "--value")


def cpu_seconds(unit: str) -> float:
    """Return the CPU time of a unit's cgroup: what has ended is in it too."""
    stat = Path(f"/sys/fs/cgroup{shown(unit, 'ControlGroup')}/cpu.stat").read_text()
    return int(stat.split()[stat.split().index("usage_usec") + 1]) / 1e6


def pushes(url: str, method: str) -> int:
    """Return how many pushes of a method the Pushgateway has seen."""
    with OPENER.open(f"{url}/metrics", timeout=5) as answer:
        text = answer.read().decode()
    found = re.search(rf'^pushgateway_http_push_duration_seconds_count{{method="{method}"}} (\S+)', text, re.MULTILINE)
    return int(float(found[1])) if found else 0


def monitor(url: str) -> Reading:
    """Return what the monitor has used; its processes are those it has now, since it starts none."""
    members = Path(f"/sys/fs/cgroup{shown('cpu_monitor', 'ControlGroup')}/cgroup.procs").read_text().split()
    return Reading(cpu_seconds("cpu_monitor"), len(members), pushes(url, "put"))


def loop(url: str) -> Reading:
    """Return what the loop has used. Process ids count up in a namespace of its own: the next one is the number."""
    shell = Path(f"/proc/{shown(UNIT, 'MainPID')}/task/{shown(UNIT, 'MainPID')}/children").read_text().split()[0]
    processes = int(run("nsenter", f"--target={shell}", "--pid", "sh", "-c", "echo $$"))
    return Reading(cpu_seconds(UNIT), processes, pushes(url, "post"))


def main() -> None:
    """Measure, print the figures and their ratio."""
    seconds = int(sys.argv[1]) if len(sys.argv) > 1 else 60
    found = re.search(r"CPU_MONITOR_PUSHGATEWAY_URL=(\S+)", shown("cpu_monitor", "Environment"))
    if not found or shown("cpu_monitor", "ActiveState") != "active":
        sys.exit("cpu_monitor_cost: no cpu_monitor runs here; run the role cpu_monitor on this host first.")
    url = found[1]
    # systemd expands variables too: a doubled dollar is the shell's.
    script = LOOP.replace("$", "$$")
    alone = ("unshare", "--pid", "--fork", "--kill-child")
    run("systemd-run", "--quiet", "--collect", f"--unit={UNIT}", *alone, "bash", "-c", script, url)
    try:
        time.sleep(2)
        before = monitor(url), loop(url)
        time.sleep(seconds)
        after = monitor(url), loop(url)
    finally:
        run("systemctl", "stop", UNIT)
        request = urllib.request.Request(f"{url}/metrics/job/cpu_usage/instance/loop", method="DELETE")
        OPENER.open(request, timeout=5).close()
    used = [last.cpu - first.cpu for first, last in zip(before, after, strict=True)]
    pushed = [last.pushes - first.pushes for first, last in zip(before, after, strict=True)]
    # The question at the end of each reading was a process too.
    started = [after[0].processes - before[0].processes, after[1].processes - before[1].processes - 1]
    print(f"in {seconds} s            CPU seconds  per push  pushes  processes started")
    for name, cpu, count, processes in zip(("cpu_monitor", "loop of a shell"), used, pushed, started, strict=True):
        print(f"{name:<16} {cpu:>14.3f} {cpu / max(count, 1) * 1000:>6.1f} ms {count:>7} {processes:>18}")
    each = [cpu / max(count, 1) for cpu, count in zip(used, pushed, strict=True)]
    print(f"The loop costs {used[1] / used[0]:.1f} times the CPU altogether, {each[1] / each[0]:.1f} times a push.")


if __name__ == "__main__":
    main()
