"""The task that writes a mark of a chaos run."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.errors import AnsibleActionSkip

from chaos_mark import ActionModule
from evenkeel.chaos.record.timeline import Mark, read


def mark(*, check: bool = False, **arguments: object) -> dict[str, Any]:
    """Run the task and return its result."""
    task = SimpleNamespace(action="chaos_mark", args=arguments, async_val=0, check_mode=check, diff=False)
    connection = SimpleNamespace(_shell=SimpleNamespace(tmpdir=None))
    result: dict[str, Any] = ActionModule(task, connection, None, None, None, None).run(task_vars={})
    return result


def test_marks_are_of_now_or_of_the_time_given(tmp_path: Path) -> None:
    before = time.time()
    assert mark(folder=str(tmp_path), name="begin") == {"changed": True}
    # As a template gives it.
    assert mark(folder=str(tmp_path), name="inject", text="It's late.", at="5.25") == {"changed": True}
    late, begin = read(tmp_path)
    assert late == Mark(5.25, "inject", "It's late.")
    assert before <= begin.at <= time.time()


@pytest.mark.parametrize(
    ("folder", "name", "sentence"),
    [
        ("", "injects", "There is no mark 'injects': there are begin, steady, inject,"),
        ("none", "begin", "The folder "),
    ],
)
def test_failure_is_a_result_that_the_task_may_pass_over(tmp_path: Path, folder: str, name: str, sentence: str) -> None:
    result = mark(folder=str(tmp_path / folder), name=name)
    assert result["failed"]
    assert result["msg"].startswith(sentence)


def test_check_mode_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(AnsibleActionSkip):
        mark(check=True, folder=str(tmp_path), name="begin")
    assert not list(tmp_path.iterdir())
