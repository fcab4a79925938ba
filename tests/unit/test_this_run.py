"""The filters that tell which runs have ended."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from this_run import ended_runs, has_ended, this_run


def of(process: subprocess.Popen[bytes]) -> str:
    """Return the name of another process of this machine."""
    boot, namespace, _, _ = this_run("").split(" ")
    start = (Path("/proc") / str(process.pid) / "stat").read_text().rpartition(")")[2].split()[19]
    return f"{boot} {namespace} {process.pid} {start}"


def test_run_that_goes_on_has_not_ended() -> None:
    assert not has_ended(this_run(""))


def test_killed_run_has_ended_whether_waited_for_or_not() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        name = of(process)
        assert not has_ended(name)
        process.kill()
        assert process.stdout
        process.stdout.read()
        Path(f"/proc/{process.pid}/stat").read_text()
        ended = ended_runs([{"token": "a", "process": name}, {"token": "b", "process": this_run("")}])
        process.wait()
        assert ended in (["a"], [])
        assert ended_runs([{"token": "a", "process": name}, {"token": "b", "process": this_run("")}]) == ["a"]


def test_number_that_another_process_has_now_proves_it() -> None:
    boot, namespace, process, start = this_run("").split(" ")
    assert has_ended(f"{boot} {namespace} {process} {int(start) + 1}")


@pytest.mark.parametrize("change", [0, 1])
def test_of_another_machine_or_container_nothing_is_known(change: int) -> None:
    words = this_run("").split(" ")
    words[2] = "4194305"
    assert has_ended(" ".join(words))
    words[change] = "another"
    assert not has_ended(" ".join(words))


@pytest.mark.parametrize("text", ["", "x", "a b c d", "1 2 3 4 5"])
def test_unreadable_names_prove_nothing(text: str) -> None:
    assert not has_ended(text)
    assert ended_runs([{"token": "a", "process": text}, {"token": ""}, {}]) == []


def test_workers_name_the_playbook_that_forked_them() -> None:
    code = "import os, sys; sys.path.insert(0, 'plugins/filter'); from this_run import this_run\n"
    code += "print(os.getpid(), flush=True)\nif os.fork() == 0:\n print(this_run(''))\nelse: os.wait()"
    project = Path(__file__).resolve().parents[2]
    said = subprocess.run([sys.executable, "-c", code], check=True, cwd=project, capture_output=True, text=True).stdout
    first, second = said.splitlines()
    assert second.split(" ")[2] == first
