"""What clients see of each fault: every event of the table in docs/failover.md, several times, on a running site.

Use: ``make bench-failover`` (on the lab, whose hosts it cuts off, freezes and reboots), ``ARGS="--only cut --runs 1"``.
Prints a line per run and the table in Markdown. It measures; molecule's scenario `default` judges.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import changes
import faults
from failover import Outcome, under_load
from scenario import Scenario

BACKENDS = ("backend-1", "backend-2", "backend-3")
VICTIM = "backend-2"
OTHERS = ("backend-1", "backend-3")
# The generator shares the cores that are kept busy: it may be late, and says by how much.
LATE = ("--max-lateness", "3")


@dataclass(frozen=True)
class Event:
    """A row of the table.

    Attributes:
        name: what ``--only`` calls it.
        what: what happens, in words.
        faults: the same, done.
        seconds: how long it lasts; 0 for what is announced, which may cost no request, in flight or not.
        arguments: more of them for the load generator.
        around: what holds before the load begins and after it ends.
    """

    name: str
    what: str
    faults: Callable[[Scenario], Sequence[AbstractContextManager[None]]]
    seconds: float
    arguments: Sequence[str] = ()
    around: Callable[[Scenario], AbstractContextManager[None]] = lambda _: nullcontext()


EVENTS = (
    Event("none", "nothing", lambda _: [], 20),
    Event("deploy", "deploy of a new version, then rollback", lambda s: [changes.deploy_and_rollback(s)], 0, LATE),
    Event("never", "deploy of a version that never gets ready", lambda s: [changes.failed_deploy(s, VICTIM)], 0, LATE),
    Event("site", "changed settings, a backend fewer, and back", lambda s: [changes.changed_site(s, VICTIM)], 0, LATE),
    Event("reboot", "reboot of a backend", lambda site: [faults.reboot(site, VICTIM)], 0),
    Event("crash", "SIGKILL of the container", lambda site: [faults.crash(site, VICTIM)], 5),
    Event("engine", "restart of the engine", lambda site: [faults.engine_restart(site, VICTIM)], 0),
    Event("cut", "power cut, 20 s", lambda site: [faults.power_cut(site, VICTIM)], 20),
    Event("frozen", "SIGSTOP of the workers, 20 s", lambda site: [faults.frozen(site, VICTIM)], 20),
    Event("loss", "20 % packet loss each way, 20 s", lambda site: [faults.loss(site, VICTIM, 0.2)], 20),
    Event("busy", "every core busy, 10 s", lambda _: [faults.saturation()], 10, LATE),
    Event("two", "power cut of two of three, 20 s", lambda s: [faults.power_cut(s, n) for n in BACKENDS[1:]], 20),
    Event(
        "reloads",
        "50 reloads in a minute, one backend dead",
        lambda s: [faults.stopped(s, VICTIM), changes.reloads(s, VICTIM, 50, pause=0.6)],
        0,
    ),
    # Nothing is down in these, or not what is slow.
    Event(
        "stall-0.5",
        "no packet for 0.5 s from any backend, 3 times",
        lambda s: [faults.stall(s, *BACKENDS, seconds=0.5)],
        0,
    ),
    Event("stall-1", "… for 1 s, 3 times", lambda s: [faults.stall(s, *BACKENDS, seconds=1)], 0),
    Event("stall-2", "… for 2 s, 3 times", lambda s: [faults.stall(s, *BACKENDS, seconds=2)], 0),
    Event(
        "cut-stall",
        "power cut of one; the others pass no packet for 1 s, 3 times",
        lambda s: [faults.power_cut(s, VICTIM), faults.stall(s, *OTHERS, seconds=1)],
        1,
    ),
    Event(
        "balancer",
        "no packet for 1 s from the balancer, 3 times",
        lambda s: [faults.stall(s, "balancer", seconds=1)],
        0,
    ),
    Event(
        "late",
        "the application 1.5 s late on all backends, 10 s",
        lambda s: [faults.late(s, *BACKENDS, seconds=1.5)],
        10,
    ),
    Event(
        "overload",
        "reboot of a backend while the others have four busy loops for each core",
        lambda s: [faults.overload(s, *OTHERS, times=4), faults.reboot(s, VICTIM)],
        10,
        LATE,
    ),
    Event("worker", "SIGKILL of HAProxy's worker", lambda s: [faults.worker_killed(s)], 2),
    # The proof that the rows above could show a loss.
    Event(
        "guide",
        "power cut, 20 s, the guide's settings",
        lambda s: [faults.power_cut(s, VICTIM)],
        20,
        around=changes.guide,
    ),
)


def lost(event: Event, outcome: Outcome, method: str) -> str:
    """Return how many requests of a method failed, of how many, and whether those were in flight at the fault."""
    failed, later = len(outcome.failed(method)), len(outcome.failed_later(method))
    count = f"{failed} of {sum(record.method == method for record in outcome.run.records)}"
    if not failed or not event.seconds:
        return count
    return f"{count}, {later} NOT in flight" if later else f"{count}, in flight"


def row(event: Event, outcomes: Sequence[Outcome]) -> str:
    """Return an event's line of the table: the worst of its runs, and how many of them count."""
    counted = [outcome for outcome in outcomes if outcome.summary.valid]
    if not counted:
        return f"| {event.what} | no run counts | | | | | 0 |"

    def worst(method: str) -> str:
        chosen = max(counted, key=lambda outcome: (len(outcome.failed_later(method)), len(outcome.failed(method))))
        return lost(event, chosen, method)

    return (
        f"| {event.what} | {worst('GET')} | {worst('POST')} "
        f"| {max(outcome.longest_gap for outcome in counted):.2f} s "
        f"| {max(outcome.slowest_get for outcome in counted):.2f} s "
        f"| {min(outcome.summary.rps_floor or 0 for outcome in counted)} | {len(counted)} |"
    )


def main() -> None:
    """Run the events and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inventory", type=Path, required=True)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=[event.name for event in EVENTS])
    arguments = parser.parse_args()
    if not arguments.inventory.exists():
        parser.error(f"there is no {arguments.inventory}: bring the lab up first (make lab)")
    scenario = Scenario.of(arguments.inventory.resolve())
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for event in [each for each in EVENTS if not arguments.only or each.name in arguments.only]:
            outcomes = []
            for number in range(arguments.runs):
                records = Path(folder) / f"{event.name}-{number}.gz"
                with event.around(scenario):
                    outcome = under_load(
                        scenario, records, *event.faults(scenario), seconds=event.seconds, arguments=event.arguments
                    )
                failed = ", ".join(f"{method} failed: {lost(event, outcome, method)}" for method in ("GET", "POST"))
                print(
                    f"{event.what}: {outcome}, {failed}",
                    flush=True,
                )
                outcomes.append(outcome)
            rows.append(row(event, outcomes))
    print(
        "\n| event | failed GET | failed POST | longest gap | slowest GET | lowest answers/s of 110 | runs that count |"
    )
    print("\n".join(["|---|---|---|---|---|---|---|", *rows]))


if __name__ == "__main__":
    main()
