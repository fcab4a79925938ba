"""What teardown.yml takes away: what is ours by mark, place or label, whatever else lies beside it."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import ours
from ours import ARGUMENTS, NOTE, Host, OursError, alone, matching, parse_containers, parse_units, run

MARKS = ["^# Written by evenkeel"]
OURS = "# Ansible managed\n# Written by evenkeel, role web.\nx = 1\n"


class FakeHost(Host):
    """A host whose commands are noted; it answers what the test gives by a command's first two words."""

    def __init__(self, said: dict[str, str] | None = None, engine: bool = True, lie: bool = False) -> None:
        """Take the answers, and whether an engine runs and has containers."""
        self.said, self.engine, self.lie = said or {}, engine, lie
        self.ran: list[str] = []

    def run(self, *command: str) -> tuple[int, str]:  # type: ignore[override]
        """Note a command and answer it."""
        self.ran.append(" ".join(command))
        return 0, self.said.get(" ".join(command[:2]), "")

    def engine_runs(self) -> bool:
        """Say what was given."""
        return self.engine

    def containers_lie(self) -> bool:
        """Say what was given."""
        return self.lie

    def installed(self, names: Sequence[str]) -> list[str]:
        """Return all but one."""
        return [name for name in names if name != "missing"]

    @property
    def changes(self) -> list[str]:
        """Return the commands that change something."""
        asking = ("systemctl show", "docker ps", "systemctl is-active")
        return [command for command in self.ran if not command.startswith(asking)]


def remove(host: Host | None = None, check_mode: bool = False, **parameters: Any) -> dict[str, Any]:
    """Run the module."""
    defaults = {name: option.get("default", []) for name, option in ARGUMENTS.items()}
    return run({**defaults, **parameters}, check_mode, host or FakeHost())


def tree(folder: Path) -> list[str]:
    """Return all that is in a folder."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.fixture
def units(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of units."""
    folder = tmp_path / "system"
    folder.mkdir()
    monkeypatch.setattr(ours, "_UNITS", folder)
    return folder


def test_marked_files_go_and_others_stay(tmp_path: Path) -> None:
    (tmp_path / "web.cfg").write_text(OURS)
    (tmp_path / "other.cfg").write_text("x = 2\n")
    (tmp_path / "backend_a.cfg").write_text(OURS)
    (tmp_path / "backend_b.cfg").write_text("theirs\n")
    names = ("web.cfg", "other.cfg", "backend_*.cfg", "missing.cfg")
    given: dict[str, Any] = {
        "files": [{"path": str(tmp_path / name), "marks": MARKS} for name in names],
        "folders": [str(tmp_path)],
    }
    before = tree(tmp_path)
    checked = remove(check_mode=True, **given)
    assert tree(tmp_path) == before
    result = remove(**given)
    assert tree(tmp_path) == ["backend_b.cfg", "other.cfg"]
    assert result["removed"] == [str(tmp_path / "web.cfg"), str(tmp_path / "backend_a.cfg")]
    # Check mode tells the truth; what merely fits a pattern is not worth a word.
    assert (checked["changed"], checked["removed"]) == (True, result["removed"])
    assert result["left"]["foreign"] == [str(tmp_path / "other.cfg")]
    again = remove(**given)
    assert (again["changed"], again["removed"]) == (False, [])


def test_folder_goes_once_it_is_empty_in_check_mode_too(tmp_path: Path) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    (inner / "web.cfg").write_text(OURS)
    folders = [str(inner), str(inner.parent)]
    given: dict[str, Any] = {"files": [{"path": str(inner / "web.cfg"), "marks": MARKS}], "folders": folders}
    assert remove(check_mode=True, **given)["removed"] == [str(inner / "web.cfg"), *folders]
    (inner.parent / "theirs").write_text("")
    assert remove(**given)["removed"] == [str(inner / "web.cfg"), str(inner)]
    assert tree(tmp_path) == ["a", "a/theirs"]


def test_unmarked_files_go_where_ours_is_there(tmp_path: Path) -> None:
    rule, sign = tmp_path / "rule.yml", tmp_path / "sign"
    rule.write_text("theirs, copied by us\n")
    given: dict[str, Any] = {"uses": [{"paths": [str(rule)], "ours": str(sign)}]}
    assert remove(**given)["changed"] is False
    sign.write_text("")
    assert remove(**given)["removed"] == [str(rule)]


def test_links_go_only_where_they_lead_to_ours(tmp_path: Path) -> None:
    root = tmp_path / "opt"
    root.mkdir()
    (tmp_path / "web").symlink_to(root / "current" / "web")
    (root / "current").symlink_to("1.0")
    (tmp_path / "other").symlink_to("/usr/bin/true")
    (tmp_path / "program").write_text("")
    paths = [str(tmp_path / name) for name in ("web", "other", "program")] + [str(root / "current")]
    result = remove(links=[{"paths": paths, "into": str(root)}])
    assert result["removed"] == [str(tmp_path / "web"), str(root / "current")]


def test_version_is_ours_by_its_marker_which_goes_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("1.0", "theirs"):
        (tmp_path / name / "bin").mkdir(parents=True)
        (tmp_path / name / "web").write_text("")
    (tmp_path / "1.0" / ".sha256").write_text("x")
    given: dict[str, Any] = {"trees": [{"path": f"{tmp_path}/*", "mark": ".sha256"}]}

    def killed(*_: Any) -> None:
        raise OSError("killed")

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", killed)
        with pytest.raises(OSError, match="killed"):
            remove(**given)
    # The next run still knows whose it is.
    assert (tmp_path / "1.0" / ".sha256").exists()
    assert remove(**given)["removed"] == [str(tmp_path / "1.0")]
    assert tree(tmp_path) == ["theirs", "theirs/bin", "theirs/web"]


SHOWN = (
    "Id=web.socket\nLoadState=loaded\nActiveState=active\nUnitFileState=enabled\n\n"
    "Id=web.service\nLoadState=loaded\nActiveState=inactive\nUnitFileState=disabled\n\n"
    "Id=gone.service\nLoadState=not-found\nActiveState=inactive\nUnitFileState=\n\n"
    "Id=own.service\nLoadState=loaded\nActiveState=failed\nUnitFileState=enabled\n"
)


def test_units_are_stopped_before_their_files_go(units: Path) -> None:
    (units / "own.service").write_text(OURS)
    host = FakeHost({"systemctl show": SHOWN})
    given: dict[str, Any] = {
        "units": ["web.socket", "web.service", "gone.service"],
        "files": [{"path": str(units / "own.service"), "marks": MARKS}],
    }
    assert remove(host, check_mode=True, **given)["changed"] is True
    assert host.changes == []
    remove(host, **given)
    assert host.changes == [
        "systemctl stop web.socket",
        "systemctl disable web.socket own.service",
        "systemctl reset-failed own.service",
        "systemctl daemon-reload",
    ]
    assert tree(units) == []
    # What somebody else sets up afterwards is none of ours.
    host.ran.clear()
    assert remove(host, **given)["changed"] is False
    assert host.changes == []


def test_units_of_others_stay(units: Path) -> None:
    (units / "own.service").write_text("[Unit]\n")
    host = FakeHost({"systemctl show": SHOWN})
    remove(host, units=["web.socket"], files=[{"path": str(units / "own.service"), "marks": MARKS}])
    assert host.changes == []


def test_reload_that_a_killed_run_owes_is_done(units: Path) -> None:
    drop_in = {"path": str(units / "docker.service.d" / "evenkeel.conf"), "marks": MARKS}
    host = FakeHost({"systemctl show": "Id=docker.service\nNeedDaemonReload=yes\n"})
    assert remove(host, files=[drop_in])["changed"] is True
    assert host.changes == ["systemctl daemon-reload"]


def test_data_stays_with_a_note_and_goes_when_said(tmp_path: Path) -> None:
    data, settings = tmp_path / "data", tmp_path / "web.cfg"
    (data / "wal").mkdir(parents=True)
    files = [{"path": str(settings), "marks": MARKS}]

    def given(remove: bool, keep: bool = False) -> dict[str, Any]:
        return {"files": files, "data": [{"path": str(data), "remove": remove, "keep": keep}]}

    # Without anything of ours beside it, it is somebody else's.
    assert remove(**given(True))["changed"] is False
    settings.write_text(OURS)
    assert remove(check_mode=True, **given(False))["left"]["data"] == [str(data)]
    assert tree(data) == ["wal"]
    assert remove(**given(False))["left"]["data"] == [str(data)]
    assert tree(data) == [NOTE, "wal"]
    again = remove(**given(False))
    assert (again["changed"], again["left"]["data"]) == (False, [str(data)])
    # By the note, later runs know it.
    assert remove(check_mode=True, **given(True))["removed"] == [str(data)]
    assert remove(**given(True, keep=True))["removed"] == [f"{data}/*"]
    assert (data.is_dir(), tree(data)) == (True, [])
    assert remove(**given(True))["changed"] is False


def test_containers_are_told_by_their_label_and_keep_their_volumes() -> None:
    listed = "backend_shop\tshop:1\tshop\nbackend_app\tevenkeel.local/backend_app:1\t\nbackend_x\tx:1\t\n"
    host = FakeHost({"docker ps": listed})
    wanted = {"label": "evenkeel.service", "value": "", "image": "evenkeel.local/backend_app:"}
    assert remove(host, check_mode=True, containers=[wanted])["removed"] == [
        "container backend_app",
        "container backend_shop",
    ]
    assert host.changes == []
    remove(host, containers=[wanted])
    assert host.changes == [
        f"docker {word} {name}" for name in ("backend_app", "backend_shop") for word in ("stop", "rm --force")
    ]
    assert parse_containers("a\tx\tother\nb\tx\tpushgateway\n", wanted | {"value": "pushgateway", "image": ""}) == ["b"]


def test_engine_that_does_not_run_is_named_where_containers_may_be_left() -> None:
    wanted = [{"label": "evenkeel.service", "value": "", "image": ""}]
    assert remove(FakeHost(engine=False), containers=wanted)["changed"] is False
    with pytest.raises(OursError, match=r"start it \(systemctl start docker\)"):
        remove(FakeHost(engine=False, lie=True), containers=wanted)


def test_what_stays_is_looked_for(tmp_path: Path) -> None:
    (tmp_path / "web.cfg.before-evenkeel").write_text("theirs")
    files = [{"path": str(tmp_path / "web.cfg"), "marks": MARKS}]
    left = remove(files=files, packages=["web", "missing"])["left"]
    assert left == {"packages": ["web"], "data": [], "copies": [f"{tmp_path}/web.cfg.before-evenkeel"], "foreign": []}


def test_two_never_work_at_once(tmp_path: Path) -> None:
    handle = os.open(tmp_path, os.O_RDONLY)
    with alone(tmp_path), pytest.raises(BlockingIOError):
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(handle)


def test_command_that_fails_is_told() -> None:
    with pytest.raises(OursError, match="`false` failed: exit code 1"):
        Host().do("false")
    code, said = Host.run("no-such-command-here")
    assert code == 127
    assert "no-such-command-here" in said


@pytest.mark.parametrize("command", [["sleep", "600"], ["env", "--ignore-signal=TERM", "sleep", "600"]])
def test_command_that_takes_too_long_is_told(command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ours, "_COMMAND_SECONDS", 0.5)
    words = " ".join(command)
    with pytest.raises(OursError, match=rf"^`{words}` failed: {words} took more than 0\.5 s\.$"):
        Host().do(*command)


def test_answers_are_read(tmp_path: Path) -> None:
    assert set(parse_units(SHOWN)) == {"web.socket", "web.service", "gone.service", "own.service"}
    (tmp_path / "link").symlink_to("nowhere")
    assert matching(str(tmp_path / "link")) == [tmp_path / "link"]
    assert matching(str(tmp_path / "l*")) == [tmp_path / "link"]
