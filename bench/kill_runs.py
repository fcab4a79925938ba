"""Kill site.yml, deploy.yml and rollback.yml at many moments, and see whether the next plain run mends all.

Use: ``make bench-kills`` (on the lab), ``ARGS="--moments 5 --only deploy"``. Each moment is a task of the run, drawn
with a seed and spread over all of it: every process of the run gets SIGKILL up to two seconds after the task has begun.
Then the same playbook runs plainly, in every other case without the options that the killed one had, and the site is
looked at: containers, drains, lock, releases.json, what HAProxy runs. Nothing here is timed.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Sequence
from functools import partial
from itertools import count
from pathlib import Path

import kills
from scenario import Scenario

_VERSIONS, _THREADS = count(1), count(129)


def command(playbook: str) -> list[str]:
    """Return the command line of a run that has something to do."""
    if playbook == "site":
        return ["site.yml", "-e", f"backend_app_threads={next(_THREADS)}"]
    if playbook == "deploy":
        return ["deploy.yml", "-e", f"backend_app_version=3.{next(_VERSIONS)}.0"]
    return ["rollback.yml"]


def _from(wanted: int, number: int, _: str) -> bool:
    return number >= wanted


def length(scenario: Scenario, arguments: Sequence[str]) -> int:
    """Return how many tasks a whole run has."""
    run = scenario.play(*arguments)
    if run.returncode:
        raise SystemExit(run.stdout)
    return sum(kills.HEADLINE.match(line) is not None for line in run.stdout.splitlines())


def main() -> int:
    """Kill, and print a line about each; return 1 where something was not mended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inventory", type=Path, required=True)
    parser.add_argument("--moments", type=int, default=15)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", nargs="+", choices=["site", "deploy", "rollback"])
    arguments = parser.parse_args()
    scenario = Scenario.of(arguments.inventory.resolve())
    good = bad = 0
    for playbook in arguments.only or ["deploy", "rollback", "site"]:
        # The first has to leave something to roll back to.
        tasks = length(scenario, command("deploy" if playbook == "rollback" else playbook))
        tasks = length(scenario, command(playbook)) if playbook == "rollback" else tasks
        draw = random.Random(f"{arguments.seed} {playbook}")
        for number in range(arguments.moments):
            # One in each part of the run.
            moment = int(tasks * (number + draw.random()) / arguments.moments) + 1
            delay = draw.choice([0, 0.3, 1, 2])
            line = command(playbook)
            where = kills.killed(scenario, line, partial(_from, moment), delay)
            plain = line if number % 2 else line[:1]
            found = kills.mended(scenario, *plain)
            good, bad = (good, bad + 1) if found else (good + 1, bad)
            killed = f"{' '.join(line)} killed {delay} s after task {where or 'none: it had ended'}"
            print(f"{killed}, then {' '.join(plain)}: {'; '.join(found) or 'mended'}", flush=True)
    print(f"{good + bad} kills, {good} mended")
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
