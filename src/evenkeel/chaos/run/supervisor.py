"""The process that stays with a run: it keeps load and sampler going, and undoes the fault where the playbook dies.

It has a session of its own, so that Ctrl-C at the playbook and a kill of it leave it alone.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evenkeel.chaos.record import run_folder
from evenkeel.chaos.record.haproxy import GUIDE
from evenkeel.chaos.record.timeline import Mark, add
from evenkeel.errors import EvenkeelError
from evenkeel.load.records import read

LOG = "supervisor.log"
PID = "supervisor.pid"
_TICK = 0.2
_SAY_EVERY = 5.0
_START_SECONDS = 20.0
# A request may take as long as its timeout, and Prometheus is asked at the end.
_END_SECONDS = 90.0
_UNDO_SECONDS = 600.0
_NO_COMMAND = "The playbook has ended before the run, and was not started as chaos.yml: the hosts' own timers undo it."


def load_command(folder: Path, values: Mapping[str, Any]) -> list[str]:
    """Return the load generator's command."""
    # It must not be what is late, where it shares the cores with hosts.
    nice = ["nice", "-n", "-10"] if os.geteuid() == 0 else []
    options = ["--mix", values["mix"], "--rate", f"{float(values['rate']):g}", "--timeout", f"{values['timeout']:g}"]
    options += ["--max-lateness", f"{values['max_lateness']:g}"]
    options += [word for name, value in values.get("headers", {}).items() for word in ("--header", f"{name}: {value}")]
    options += [] if values.get("verify", True) else ["--no-verify"]
    limit = ["--duration", f"{values['limit']:g}", "--records", str(folder / run_folder.LOAD)]
    return [*nice, sys.executable, "-m", "evenkeel.load", values["url"], *options, *limit]


def sampler_command(folder: Path, values: Mapping[str, Any]) -> list[str]:
    """Return the sampler's command."""
    balancers = [option for name, url in values["haproxy"].items() for option in ("--haproxy", f"{name}={url}")]
    return [
        *(sys.executable, "-m", "evenkeel.chaos", "watch", str(folder)),
        *(*balancers, "--prometheus", values["prometheus"], "--service", values.get("service") or GUIDE),
    ]


def _has_ended(handle: int) -> bool:
    """Tell whether a process has ended, though its parent may not have noticed yet."""
    return bool(select.select([handle], [], [], 0)[0])


def _last_line(path: Path) -> str:
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


class Supervisor:
    """Stays with one run, from the start of its load to its end."""

    def __init__(self, folder: Path, call: Mapping[str, Any]) -> None:
        """Supervise ``folder`` for an ansible-playbook.

        Args:
            folder: the run's.
            call: as the filter ``chaos_call`` returns it. It may hold secrets, so it is kept in memory only.
        """
        self._folder = folder
        self._values = run_folder.read_object(folder / run_folder.PLAN)
        self._call = call
        self._stop = False
        try:
            # What the playbook's user looks at.
            self._screen = os.open(f"/proc/{call['pid']}/fd/2", os.O_WRONLY | os.O_APPEND | os.O_NOCTTY | os.O_NONBLOCK)
        except OSError:
            self._screen = -1

    def _say(self, text: str) -> None:
        """Say something where the user looks and in the log; nothing may depend on either."""
        with contextlib.suppress(OSError):
            print(text, flush=True)
        if self._screen >= 0:
            with contextlib.suppress(OSError):
                os.write(self._screen, f"chaos: {text}\n".encode())

    def _mark(self, name: str, text: str = "") -> None:
        with contextlib.suppress(EvenkeelError):
            add(self._folder, Mark(time.time(), name, text))

    def _signalled(self, *_: object) -> None:
        self._stop = True

    def run(self) -> int:
        """Supervise until SIGTERM, or until the playbook has died; return 1 where load or sampler ended before."""
        playbook = os.pidfd_open(self._call["pid"])
        for each in (signal.SIGTERM, signal.SIGINT):
            signal.signal(each, self._signalled)
        log = self._folder / "load.log"
        with log.open("w") as progress:
            programs = [
                subprocess.Popen(
                    _with_parent(load_command(self._folder, self._values)), stdout=progress, stderr=progress
                ),
                subprocess.Popen(_with_parent(sampler_command(self._folder, self._values))),
            ]
            said = time.monotonic()
            whole = True
            # Also where load or sampler has ended: somebody must be there to undo the fault.
            while not self._stop and not _has_ended(playbook):
                time.sleep(_TICK)
                now_whole = all(program.poll() is None for program in programs)
                if now_whole < whole or time.monotonic() - said >= _SAY_EVERY:
                    said += _SAY_EVERY
                    self._say(_last_line(log))
                whole = now_whole
            try:
                if not self._stop:
                    self._undo()
            finally:
                self._end(programs)
        return int(not whole)

    def _end(self, programs: list[subprocess.Popen[bytes]]) -> None:
        for process, how in zip(programs, (signal.SIGINT, signal.SIGTERM), strict=True):
            process.send_signal(how)
            try:
                process.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process is programs[0]:
                self._mark("end")

    def _undo(self) -> None:
        """Do what the playbook can't any more."""
        command = self._call["command"]
        text = "The playbook has ended before the run: undoing the fault."
        if not command:
            text = self._call.get("advice") or _NO_COMMAND
        self._say(text)
        self._mark("note", text)
        if not command:
            return
        try:
            done = subprocess.run(
                [*command, "-e", f"chaos_run={self._folder}"],
                cwd=self._call["directory"],
                stdin=subprocess.DEVNULL,
                check=False,
                timeout=_UNDO_SECONDS,
            )
            ok = done.returncode == 0
        except (OSError, subprocess.TimeoutExpired):
            ok = False
        self._mark("undone" if ok else "note", "" if ok else "Undoing it failed.")
        log = self._folder / LOG
        self._say(
            "The fault is undone." if ok else f"Undoing it failed (see {log}): the hosts' own timers will undo it."
        )


def _with_parent(command: list[str]) -> list[str]:
    """Return a command that ends with whom it was started by, however that ends."""
    return ["setpriv", "--pdeathsig", "TERM", *command] if shutil.which("setpriv") else command


def start(folder: Path) -> None:
    """Start a run's supervisor and return once load and sampler are at work; raises EvenkeelError if they are not.

    The supervisor reads this process' stdin.
    """
    with (run_folder.existing(folder) / LOG).open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "evenkeel.chaos", "supervise", str(folder)],
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    run_folder.write_text(folder / PID, f"{process.pid}\n")
    deadline = time.monotonic() + _START_SECONDS
    while missing := not_at_work(folder):
        if process.poll() is not None or time.monotonic() > deadline:
            process.terminate()
            last = _last_line(folder / LOG).rstrip(".") or "nothing was logged"
            raise EvenkeelError(f"{missing}: {last}.")
        time.sleep(_TICK)


def is_supervised(folder: Path) -> bool:
    """Tell whether a run's supervisor is there, which would undo the fault."""
    try:
        return not _has_ended(os.pidfd_open(int((folder / PID).read_text())))
    except (OSError, ValueError):
        return False


def not_at_work(folder: Path) -> str:
    """Return what is not seen yet of load and sampler, as the beginning of a sentence; nothing where both work."""
    try:
        load = read(folder / run_folder.LOAD)
    except EvenkeelError:
        return "The load did not start"
    if not load.records:
        return "No request of the load has ended yet"
    try:
        sampled = (folder / run_folder.HAPROXY).stat().st_size > 0
    except OSError:
        sampled = False
    return "" if sampled else "HAProxy's statistics have not been asked for yet"


def stop(folder: Path) -> None:
    """End a run's load and sampler and return once all is written; raises EvenkeelError where that can't be."""
    try:
        number = int((run_folder.existing(folder) / PID).read_text())
        handle = os.pidfd_open(number)
    except (OSError, ValueError):
        raise EvenkeelError(f"Nobody supervises the run in {folder} any more: see {folder / LOG}.") from None
    signal.pidfd_send_signal(handle, signal.SIGTERM)
    if not select.select([handle], [], [], 2 * _END_SECONDS)[0]:
        raise EvenkeelError(f"The run in {folder} does not end: see {folder / LOG}.")


def supervise(folder: Path, call: Mapping[str, Any]) -> int:
    """Be the supervisor of an ansible-playbook, by what the filter ``chaos_call`` said of it; raises EvenkeelError."""
    return Supervisor(run_folder.existing(folder), call).run()
