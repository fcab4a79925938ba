"""The lock against two deploys at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from deploy_lock import HeldError, read, run


def lock(path: Path, token: str, check_mode: bool = False, **parameters: Any) -> dict[str, Any]:
    """Run the module."""
    defaults = {"path": str(path), "token": token, "state": "present", "holder": f"{token}@here", "since": "noon"}
    return run({**defaults, "process": "", "gone": [], "break_held": False, **parameters}, check_mode)


def test_second_run_is_told_who_holds_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert lock(path, "a") == {"changed": True}
    with pytest.raises(HeldError, match=r"^a@here since noon$"):
        lock(path, "b")
    assert lock(path, "a") == {"changed": False}
    assert [entry.name for entry in tmp_path.iterdir()] == ["lock"], "drafts are left"


def test_only_its_holder_releases_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    lock(path, "a")
    assert lock(path, "b", state="absent") == {"changed": False}
    assert read(path)
    assert lock(path, "a", state="absent") == {"changed": True}
    assert read(path) is None
    assert lock(path, "a", state="absent") == {"changed": False}


def test_broken_lock_has_a_new_holder(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    lock(path, "a")
    assert lock(path, "b", break_held=True) == {"changed": True, "held_by": "a@here since noon"}
    # The run whose lock was broken leaves the new one alone.
    assert lock(path, "a", state="absent") == {"changed": False}


def test_check_mode_takes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert lock(path, "a", check_mode=True) == {"changed": True}
    assert read(path) is None
    lock(path, "b")
    with pytest.raises(HeldError):
        lock(path, "a", check_mode=True)


def test_whatever_lies_there_is_a_lock(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.write_text("by hand")
    with pytest.raises(HeldError, match=r"^somebody unknown since an unknown time$"):
        lock(path, "a")


def test_query_says_who_holds_it_and_takes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert lock(path, "", state="query") == {"changed": False, "held": {}}
    lock(path, "a", process="this one")
    held = {"token": "a", "holder": "a@here", "since": "noon", "process": "this one"}
    assert lock(path, "", state="query")["held"] == held
    path.write_text("by hand")
    assert lock(path, "", state="query")["held"] == {"token": ""}


def test_lock_of_a_run_that_has_ended_is_taken_over_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    lock(path, "a")
    with pytest.raises(HeldError):
        lock(path, "b", gone=["c"])
    assert lock(path, "b", gone=["a"], check_mode=True) == {"changed": True}
    assert lock(path, "b", gone=["a"]) == {"changed": True, "held_by": "a@here since noon"}


def test_lock_has_one_path() -> None:
    project = Path(__file__).resolve().parents[2]
    folders = ("roles", "playbooks", "plugins", "group_vars")
    files = [path for folder in folders for path in (project / folder).rglob("*")]
    texts = {path: path.read_text() for path in files if path.suffix in {".yml", ".py", ".j2"}}
    # Two paths would be two locks: whoever takes one uses the module's default.
    naming = [path.name for path, text in texts.items() if "evenkeel-deploy.lock" in text]
    assert naming == ["deploy_lock.py"]
