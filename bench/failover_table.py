"""What clients see of each fault: every event of the table in docs/failover.md, several times, on a running site.

Use: ``make bench-failover`` (on the lab, whose hosts it cuts off, freezes and reboots), ``ARGS="--only cut --runs 1"``.
Each run leaves a folder as those of ``chaos.yml`` do, with its journal and its report; the table is made of the
journals. It measures; molecule's scenario `default` judges.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path

import changes
import faults
from scenario import PROJECT, Scenario
from under_load import MIX, RATE, WARM_UP, wait_until_all_up

from evenkeel.chaos.record import run_folder
from evenkeel.chaos.record.timeline import Mark, add
from evenkeel.chaos.report.table import table

BACKENDS = ("backend-1", "backend-2", "backend-3")
VICTIM = "backend-2"
OTHERS = ("backend-1", "backend-3")
ADVICE = "The benchmark was killed. Nobody undoes the fault that may be in force: make lab-down, then make lab."


@dataclass(frozen=True)
class Event:
    """A row of the table.

    Attributes:
        name: what ``--only`` calls it.
        what: what happens, in words.
        faults: the same, done.
        seconds: how long it lasts; 0 for what is over when it has been done.
        target: the host it strikes, as far as one does.
        takes_out: whether the victim is to leave the rotation.
        max_lateness: seconds by which the load generator may be late: it shares the cores with what keeps them busy.
        around: what holds before the load begins and after it ends.
    """

    name: str
    what: str
    faults: Callable[[Scenario], Sequence[AbstractContextManager[None]]]
    seconds: float
    target: str = VICTIM
    takes_out: bool = False
    max_lateness: float = 0.5
    around: Callable[[Scenario], AbstractContextManager[None]] = lambda _: nullcontext()


EVENTS = (
    Event("none", "nothing", lambda _: [], 20),
    Event(
        "deploy",
        "deploy of a new version, then rollback",
        lambda site: [changes.deploy_and_rollback(site)],
        0,
        max_lateness=3,
    ),
    Event(
        "never",
        "deploy of a version that never gets ready",
        lambda site: [changes.failed_deploy(site, VICTIM)],
        0,
        max_lateness=3,
    ),
    Event(
        "site",
        "changed settings, a backend fewer, and back",
        lambda site: [changes.changed_site(site, VICTIM)],
        0,
        max_lateness=3,
    ),
    Event("reboot", "reboot of a backend", lambda site: [faults.reboot(site, VICTIM)], 0, takes_out=True),
    Event("crash", "SIGKILL of the container", lambda site: [faults.crash(site, VICTIM)], 5),
    Event("engine", "restart of the engine", lambda site: [faults.engine_restart(site, VICTIM)], 0),
    Event("cut", "power cut, 20 s", lambda site: [faults.power_cut(site, VICTIM)], 20, takes_out=True),
    Event("frozen", "SIGSTOP of the workers, 20 s", lambda site: [faults.frozen(site, VICTIM)], 20, takes_out=True),
    Event("loss", "20 % packet loss each way, 20 s", lambda site: [faults.loss(site, VICTIM, 0.2)], 20),
    Event("busy", "every core busy, 10 s", lambda _: [faults.saturation()], 10, max_lateness=3),
    Event(
        "two",
        "power cut of two of three, 20 s",
        lambda site: [faults.power_cut(site, name) for name in BACKENDS[1:]],
        20,
        takes_out=True,
    ),
    Event(
        "reloads",
        "50 reloads in a minute, one backend dead",
        lambda site: [faults.stopped(site, VICTIM), changes.reloads(site, VICTIM, 50, pause=0.6)],
        0,
    ),
    # Nothing is down in these, or not what is slow.
    Event(
        "stall-0.5",
        "no packet for 0.5 s from any backend, 3 times",
        lambda site: [faults.stall(site, *BACKENDS, seconds=0.5)],
        0,
    ),
    Event("stall-1", "… for 1 s, 3 times", lambda site: [faults.stall(site, *BACKENDS, seconds=1)], 0),
    Event("stall-2", "… for 2 s, 3 times", lambda site: [faults.stall(site, *BACKENDS, seconds=2)], 0),
    Event(
        "cut-stall",
        "power cut of one; the others pass no packet for 1 s, 3 times",
        lambda site: [faults.power_cut(site, VICTIM), faults.stall(site, *OTHERS, seconds=1)],
        1,
        takes_out=True,
    ),
    Event(
        "balancer",
        "no packet for 1 s from the balancer, 3 times",
        lambda site: [faults.stall(site, "balancer", seconds=1)],
        0,
        target="balancer",
    ),
    Event(
        "late",
        "the application 1.5 s late on all backends, 10 s",
        lambda site: [faults.late(site, *BACKENDS, seconds=1.5)],
        10,
    ),
    Event(
        "overload",
        "reboot of a backend while the others have four busy loops for each core",
        lambda site: [faults.overload(site, *OTHERS, times=4), faults.reboot(site, VICTIM)],
        10,
        takes_out=True,
        max_lateness=3,
    ),
    Event("worker", "SIGKILL of HAProxy's worker", lambda site: [faults.worker_killed(site)], 2, target="balancer"),
    # The proof that the rows above could show a loss.
    Event(
        "guide",
        "power cut, 20 s, the guide's settings",
        lambda site: [faults.power_cut(site, VICTIM)],
        20,
        takes_out=True,
        around=changes.guide,
    ),
)


def plan(scenario: Scenario, event: Event, more: Mapping[str, object]) -> dict[str, object]:
    """Return the run.json of an event's run; ``more`` is what it says of another service than the guide's API."""
    balancer = scenario.addresses["balancer"]
    return {
        "fault": event.name,
        "what": event.what,
        "target": event.target,
        "takes_out": event.takes_out,
        "recover_from": "undone",
        # Measured, not judged, but for failed requests.
        "slo": {
            "longest_gap": 10,
            "rps_floor": 0,
            "p99": 35,
            "detect": 30,
            "recover": 300,
            "share_tolerance": 1,
        },
        "hosts": {"backends": scenario.backends, "balancers": ["balancer"]},
        "url": f"http://{balancer}",
        "rate": RATE,
        "mix": MIX,
        # A patient client's: it may outlive a fault.
        "timeout": 35,
        "max_lateness": event.max_lateness,
        "limit": 900,
        "haproxy": {"balancer": f"http://{balancer}:8404"},
        "prometheus": f"http://{balancer}:9090",
        **more,
    }


def chaos(command: str, folder: Path, stdin: str = "") -> str:
    """Run a command of ``evenkeel.chaos`` on a run's folder and return what it said; a verdict is no failure."""
    done = subprocess.run(
        [sys.executable, "-m", "evenkeel.chaos", command, str(folder)],
        input=stdin,
        env=os.environ | {"PYTHONPATH": str(PROJECT / "src")},
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
    )
    if done.returncode and not (command == "report" and done.returncode in (1, 3)):
        sys.exit(f"{done.stderr.strip()} ({folder})")
    return done.stdout


def run(scenario: Scenario, event: Event, folder: Path, more: Mapping[str, object]) -> None:
    """Let an event happen under load, and leave the folder of the run."""

    def mark(name: str) -> None:
        add(folder, Mark(time.time(), name, ""))

    folder.mkdir(parents=True)
    run_folder.write_text(folder / run_folder.PLAN, json.dumps(plan(scenario, event, more), indent=1) + "\n")
    wait_until_all_up(scenario)
    mark("begin")
    # Load and sampler end with this process, however it ends.
    call = {"pid": os.getpid(), "command": [], "directory": str(PROJECT), "advice": ADVICE}
    chaos("start", folder, json.dumps(call))
    try:
        time.sleep(WARM_UP)
        with ExitStack() as stack:
            mark("inject")
            if not event.seconds:
                # What is lost later than at its beginning was not just in flight.
                mark("injected")
            for fault in event.faults(scenario):
                stack.enter_context(fault)
            if event.seconds:
                mark("injected")
            time.sleep(event.seconds)
            mark("undo")
        mark("undone")
        wait_until_all_up(scenario)
        mark("recovered")
        time.sleep(WARM_UP)
    finally:
        chaos("stop", folder)
    chaos("report", folder)
    print(table([folder]).splitlines()[-1], flush=True)


def measured(
    scenario: Scenario, events: Sequence[Event], runs: int, reports: Path, more: Mapping[str, object] | None = None
) -> None:
    """Run each event so often, leave the runs' folders in ``reports``, and print the table."""
    folders: list[Path] = []
    try:
        for event in events:
            for number in range(1, runs + 1):
                folders.append(reports / f"{event.name}-{number}")
                with event.around(scenario):
                    run(scenario, event, folders[-1], more or {})
    finally:
        print("\n" + table([folder for folder in folders if folder.exists()]), end="", flush=True)


def asked(about: str | None, names: Sequence[str], runs: int) -> argparse.Namespace:
    """Return what the command line asks for: ``inventory``, ``runs`` and ``only``, which of the names are meant."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--inventory", type=Path, required=True)
    parser.add_argument("--runs", type=int, default=runs)
    parser.add_argument("--only", nargs="+", choices=names, default=names)
    arguments = parser.parse_args()
    if not arguments.inventory.exists():
        parser.error(f"there is no {arguments.inventory}: bring the lab up first (make lab)")
    # An end by a signal undoes the fault that is in force, as Ctrl-C does.
    for each in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, lambda *_: sys.exit("The benchmark was ended."))
    return arguments


def main() -> None:
    """Run the events and print the table."""
    arguments = asked(__doc__, [event.name for event in EVENTS], 3)
    scenario = Scenario.of(arguments.inventory.resolve())
    reports = PROJECT / "reports" / time.strftime("failover-%Y%m%dT%H%M%SZ", time.gmtime())
    measured(scenario, [event for event in EVENTS if event.name in arguments.only], arguments.runs, reports)


if __name__ == "__main__":
    main()
