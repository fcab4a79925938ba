"""The module that drains and readies servers, against a HAProxy that is a few lines of text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from haproxy_server import HaproxyError, Runtime, Server, parse_servers, parse_states, refusal, run

HEADER = "# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_port"
COLUMNS = "# pxname,svname,qcur,scur,status,check_status,check_code,check_duration,"


class Fake(Runtime):
    """A HAProxy whose servers come UP, or lose their sessions, after some looks."""

    def __init__(self, looks: int = 0, **servers: dict[str, Any]) -> None:
        """Hold servers; after ``looks`` looks they are UP and without sessions."""
        super().__init__("/nowhere")
        shown = {"status": "UP", "bits": 0, "sessions": 0, "port": 80, "code": 200}
        self.held = {name: shown | held for name, held in servers.items()}
        self.looks = looks
        self.orders: list[str] = []
        self.uptime = 7.0

    def ask(self, command: str) -> str:
        """Answer as HAProxy does."""
        if command.startswith("set server"):
            self.orders.append(command)
            name, order, value = command.split("/")[1].split(" ", 2)
            if order == "addr":
                self.held[name]["port"] = int(value.split(" port ")[1])
                return "port changed from '80' to '81' by 'stats socket command'\n"
            state = value
            self.held[name]["bits"] = {"ready": 0, "drain": 8, "maint": 1}[state]
            return "\n"
        if command == "show info":
            return f"Name: HAProxy\nUptime: 0d 0h00m07s\nUptime_sec: {self.uptime}\n"
        if command == "show stat":
            self.looks -= 1
            if self.looks == 0:
                for held in self.held.values():
                    held.update(sessions=0, status="UP")
            rows = [
                f"app,{name},0,{held['sessions']},{held['status']},L7OK,{held['code']},2,"
                for name, held in self.held.items()
            ]
            return "\n".join([COLUMNS, "site,FRONTEND,,3,OPEN,,,,", *rows, "app,BACKEND,0,0,UP,,,,", ""])
        if command not in {"show servers state app", "show servers state"}:
            return "Can't find backend.\n"
        rows = [f"3 app 1 {name} 192.0.2.1 2 {held['bits']} 1 {held['port']}" for name, held in self.held.items()]
        return "\n".join(["1", HEADER, *rows, ""])


def ask(runtime: Runtime, check_mode: bool = False, **parameters: Any) -> dict[str, Any]:
    """Run the module with its defaults."""
    defaults = {"name": "one", "backend": "app", "socket": "/nowhere", "state": None, "wait": 5, "keep_up": 0}
    more = {
        "required": False,
        "roll_out": False,
        "notes": "/nowhere",
        "address": None,
        "port": None,
        "up": {},
        "settled": 0,
    }
    return run({**defaults, **more, **parameters}, check_mode, runtime)


@pytest.mark.parametrize(
    ("bits", "admin"), [(0, "ready"), (1, "maint"), (4, "ready"), (5, "maint"), (8, "drain"), (9, "maint")]
)
def test_orders_are_read_from_the_admin_bits(bits: int, admin: str) -> None:
    assert parse_states(f"1\n{HEADER}\n3 app 1 one 192.0.2.1 2 {bits} 1 80\n") == {"one": (admin, "192.0.2.1:80")}


def test_address_of_ipv6_is_in_brackets() -> None:
    assert parse_states(f"1\n{HEADER}\n3 app 1 one 2001:db8::1 2 0 1 80\n") == {"one": ("ready", "[2001:db8::1]:80")}


def test_servers_are_read_from_both_answers() -> None:
    runtime = Fake(one={"sessions": 2}, two={"status": "DOWN", "bits": 8})
    assert parse_servers(runtime.ask("show stat"), runtime.ask("show servers state app"), "app") == [
        Server("one", "UP", "ready", 2, 0, "L7OK 200 in 2 ms", "192.0.2.1:80", "app", True),
        Server("two", "DOWN", "drain", 0, 0, "L7OK 200 in 2 ms", "192.0.2.1:80", "app", True),
    ]


def test_unreadable_answer_is_a_sentence() -> None:
    with pytest.raises(HaproxyError, match=r"^HAProxy says about its servers: Permission denied$"):
        parse_states("Permission denied\n")


def test_drain_waits_for_the_last_session() -> None:
    runtime = Fake(looks=3, one={"sessions": 2}, two={})
    result = ask(runtime, state="drain")
    assert (result["changed"], result["reached"], result["server"]["sessions"]) == (True, True, 0)
    assert runtime.orders == ["set server app/one state drain"]


def test_drain_that_does_not_empty_is_reported() -> None:
    result = ask(Fake(one={"sessions": 2}), state="drain", wait=0.01)
    assert (result["changed"], result["reached"], result["server"]["sessions"]) == (True, False, 2)


def test_ready_waits_until_the_server_is_up() -> None:
    result = ask(Fake(looks=3, one={"status": "DOWN 1/2", "bits": 8}), state="ready")
    assert (result["changed"], result["reached"], result["server"]["status"]) == (True, True, "UP")


def test_ready_that_never_comes_up_is_one_sentence() -> None:
    sentence = r"^one of backend app is DOWN \(ready\), not UP, after 0\.01 s: its last check says L7OK 200 in 2 ms\.$"
    with pytest.raises(HaproxyError, match=sentence):
        ask(Fake(one={"status": "DOWN", "bits": 8}), state="ready", wait=0.01)


@pytest.mark.parametrize(("state", "bits"), [("ready", 0), ("drain", 8), ("maint", 1)])
def test_second_run_orders_nothing(state: str, bits: int) -> None:
    runtime = Fake(one={"bits": bits})
    assert ask(runtime, state=state)["changed"] is False
    assert runtime.orders == []


def test_check_mode_orders_nothing_and_says_so() -> None:
    runtime = Fake(one={})
    assert ask(runtime, check_mode=True, state="drain")["changed"] is True
    assert runtime.orders == []


def test_report_without_a_name_lists_all() -> None:
    result = ask(Fake(one={}, two={}), name=None)
    assert result["known"]
    assert [server["name"] for server in result["servers"]] == ["one", "two"]


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({"name": "three"}, "HAProxy has no server three in its backend app."),
        ({"backend": "other"}, "HAProxy has no server one in its backend other."),
    ],
)
def test_unknown_server_is_no_failure_unless_required(parameters: dict[str, Any], sentence: str) -> None:
    result = ask(Fake(one={}), state="drain", **parameters)
    assert (result["known"], result["changed"]) == (False, False)
    with pytest.raises(HaproxyError) as raised:
        ask(Fake(one={}), state="drain", required=True, **parameters)
    assert str(raised.value) == sentence


def test_no_socket_is_no_failure_unless_required() -> None:
    runtime = Runtime("/nowhere/admin.sock")
    assert ask(runtime, state="drain") == {
        "changed": False,
        "known": False,
        "reached": False,
        "servers": [],
        "noted": [],
        "down": {},
    }
    with pytest.raises(HaproxyError, match=r"^No HAProxy answers at /nowhere: No such file or directory\.$"):
        ask(runtime, state="drain", required=True)


def test_last_up_server_is_kept() -> None:
    up, down, drained = (Server(name, "UP", "ready", 0, 0, "") for name in ("one", "two", "three"))
    down = Server("two", "DOWN 1/2", "ready", 0, 0, "")
    drained = Server("three", "UP", "drain", 0, 0, "")
    wanted = "one stays in: without it only 0 server(s) would be UP, and 1 must be."
    assert refusal([up, down, drained], "one", 1) == wanted
    assert refusal([up, down, drained], "two", 1) is None, "nothing is lost with a server that is DOWN"
    assert refusal([up, down, drained], "one", 0) is None
    runtime = Fake(one={}, two={"status": "DOWN"})
    with pytest.raises(HaproxyError, match=r"^one stays in"):
        ask(runtime, state="drain", keep_up=1)
    assert runtime.orders == []


DRAINED = 8


def test_drain_of_a_roll_out_is_noted_until_it_has_ended(tmp_path: Path) -> None:
    runtime = Fake(one={})
    notes = str(tmp_path)
    assert ask(runtime, state="drain", roll_out=True, notes=notes)["noted"] == ["one"]
    result = ask(runtime, state="ready", roll_out=True, notes=notes)
    assert (result["noted"], result["reached"], runtime.held["one"]["bits"]) == ([], True, 0)


def test_roll_out_leaves_the_drain_of_an_operator(tmp_path: Path) -> None:
    runtime = Fake(one={"bits": DRAINED})
    notes = str(tmp_path)
    assert ask(runtime, state="drain", roll_out=True, notes=notes)["left_out"]
    result = ask(runtime, state="ready", roll_out=True, notes=notes)
    assert (result["left_out"], result["noted"], runtime.orders) == (True, [], [])


@pytest.mark.parametrize("state", ["drain", "ready"])
def test_word_of_an_operator_ends_the_note(tmp_path: Path, state: str) -> None:
    runtime = Fake(one={})
    ask(runtime, state="drain", roll_out=True, notes=str(tmp_path))
    assert ask(runtime, state=state, notes=str(tmp_path))["noted"] == []


def test_drain_that_a_killed_roll_out_has_left_is_ended(tmp_path: Path) -> None:
    runtime = Fake(one={}, two={}, three={"bits": DRAINED})
    notes = str(tmp_path)
    for name in ("one", "gone"):
        (tmp_path / "app").mkdir(exist_ok=True)
        (tmp_path / "app" / name).touch()
    ask(runtime, name="one", state="drain", roll_out=True, notes=notes)
    assert ask(runtime, name=None, state="ready", roll_out=True, notes=notes)["noted"] == ["gone", "one"]
    assert {name: held["bits"] for name, held in runtime.held.items()} == {"one": 0, "two": 0, "three": DRAINED}
    assert ask(runtime, name=None, notes=notes)["noted"] == []


def test_note_is_there_before_the_drain(tmp_path: Path) -> None:
    class Cut(Fake):
        def ask(self, command: str) -> str:
            if command.startswith("set server"):
                raise OSError("cut off")
            return super().ask(command)

    with pytest.raises(OSError, match="cut off"):
        ask(Cut(one={}), state="drain", roll_out=True, notes=str(tmp_path))
    assert ask(Fake(one={}), notes=str(tmp_path))["noted"] == ["one"]


def test_changed_port_is_told_before_the_server_is_ready(tmp_path: Path) -> None:
    runtime = Fake(one={"bits": DRAINED})
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "one").touch()
    ask(runtime, state="ready", roll_out=True, notes=str(tmp_path), address="192.0.2.1", port=81)
    assert runtime.orders == ["set server app/one addr 192.0.2.1 port 81", "set server app/one state ready"]
    assert ask(runtime, state="ready", roll_out=True, address="192.0.2.1", port=81)["changed"] is False


def test_servers_that_must_be_up_are_waited_for_and_named() -> None:
    runtime = Fake(one={}, two={"status": "DOWN"}, three={"bits": DRAINED})
    down = ask(runtime, name=None, up={"app": ["one", "two", "three", "four"]}, wait=0.01)["down"]
    assert sorted(down) == ["app/four", "app/two"]
    assert down["app/two"].startswith("two of backend app is DOWN (ready), not UP")
    assert ask(Fake(looks=2, one={"status": "DOWN"}), name=None, up={"app": ["one"]})["down"] == {}


class Clock:
    """The time of a HAProxy's process, which passes only where somebody sleeps."""

    def __init__(self, runtime: Fake, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
        """Change a server two seconds from now: what its own checks say then."""
        self.runtime, self.end, self.changes = runtime, runtime.uptime + 2, changes
        monkeypatch.setattr("time.monotonic", lambda: runtime.uptime)
        monkeypatch.setattr("time.sleep", self.sleep)

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.runtime.uptime += seconds
        if self.runtime.uptime >= self.end:
            self.runtime.held["one"].update(self.changes)


def test_states_of_a_new_process_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    # It shows its predecessor's until its own checks have said something.
    runtime = Fake(one={"code": 0})
    Clock(runtime, monkeypatch, status="NOLB")
    assert ask(runtime, name=None, up={"app": ["one"]}, wait=0, settled=8)["down"] == {}
    assert list(ask(runtime, name=None, up={"app": ["one"]}, wait=0, settled=10)["down"]) == ["app/one"]
    assert runtime.uptime == pytest.approx(10, abs=0.5)


def test_state_of_a_new_process_counts_once_its_own_check_has_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = Fake(one={"code": 0}, two={"code": 0, "bits": 8})
    Clock(runtime, monkeypatch, code=200)
    # One that somebody has drained is not waited for.
    assert ask(runtime, name=None, up={"app": ["one", "two"]}, wait=0, settled=30)["down"] == {}
    assert runtime.uptime == pytest.approx(9, abs=0.5)


@pytest.mark.parametrize("up", [{}, {"app": []}, {"app": ["two"]}])
def test_states_of_others_count_once_a_check_has_told_them(up: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    # A run that looks at no backend, or at one of them, tells of all servers, and asks the front door.
    runtime = Fake(one={"code": 0}, two={})
    Clock(runtime, monkeypatch, status="DOWN", code="")
    assert ask(runtime, name=None, up=up, wait=0, settled=10)["down"] == {}
    assert runtime.uptime == pytest.approx(10, abs=0.5)


def test_server_that_the_configuration_disables_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = Fake(one={}, one_next={"status": "MAINT", "bits": 4, "code": ""})
    Clock(runtime, monkeypatch)
    assert ask(runtime, name=None, up={"app": ["one"]}, wait=0, settled=30)["down"] == {}
    assert runtime.uptime == pytest.approx(7, abs=0.5)


@pytest.mark.parametrize("shown", [{"status": "UP 3/4"}, {"status": "UP 3/4", "code": ""}, {"code": ""}])
def test_server_whose_check_failed_or_says_nothing_is_waited_for(
    shown: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = Fake(one=shown)
    Clock(runtime, monkeypatch)
    assert ask(runtime, name=None, up={"app": ["one"]}, wait=0, settled=12)["down"] == {}
    assert runtime.uptime == pytest.approx(12, abs=0.5)


def test_without_a_backend_every_one_is_asked_that_has_the_server(tmp_path: Path) -> None:
    class Two(Fake):
        """With a second backend, whose only server has the same name."""

        def ask(self, command: str) -> str:
            if command.startswith("set server shop"):
                self.orders.append(command)
                return "\n"
            if command == "show servers state shop":
                return f"1\n{HEADER}\n4 shop 1 one 192.0.2.1 2 0 1 81\n"
            answer = super().ask(command)
            if command == "show stat":
                return f"{answer}shop,one,0,4,UP,L7OK,200,2,\nshop,BACKEND,0,0,UP,,,,\n"
            if command == "show servers state":
                return f"{answer}4 shop 1 one 192.0.2.1 2 0 1 81\n"
            return answer

    runtime = Two(one={}, two={})
    assert ask(runtime, backend="", name=None)["noted"] == []
    listed = [(server["backend"], server["name"]) for server in ask(runtime, backend="", name=None)["servers"]]
    assert listed == [("app", "one"), ("app", "two"), ("shop", "one")]
    # One of them can't go, so none does.
    with pytest.raises(HaproxyError, match=r"^one stays in"):
        ask(runtime, backend="", state="drain", keep_up=1)
    assert runtime.orders == []
    result = ask(runtime, backend="", state="drain", required=True, wait=0)
    assert runtime.orders == ["set server app/one state drain", "set server shop/one state drain"]
    assert result["server"]["sessions"] == 4, "the busiest is what an operator waits for"
    with pytest.raises(HaproxyError, match=r"^HAProxy has no server nine\.$"):
        ask(runtime, backend="", name="nine", state="drain", required=True)
    # What a killed roll-out has drained of whichever service is found.
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "one").touch()
    assert ask(runtime, backend="", name=None, notes=str(tmp_path))["noted"] == ["one"]
    ask(runtime, backend="", name=None, state="ready", roll_out=True, notes=str(tmp_path), wait=0)
    assert list((tmp_path / "shop").iterdir()) == []
