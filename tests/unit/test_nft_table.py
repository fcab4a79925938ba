"""The module that loads an nftables table on trial: what it does in which order, and when it keeps it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import nft_table
from nft_table import UNDO, Host, TableError, parse_routes, parse_socket, parse_sshd, run, session_of

OLD, NEW = "192.0.2.9 50000 192.0.2.1 22", "192.0.2.9 50001 192.0.2.1 22"


class FakeHost(Host):
    """A host whose kernel has one table, or none; notes what changes it."""

    def __init__(self, live: str = "", timer: bool = False, fails: str = "") -> None:
        """Begin with a table, a timer, and a command that will fail."""
        self.live = live
        self.timer = timer
        self.fails = fails
        self.said: list[str] = []
        self.now = OLD

    def session(self) -> str:  # type: ignore[override]
        """Return who asks."""
        return self.now

    def run(self, *command: str) -> tuple[int, str]:  # type: ignore[override]
        """Do what the command would do."""
        line = " ".join(command)
        if self.fails and line.startswith(self.fails):
            return 1, "no"
        if command[:3] == ("systemctl", "is-active", "--quiet"):
            return (0 if self.timer else 3), ""
        if line == "nft list tables":
            return 0, "table ip nat\ntable inet evenkeel\n" if self.live else "table ip nat\n"
        if line.startswith("nft --stateless"):
            return 0, self.live
        if command[0] == "unshare":
            # As the kernel would show the file.
            return 0, Path(command[-1].split()[2]).read_text()
        self._change(command)
        return 0, ""

    def _change(self, command: tuple[str, ...]) -> None:
        self.said.append(" ".join(command[:2]))
        if command[:2] == ("nft", "--file"):
            assert self.timer, "rules on trial without a timer"
            self.live = Path(command[2]).read_text()
        elif command[:2] == ("nft", "delete"):
            self.live = ""
        elif command[0] == "systemd-run":
            self.timer = True
        elif command == ("systemctl", "stop", f"{UNDO}.timer"):
            self.timer = False
        elif command == ("systemctl", "start", f"{UNDO}.service"):
            self.live = "former"


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Any]:
    """Return the module's parameters, with new rules that were never kept."""
    (tmp_path / "rules").write_text("new")
    names = {"rules": str(tmp_path / "rules"), "kept": str(tmp_path / "kept")}
    return {"table": "inet evenkeel", "seconds": 90, "session": "", **names}


def call(host: FakeHost, files: dict[str, Any], state: str, *, check: bool = False, **more: Any) -> dict[str, Any]:
    return run({**files, "state": state, **more}, check, host)


def test_rules_are_tried_and_then_kept_by_who_came_in_anew(files: dict[str, Any]) -> None:
    host = FakeHost("former")
    assert call(host, files, "tried") == {"changed": True, "session": OLD}
    assert (host.live, host.timer, Path(files["kept"]).exists()) == ("new", True, False)
    host.now = NEW
    assert call(host, files, "kept", session=OLD)["changed"] is True
    assert (host.timer, Path(files["kept"]).read_text()) == (False, "new")
    host.said.clear()
    assert call(host, files, "tried")["changed"] is False
    assert host.said == []


@pytest.mark.parametrize("session", [OLD, ""])
def test_session_that_was_there_before_keeps_nothing(files: dict[str, Any], session: str) -> None:
    host = FakeHost()
    call(host, files, "tried")
    host.now = session
    with pytest.raises(TableError, match="came over the one that was there before"):
        call(host, files, "kept", session=OLD)
    assert (host.timer, Path(files["kept"]).exists()) == (True, False)


@pytest.mark.parametrize(("live", "timer"), [("former", False), ("former", True), ("new", False)])
def test_rules_that_were_taken_back_are_not_kept(files: dict[str, Any], live: str, timer: bool) -> None:
    host = FakeHost(live, timer)
    host.now = NEW
    with pytest.raises(TableError, match="not in force any more: it took more than 90 s"):
        call(host, files, "kept", session=OLD)
    assert not Path(files["kept"]).exists()


@pytest.mark.parametrize("live", ["", "emptied"])
def test_table_that_somebody_changed_is_loaded_again(files: dict[str, Any], live: str) -> None:
    Path(files["kept"]).write_text("new")
    host = FakeHost(live)
    assert call(host, files, "tried", check=True)["changed"] is True
    assert (host.live, host.said) == (live, [])
    assert call(host, files, "tried")["changed"] is True
    assert host.live == "new"


def test_what_a_killed_run_has_on_trial_is_taken_back_first(files: dict[str, Any]) -> None:
    host = FakeHost("of a killed run", timer=True)
    call(host, files, "tried")
    assert host.said == ["systemctl start", "systemctl stop", "systemd-run --quiet", "nft --file"]
    assert (host.live, host.timer) == ("new", True)


def test_rules_that_the_kernel_refuses_leave_the_former_ones(files: dict[str, Any]) -> None:
    host = FakeHost("former", fails="nft --file")
    with pytest.raises(TableError, match=r"`nft --file \S+` failed: no"):
        call(host, files, "tried")
    assert (host.live, host.timer) == ("former", False)


def test_table_and_timer_go(files: dict[str, Any]) -> None:
    host = FakeHost("new", timer=True)
    assert call(host, files, "absent", check=True)["changed"] is True
    assert (host.live, host.timer) == ("new", True)
    assert call(host, files, "absent")["changed"] is True
    assert (host.live, host.timer) == ("", False)
    assert call(host, files, "absent")["changed"] is False
    assert call(host, files, "undone")["changed"] is False


def test_session_is_found_behind_sudo(tmp_path: Path) -> None:
    processes = {
        7: (6, b"A=1\0"),
        6: (5, b"SSH_CONNECTION=" + OLD.encode() + b"\0B=2\0"),
        5: (1, b"SSH_CONNECTION=x\0"),
    }
    for pid, (parent, environ) in processes.items():
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "environ").write_bytes(environ)
        (tmp_path / str(pid) / "status").write_text(f"Name:\tsh\nPPid:\t{parent}\n")
    assert session_of(7, tmp_path) == OLD
    (tmp_path / "6" / "environ").write_bytes(b"")
    (tmp_path / "5" / "environ").write_bytes(b"")
    assert session_of(7, tmp_path) == session_of(99, tmp_path) == ""


def test_ports_of_ssh_are_those_of_sshd_its_socket_and_this_session() -> None:
    assert parse_sshd("port 22\nport 2222\nlistenaddress [::]:22\nlistenaddress 10.0.0.1:2022\n") == {22, 2222, 2022}
    assert parse_sshd("sshd: no hostkeys available -- exiting.\n") == set()
    assert parse_socket("Listen=0.0.0.0:22 (Stream)\nListen=[::]:2200 (Stream)\nListen=/run/x (Stream)\n") == {22, 2200}
    assert parse_socket("Listen=\n") == set()

    class Asked(FakeHost):
        def run(self, *command: str) -> tuple[int, str]:  # type: ignore[override]
            return 0, {"sshd": "port 2222\n", "systemctl": "Listen=[::]:2200 (Stream)\n"}[command[0]]

    assert Asked().ssh_ports() == [22, 2200, 2222]


@pytest.mark.parametrize(
    ("command", "why"), [("no-such-command", "there is no no-such-command"), ("sleep", "sleep took more than 0.01 s")]
)
def test_command_that_cannot_answer_is_told(command: str, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nft_table, "_COMMAND_SECONDS", 0.01)
    with pytest.raises(TableError, match=f"^`{command} 600` failed: {why}\\.$"):
        Host().do(command, "600")


def test_interfaces_to_the_world_are_those_of_the_default_routes() -> None:
    head = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
    rows = "eth0\t00000000\t0197D50A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
    rows += "br-1\t0000A8C0\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n"
    assert parse_routes(head + rows) == {"eth0"}
    zero = "0" * 32
    row = f"{zero} 00 {zero} 00 {zero} {{}} 00000001 00000000 00000003 {{}}\n"
    assert parse_routes(row.format("00000400", "ens3") + row.format("ffffffff", "lo")) == {"ens3"}
