"""Kill site.yml, deploy.yml and rollback.yml at many moments, and see whether the next plain run mends all.

Use: ``make bench-kills`` (on the lab), ``ARGS="--moments 5 --only deploy"``. A whole run is timed, task by task. Then
each moment is drawn with a seed, one in each equal part of that time, so that a long task is met within: every process
of the run gets SIGKILL. Then the same playbook runs plainly, in every other case without the options that the killed
one had, and the site is looked at: containers, drains, lock, releases.json, what HAProxy runs, files and packages that
are half there, the front door. A last run must find nothing to do.

``settings`` is site.yml with other settings, under load: no GET may fail, from before the kill until all is mended.
``surge`` is deploy.yml of a service with a ``surge_port``, two backends at once, under load too.
``cold`` is site.yml on hosts that have nothing yet. Each kill gets hosts of its own, in a lab that is made and removed.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from textwrap import shorten

import kills
import requests
from scenario import PROJECT, Scenario, recap
from under_load import BUSY, WARM_UP, load

from evenkeel.load.records import read

_VERSIONS, _THREADS = count(1), count(129)
_PLAYBOOKS = ["deploy", "rollback", "site", "settings", "surge", "cold"]
_UNDER_LOAD = ("settings", "surge")
# The guide's API as a description of one's own. What is null there is the guide's alone.
_SURGE = (
    "{{ topology_guide_api | dict2items | rejectattr('value', 'none') | items2dict"
    " | combine({'surge_port': 8081, 'version': surge_version, 'ready': {'path': '/readyz'}}) }}"
)
# What a writer that was cut off leaves beside the file: Ansible's, and dpkg's.
_DRAFTS = (
    "find /etc /usr/local /opt /var/lib/evenkeel -xdev -name '.ansible_tmp*' -o -name '*.dpkg-new' "
    "-o -name '*.dpkg-tmp' -o -name '*.new' 2>/dev/null || true"
)


def command(playbook: str) -> list[str]:
    """Return the command line of a run that has something to do."""
    if playbook == "cold":
        return ["site.yml"]
    if playbook in ("site", "settings"):
        number = next(_THREADS)
        return ["site.yml", "-e", f"backend_app_threads={number}", "-e", f"haproxy_timeout_queue={number}s"]
    if playbook == "surge":
        settings = {"site_services": {"app": _SURGE}, "surge_version": f"4.{next(_VERSIONS)}.0", "deploy_batch": 2}
        return ["deploy.yml", "-e", json.dumps(settings)]
    if playbook == "deploy":
        return ["deploy.yml", "-e", f"backend_app_version=3.{next(_VERSIONS)}.0"]
    return ["rollback.yml"]


def _from(wanted: int, number: int, _: str) -> bool:
    return number >= wanted


def timed(scenario: Scenario, arguments: Sequence[str]) -> list[float]:
    """Return when each task of a whole run began, in seconds from the first, and at last when the run had ended."""
    times: list[float] = []

    def note(_: int, __: str) -> bool:
        times.append(time.monotonic())
        return False

    kills.killed(scenario, arguments, note)
    times.append(time.monotonic())
    return [each - times[0] for each in times]


def half_done(scenario: Scenario) -> list[str]:
    """Return what is only half on a host, a few words each."""
    found = []
    for name in scenario.addresses:
        found += [f"{name} has {path}" for path in kills.on_host(scenario, name, _DRAFTS).split()]
        if kills.on_host(scenario, name, "dpkg --audit"):
            found.append(f"{name} has packages that are half installed")
    return found


def settled(scenario: Scenario, *arguments: str) -> list[str]:
    """Run the playbook a last time; return what it still had to do, and whether the site does not answer."""
    found = half_done(scenario)
    # One rollback more has something to do.
    if arguments[0] != "rollback.yml":
        run = scenario.play(*arguments, seconds=1200)
        if run.returncode:
            return [*found, f"the last run ended with {run.returncode}: {' '.join(run.stdout.split())[-1500:]}"]
        found += [f"the last run changed {name}" for name, host in recap(run.stdout).items() if host["changed"]]
    answer = requests.get(f"http://{scenario.addresses['balancer']}/", timeout=5)
    return found + ([] if answer.ok else [f"the front door says {answer.status_code}"])


@contextmanager
def fresh(arguments: argparse.Namespace) -> Iterator[Scenario]:
    """Hosts that have nothing yet, and that nobody else uses."""
    lab = [sys.executable, "-m", "evenkeel.lab"]
    where = [
        "--name",
        arguments.cold_lab,
        "--subnet",
        arguments.cold_subnet,
        "--ssh-port",
        str(arguments.cold_ssh_port),
    ]
    try:
        subprocess.run([*lab, "down", *where], cwd=PROJECT, check=True, stdout=subprocess.DEVNULL)
        subprocess.run([*lab, "up", *where, "--backends", "2"], cwd=PROJECT, check=True, stdout=subprocess.DEVNULL)
        yield Scenario.of(PROJECT / ".lab" / arguments.cold_lab / "hosts.yml")
    finally:
        subprocess.run([*lab, "down", *where], cwd=PROJECT, check=False, stdout=subprocess.DEVNULL)


@contextmanager
def loaded(scenario: Scenario, found: list[str]) -> Iterator[None]:
    """Load, as the tests have it; of GET requests that fail ``found`` is told."""
    folder = Path(tempfile.mkdtemp())
    try:
        with load(scenario, folder / "records", *BUSY, "--rate", "40", "--duration", "1500"):
            time.sleep(WARM_UP)
            yield
            time.sleep(WARM_UP)
        records = [record for record in read(folder / "records").records if record.method == "GET"]
        failed = [record for record in records if record.failure]
        print(f"  {len(failed)} of {len(records)} GET failed", flush=True)
        found += [f"{len(failed)} of {len(records)} GET failed"] if failed or not records else []
    finally:
        shutil.rmtree(folder)


def kill_once(
    scenario: Scenario, playbook: str, line: Sequence[str], plain: Sequence[str], at: tuple[int, float]
) -> str:
    """Kill a run, let the next one mend it, and say what came of it; "" is at its end where nothing is wrong."""
    found: list[str] = []
    with ExitStack() as stack:
        if playbook in _UNDER_LOAD:
            stack.enter_context(loaded(scenario, found))
        where = kills.killed(scenario, line, partial(_from, at[0]), at[1])
        found += kills.mended(scenario, *plain)
    found += settled(scenario, *plain)
    print(f"{shorten(' '.join(line), 100)} killed {at[1]:.1f} s after task {where or 'none: it had ended'}", flush=True)
    return "; ".join(found)


def main() -> int:
    """Kill, and print a line about each; return 1 where something was not mended."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inventory", type=Path, required=True)
    parser.add_argument("--moments", type=int, default=15)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", nargs="+", choices=_PLAYBOOKS)
    parser.add_argument("--cold-lab", default="bench-kills", help="the name of the lab for cold runs")
    parser.add_argument("--cold-subnet", default="10.213.79.0/24")
    parser.add_argument("--cold-ssh-port", type=int, default=2600)
    arguments = parser.parse_args()
    good = bad = 0
    for playbook in arguments.only or _PLAYBOOKS:
        with ExitStack() as stack:
            if playbook == "cold":
                scenario = stack.enter_context(fresh(arguments))
            else:
                scenario = Scenario.of(arguments.inventory.resolve())
            # The second port is opened by site.yml, and deploy.yml has no say in that.
            if playbook == "surge":
                timed(scenario, ["site.yml", *command("surge")[1:]])
            # The first has to leave something to roll back to.
            if playbook == "rollback":
                timed(scenario, command("deploy"))
            whole = command(playbook)
            times = timed(scenario, whole)
            if left := settled(scenario, *whole) + kills.blemishes(scenario):
                raise SystemExit(f"A whole run of {playbook} is no success: {'; '.join(left)}")
        draw = random.Random(f"{arguments.seed} {playbook}")
        for number in range(arguments.moments):
            # One in each part of the run.
            at = times[-1] * (number + draw.random()) / arguments.moments
            task = bisect_right(times, at)
            line = command(playbook)
            # Without its description it is another service.
            plain = line if number % 2 or playbook == "surge" else line[:1]
            with ExitStack() as stack:
                if playbook == "cold":
                    scenario = stack.enter_context(fresh(arguments))
                found = kill_once(scenario, playbook, line, plain, (task, at - times[task - 1]))
            good, bad = (good, bad + 1) if found else (good + 1, bad)
            print(f"  then {shorten(' '.join(plain), 100)}: {found or 'mended'}", flush=True)
    print(f"{good + bad} kills, {good} mended")
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
