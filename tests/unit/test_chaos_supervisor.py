"""What stays with a run, started by a stand-in for ansible-playbook and against a small server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from chaos_runs import Made
from evenkeel.chaos.record import run_folder, timeline
from evenkeel.chaos.run.supervisor import load_command, not_at_work
from evenkeel.load.records import Writer, read
from evenkeel.load.settings import Settings, parse_mix

SRC = Path(__file__).resolve().parents[2] / "src"
CSV = "# pxname,svname,status\napp,one,UP\napp,BACKEND,UP\n"
# As chaos.yml it starts the supervisor and waits; as chaos_undo.yml it leaves a word.
PLAYBOOK = """
import json, os, pathlib, subprocess, sys, time
folder = pathlib.Path(sys.argv[2])
if sys.argv[1].endswith("chaos_undo.yml"):
    (folder / "undone").write_text(" ".join(sys.argv[1:]))
    sys.exit((folder / "unwilling").exists())
command = [sys.executable, sys.argv[0], "chaos_undo.yml", *sys.argv[2:]]
call = {"pid": os.getpid(), "directory": os.getcwd(), "command": command, **json.loads(os.environ.get("CALL", "{}"))}
call = json.dumps(call)
done = subprocess.run([sys.executable, "-m", "evenkeel.chaos", "start", str(folder)], input=call, text=True)
(folder / "started").write_text(str(done.returncode))
time.sleep(60)
"""


class Site(BaseHTTPRequestHandler):
    """Site and balancer in one."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer as the balancer's statistics, or as the site."""
        content = (CSV if self.path.startswith("/stats") else "ok").encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def site() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


@pytest.fixture
def folder(tmp_path: Path, site: str) -> Path:
    values = {
        "url": site,
        "rate": 20.0,
        "mix": "GET /=1",
        "timeout": 60.0,
        "max_lateness": 30.0,
        "limit": 50.0,
        "prometheus": "",
    }
    (tmp_path / "run.json").write_text(json.dumps({**values, "haproxy": {"lb": site}}))
    return tmp_path


@pytest.fixture
def playbook(folder: Path, request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[bytes]]:
    """Return what has started a supervisor; its call is changed by the parameter, if there is one."""
    program = folder / "ansible-playbook"
    program.write_text(PLAYBOOK)
    with (folder / "screen").open("wb") as screen:
        process = subprocess.Popen(
            [sys.executable, str(program), "./chaos.yml", str(folder)],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(SRC), "CALL": json.dumps(getattr(request, "param", {}))},
            stderr=screen,
        )
    yield process
    process.kill()
    process.wait()


def has_ended(folder: Path) -> bool:
    number = (folder / "supervisor.pid").read_text().strip()
    return not Path(f"/proc/{number}").exists()


def test_run_is_supervised_to_its_end(folder: Path, playbook: subprocess.Popen[bytes]) -> None:
    wait_until((folder / "started").exists, "the supervisor starts")
    assert (folder / "started").read_text() == "0"
    wait_until(lambda: len(read(folder / "load.jsonl.gz").records) > 20, "the load runs")
    stop = [sys.executable, "-m", "evenkeel.chaos", "stop", str(folder)]
    subprocess.run(stop, check=True, env={**os.environ, "PYTHONPATH": str(SRC)}, timeout=60)
    assert read(folder / "load.jsonl.gz").end
    assert [mark.name for mark in timeline.read(folder)] == ["end"]
    assert json.loads((folder / "haproxy.jsonl").read_text().splitlines()[0])["servers"]["one"]["status"] == "UP"
    assert not (folder / "undone").exists()
    assert playbook.poll() is None


def children(folder: Path) -> list[int]:
    """Return the processes that the supervisor has started."""
    number = (folder / "supervisor.pid").read_text().strip()
    return [int(text) for text in Path(f"/proc/{number}/task/{number}/children").read_text().split()]


def is_zombie(number: int) -> bool:
    return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


# Not SIGINT, which is ignored in whatever a shell has started in the background.
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_fault_is_undone_where_the_playbook_dies(
    folder: Path, playbook: subprocess.Popen[bytes], how: signal.Signals
) -> None:
    wait_until((folder / "started").exists, "the supervisor starts")
    playbook.send_signal(how)
    wait_until(lambda: has_ended(folder), "the supervisor ends")
    # By the call that the playbook gave.
    assert (folder / "undone").read_text() == f"chaos_undo.yml {folder} -e chaos_run={folder}"
    assert [mark.name for mark in timeline.read(folder)] == ["note", "undone", "end"]
    assert read(folder / "load.jsonl.gz").end
    assert "chaos: The fault is undone." in (folder / "screen").read_text()


def test_somebody_stays_where_the_load_has_ended(folder: Path, playbook: subprocess.Popen[bytes]) -> None:
    wait_until((folder / "started").exists, "the supervisor starts")
    (load,) = (
        number for number in children(folder) if b"evenkeel.load" in Path(f"/proc/{number}/cmdline").read_bytes()
    )
    os.kill(load, signal.SIGKILL)
    wait_until(lambda: load not in children(folder) or is_zombie(load), "the load has ended")
    playbook.kill()
    wait_until(lambda: has_ended(folder), "the supervisor ends")
    assert (folder / "undone").exists()


def test_undoing_that_fails_is_said(folder: Path, playbook: subprocess.Popen[bytes]) -> None:
    (folder / "unwilling").touch()
    wait_until((folder / "started").exists, "the supervisor starts")
    playbook.kill()
    wait_until(lambda: has_ended(folder), "the supervisor ends")
    assert "undone" not in [mark.name for mark in timeline.read(folder)]
    assert "the hosts' own timers will undo it." in (folder / "screen").read_text()


@pytest.mark.parametrize(
    ("playbook", "sentence"),
    [
        ({"command": []}, "was not started as chaos.yml: the hosts' own timers undo it."),
        ({"command": [], "advice": "Nobody undoes it."}, "Nobody undoes it."),
    ],
    indirect=["playbook"],
)
def test_without_a_command_it_says_who_undoes_the_fault(
    folder: Path, playbook: subprocess.Popen[bytes], sentence: str
) -> None:
    wait_until((folder / "started").exists, "the supervisor starts")
    playbook.kill()
    wait_until(lambda: has_ended(folder), "the supervisor ends")
    said = (folder / "screen").read_text()
    assert sentence in said
    assert "undoing the fault" not in said
    (note,) = (mark.text for mark in timeline.read(folder) if mark.name == "note")
    assert note.endswith(sentence)
    assert not (folder / "undone").exists()


def test_load_that_can_not_start_is_one_sentence(folder: Path, playbook: subprocess.Popen[bytes]) -> None:
    playbook.kill()
    values = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**values, "rate": -1}))
    again = subprocess.Popen(
        [sys.executable, str(folder / "ansible-playbook"), "./chaos.yml", str(folder)],
        env={**os.environ, "PYTHONPATH": str(SRC)},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_until((folder / "started").exists, "the supervisor gives up")
        assert (folder / "started").read_text() == "2"
    finally:
        again.kill()
        _, said = again.communicate()
    assert "chaos: The load did not start: load: --rate must be a number above 0, not -1." in said


def test_only_what_was_not_seen_is_said(tmp_path: Path) -> None:
    load = tmp_path / run_folder.LOAD
    assert not_at_work(tmp_path) == "The load did not start"
    # A site that hangs: every request runs yet.
    Writer(load, 0, Settings("http://127.0.0.1", parse_mix(["GET /=1"]), rate=1))
    assert not_at_work(tmp_path) == "No request of the load has ended yet"
    Made().write(tmp_path)
    assert not_at_work(tmp_path) == ""
    (tmp_path / run_folder.HAPROXY).unlink()
    assert not_at_work(tmp_path) == "HAProxy's statistics have not been asked for yet"


def test_nobody_else_may_start_one(folder: Path) -> None:
    command = [sys.executable, "-m", "evenkeel.chaos", "start", str(folder)]
    done = subprocess.run(
        command, input="", text=True, capture_output=True, check=False, env={**os.environ, "PYTHONPATH": str(SRC)}
    )
    assert done.returncode == 2
    assert "Stdin must hold the playbook's call as a JSON object, which the role chaos gives." in done.stderr


@pytest.mark.parametrize(("said", "wanted"), [({}, False), ({"verify": True}, False), ({"verify": False}, True)])
def test_load_takes_any_certificate_only_where_the_run_says_so(said: dict[str, bool], wanted: bool) -> None:
    values = {"url": "https://x", "mix": "GET /=1", "rate": 1, "timeout": 1, "max_lateness": 1, "limit": 1, **said}
    assert ("--no-verify" in load_command(Path("x"), values)) is wanted
