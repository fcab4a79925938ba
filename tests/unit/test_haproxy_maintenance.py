"""The module that puts services into maintenance, against a HAProxy that is a few lines of text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from haproxy_maintenance import MaintenanceError, entries, run
from maintenance import maintenance_note, maintenance_notes, maintenance_problem, maintenance_state

PROJECT = Path(__file__).resolve().parents[2]
COMMENT = "# Whose file it is.\n"


class Fake:
    """A HAProxy that has read the map, or one that has none (``None``), or none that runs (``runs``)."""

    def __init__(self, *services: str, known: bool = True, runs: bool = True) -> None:
        """Hold what is in the map."""
        self.held, self.known, self.runs = list(services), known, runs
        self.orders: list[str] = []
        self.refuses = False

    def __call__(self, command: str) -> str:
        """Answer as HAProxy does."""
        if not self.runs:
            raise ConnectionRefusedError
        if command.startswith("show map "):
            lines = "".join(f"0x55d5{number:06x} {name} on\n" for number, name in enumerate(self.held))
            return f"{lines}\n" if self.known else "Unknown map identifier. Please use #<id> or <file>.\n"
        if self.refuses:
            return "unable to add this map.\n"
        verb, _, _, service, *_ = command.split()
        self.orders.append(f"{verb} {service}")
        if verb == "add":
            self.held.append(service)
        else:
            self.held = [name for name in self.held if name != service]
        return "\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "maintenance.map"
    file.write_text(COMMENT)
    return file


def ask(path: Path, haproxy: Fake, check_mode: bool = False, **parameters: Any) -> dict[str, Any]:
    """Run the module with its defaults."""
    given = {"service": "", "active": False, "known": None, "path": str(path), "required": False} | parameters
    return run(given, check_mode, haproxy)


def test_on_and_off_change_file_and_process_once(path: Path) -> None:
    haproxy = Fake("other")
    path.write_text(f"{COMMENT}other on\n")
    wanted = {"changed": True, "services": ["other", "shop"]}
    assert ask(path, haproxy, service="shop", active=True) == wanted
    assert path.read_text() == f"{COMMENT}other on\nshop on\n"
    assert ask(path, haproxy, service="shop", active=True) == wanted | {"changed": False}
    assert ask(path, haproxy, service="shop") == {"changed": True, "services": ["other"]}
    assert path.read_text() == f"{COMMENT}other on\n"
    assert ask(path, haproxy, service="shop") == {"changed": False, "services": ["other"]}
    assert haproxy.orders == ["add shop", "del shop"]
    assert [file.name for file in path.parent.iterdir()] == ["maintenance.map"]


@pytest.mark.parametrize(("active", "held", "order"), [(True, [], "add shop"), (False, ["shop"], "del shop")])
def test_run_that_was_killed_between_file_and_process_is_mended(
    path: Path, active: bool, held: list[str], order: str
) -> None:
    path.write_text(COMMENT + ("shop on\n" if active else ""))
    haproxy = Fake(*held)
    assert ask(path, haproxy, service="shop", active=active)["changed"]
    assert haproxy.orders == [order]
    # And so it is by a run that is about something else, such as site.yml.
    haproxy = Fake(*held)
    assert ask(path, haproxy, known=["shop"])["changed"]
    assert haproxy.orders == [order]


def test_check_mode_and_a_question_change_nothing(path: Path) -> None:
    haproxy = Fake("other")
    path.write_text(f"{COMMENT}other on\n")
    before = path.read_text()
    assert ask(path, haproxy, True, service="shop", active=True) == {"changed": True, "services": ["other"]}
    assert ask(path, haproxy, True, service="other", active=True) == {"changed": False, "services": ["other"]}
    # What the process says counts, and not what the file does.
    path.write_text(f"{COMMENT}shop on\n")
    assert ask(path, haproxy) == {"changed": False, "services": ["other"]}
    assert (haproxy.orders, path.read_text()) == ([], before.replace("other", "shop"))


def test_services_that_are_gone_are_forgotten(path: Path) -> None:
    path.write_text(f"{COMMENT}gone on\nshop on\n")
    haproxy = Fake("gone", "shop")
    assert ask(path, haproxy, known=["shop", "api"]) == {"changed": True, "services": ["shop"]}
    assert path.read_text() == f"{COMMENT}shop on\n"
    assert haproxy.orders == ["del gone"]
    assert not ask(path, haproxy, known=["shop", "api"])["changed"]


def test_haproxy_that_does_not_run_reads_the_file_at_its_start(path: Path) -> None:
    haproxy = Fake(runs=False)
    assert ask(path, haproxy, service="shop", active=True, required=True) == {"changed": True, "services": ["shop"]}
    assert path.read_text() == f"{COMMENT}shop on\n"
    assert ask(path, haproxy) == {"changed": False, "services": ["shop"]}


def test_balancer_that_knows_no_maintenance_is_left_alone(path: Path) -> None:
    haproxy = Fake(known=False)
    with pytest.raises(MaintenanceError, match=r"^HAProxy does not know of maintenance here, .*: run site\.yml\.$"):
        ask(path, haproxy, service="shop", active=True, required=True)
    assert path.read_text() == COMMENT
    path.unlink()
    with pytest.raises(MaintenanceError, match=r"run site\.yml"):
        ask(path, Fake(runs=False), service="shop", active=True, required=True)
    # Who only asks is told that nothing is in maintenance there; site.yml's check mode finds no file yet.
    assert ask(path, haproxy) == ask(path, haproxy, True, known=["shop"]) == {"changed": False, "services": []}
    assert list(path.parent.iterdir()) == []


def test_refusal_of_haproxy_is_passed_on(path: Path) -> None:
    haproxy = Fake()
    haproxy.refuses = True
    with pytest.raises(MaintenanceError, match=r"^HAProxy refused `add map .* shop on`: unable to add this map\.$"):
        ask(path, haproxy, service="shop", active=True)


def test_map_has_comments_and_empty_lines() -> None:
    assert entries(["# a comment", "", "shop on", "api on"]) == ["api", "shop"]


def test_role_and_module_mean_the_same_file() -> None:
    text = (PROJECT / "plugins" / "modules" / "haproxy_maintenance.py").read_text()
    variables = yaml.safe_load((PROJECT / "roles" / "haproxy" / "vars" / "main.yml").read_text())
    assert f'"default": "{variables["__haproxy_maintenance"]}"' in text


@pytest.mark.parametrize(
    ("state", "wanted"),
    [("on", "on"), ("off", "off"), ("ON", "on"), (True, "on"), (False, "off"), ("", ""), (None, ""), ("maybe", "")],
)
def test_state_is_on_or_off_as_yaml_reads_them_too(state: object, wanted: str) -> None:
    assert maintenance_state(state) == wanted
    assert bool(maintenance_problem(state)) is (wanted == "")


def test_state_that_is_none_is_one_sentence() -> None:
    rest = "write -e state=on to put a service into maintenance, or -e state=off to end that."
    assert maintenance_problem("") == f"The state was not said: {rest}"
    assert maintenance_problem("maybe") == f"The state is `maybe`: {rest}"


def test_notes_name_service_balancers_and_the_way_out() -> None:
    hostvars: dict[str, dict[str, Any]] = {
        "one": {"status_maintenance": {"services": ["api", "shop"]}},
        "two": {"status_maintenance": {"services": ["shop"]}},
        "down": {"status_maintenance": {"unreachable": True}},
        "left out": {},
    }
    assert maintenance_notes(hostvars, hostvars) == [
        "api is in maintenance at one, as an operator has ordered: clients get 503. maintenance.yml -e service=api "
        "-e state=off ends that.",
        "shop is in maintenance at one, two, as an operator has ordered: clients get 503. maintenance.yml "
        "-e service=shop -e state=off ends that.",
    ]
    assert maintenance_note([], ["one"]) == ""
