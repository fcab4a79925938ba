"""Playbooks that are killed on the way, all their processes at once, and what the next plain run makes of it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import requests
from scenario import PROJECT, Scenario
from under_load import decided_states, stands_in

LOCK = "/run/evenkeel-deploy.lock"
DRAINED = "/run/evenkeel-drained"
HEADLINE = re.compile(r"^(TASK|RUNNING HANDLER) \[(.*?)\] \*")
# What a sentence may tell the operator to type instead of the same once more.
_ADVICE = {"break_lock": "deploy_break_lock=true", "deploy": "run deploy.yml or site.yml first"}
_MARK = "EVENKEEL_KILLED_RUN"


def _marked(mark: str) -> list[int]:
    """Return the processes that have a run's mark in their environment: the run's own, wherever they have gone."""
    found = []
    for folder in Path("/proc").iterdir():
        with suppress(OSError):
            if folder.name.isdigit() and f"{_MARK}={mark}".encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
    return found


def kill_all(mark: str) -> None:
    """Kill every process of a run with SIGKILL, those too that left its process group."""
    while alive := _marked(mark):
        for process in alive:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        time.sleep(0.01)


def after(task: str) -> Callable[[int, str], bool]:
    """Return the choice of the first headline after that of a task, which has ended by then."""
    seen = False

    def chosen(_: int, name: str) -> bool:
        nonlocal seen
        found, seen = seen, seen or task in name
        return found

    return chosen


def killed(scenario: Scenario, arguments: Sequence[str], when: Callable[[int, str], bool], delay: float = 0) -> str:
    """Run a playbook and kill it some seconds after the headline that ``when`` chooses.

    Args:
        scenario: the hosts.
        arguments: the playbook, and more of the command line.
        when: is told each headline's number, from 1, and the task's name.
        delay: in seconds.

    Returns:
        The headline's number and name; "" where the run had ended before one was chosen.
    """
    mark = uuid.uuid4().hex
    run = subprocess.Popen(
        ["ansible-playbook", "-i", str(scenario.inventory), *arguments],
        cwd=PROJECT,
        env=os.environ | {_MARK: mark, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_FORCE_COLOR": "0", "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert run.stdout
    number, chosen = 0, ""
    try:
        for line in run.stdout:
            if headline := HEADLINE.match(line):
                number += 1
                if when(number, headline[2]):
                    time.sleep(delay)
                    chosen = f"{number} {headline[2]}"
                    break
    finally:
        kill_all(mark)
        run.wait()
        run.stdout.close()
    return chosen


def on_host(scenario: Scenario, name: str, command: str) -> str:
    """Run a command on a host, through the lab: SSH would take longer. Returns its output, stripped."""
    whole = ["docker", "exec", scenario.container(name), "sh", "-c", command]
    return subprocess.run(whole, check=True, capture_output=True, text=True, timeout=300).stdout.strip()


def blemishes(scenario: Scenario) -> list[str]:
    """Return what a roll-out has left that should not be there, a few words each."""
    found = []
    versions = set()
    for name in scenario.backends:
        listed = on_host(scenario, name, "docker ps --all --format '{{.Names}} {{.State}}'").splitlines()
        ours = sorted(line for line in listed if line.startswith("backend_app"))
        if ours != ["backend_app running"]:
            found.append(f"{name} has {', '.join(ours) or 'no container'}")
            continue
        image = on_host(scenario, name, "docker inspect --format '{{.Config.Image}}' backend_app")
        versions.add(image)
        recorded = json.loads(on_host(scenario, name, "cat /var/lib/evenkeel/backend_app/releases.json || echo {}"))
        if recorded.get("current", image) != image:
            found.append(f"{name} runs {image}, and releases.json says {recorded['current']}")
    if len(versions) > 1:
        found.append(f"versions differ: {', '.join(sorted(versions))}")
    found += [
        f"{name} is {state}"
        for name, state in decided_states(scenario).items()
        if state != ("MAINT" if stands_in(name) else "UP")
    ]
    left = on_host(scenario, "balancer", f"ls -d {LOCK} {DRAINED}/*/* 2>/dev/null || true").split()
    found += [f"{path} is left" for path in left]
    running = requests.get(f"http://{scenario.addresses['balancer']}:8404/digest", timeout=60).text
    if running not in on_host(scenario, "balancer", "cat /etc/haproxy/haproxy.cfg"):
        found.append("HAProxy does not run its configuration")
    return found


def lies(said: str, left: Sequence[str]) -> list[str]:
    """Return what a run has said that is not so."""
    words = " ".join(said.split())
    found = []
    if left and "no host stays drained by it" in words and any("DRAIN" in each for each in left):
        found.append("it said that no host stays drained")
    if left and "the old version runs everywhere" in words and any("versions differ" in each for each in left):
        found.append("it said that the old version runs everywhere")
    if "Nothing was changed" in words and re.search(r"changed=[1-9]", words):
        found.append("it said that nothing was changed")
    return found


def mended(scenario: Scenario, *plain: str) -> list[str]:
    """Run a playbook plainly, then whatever its sentence says; return what is not mended or was not true."""
    found = []
    run = scenario.play(*plain, seconds=1200)
    for advice, text in _ADVICE.items():
        words = " ".join(run.stdout.split())
        if text in words and (run.returncode or advice == "break_lock"):
            found += lies(run.stdout, blemishes(scenario))
            more = ["deploy.yml"] if advice == "deploy" else [*plain, "-e", "deploy_break_lock=true"]
            run = scenario.play(*more)
            print(f"  said: {text}", flush=True)
    left = blemishes(scenario)
    found += [*left, *lies(run.stdout, left)]
    if run.returncode:
        found.append(f"the next run ended with {run.returncode}: {' '.join(run.stdout.split())[-1500:]}")
    return found
