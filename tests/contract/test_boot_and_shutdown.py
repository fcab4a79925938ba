"""The units that tie the application to its host's boot and shutdown: what they rest on when nobody looks."""

from __future__ import annotations

from pathlib import Path

import yaml
from app import Settings
from jinja2 import Environment

ROLE = Path(__file__).resolve().parents[2] / "roles" / "backend_app"


def unit(name: str) -> dict[str, list[str]]:
    """Return a unit's settings by name, each with its values in their order."""
    lines = (ROLE / "templates" / f"{name}.service.j2").read_text().splitlines()
    found: dict[str, list[str]] = {}
    for line in lines:
        key, equals, value = line.partition("=")
        if equals and key.isalnum():
            found.setdefault(key, []).append(value)
    return found


def test_announcement_is_what_stops_first() -> None:
    # What is After= at boot is before at shutdown.
    (after,) = unit("backend_app_announce")["After"]
    services = [{"name": "app"}, {"name": "shop"}]
    rendered = Environment(autoescape=True).from_string(after)
    wanted = "multi-user.target backend_app_agent.service backend_app.service backend_shop.service"
    assert rendered.render(__backend_app_agent=True, backend_app_services=services) == wanted
    assert unit("backend_app_announce")["WantedBy"] == ["multi-user.target"]
    assert "backend_app_announce.service" in unit("backend_app")["Wants"][0].split()


def test_announcement_waits_for_nothing() -> None:
    touch, sleep = unit("backend_app_announce")["ExecStop"]
    assert touch == f"/usr/bin/touch {Settings('', '', 0, 0, Path()).leaving_file}"
    assert sleep == "/usr/bin/sleep {{ backend_app_drain_seconds }}"


def test_application_sees_it() -> None:
    folder = str(Settings("", "", 0, 0, Path()).leaving_file.parent)
    described = yaml.safe_load((ROLE.parents[1] / "group_vars" / "all" / "services.yml").read_text())
    assert described["topology_guide_api"]["volumes"] == [f"{folder}:{folder}:ro"]
    # Another folder of the same name would be another folder to the container.
    assert unit("backend_app_announce")["ExecStart"] == [
        f"/usr/bin/mkdir -p {folder}",
        f"/usr/bin/rm -f {folder}/leaving",
    ]
    assert "RuntimeDirectory" not in unit("backend_app_announce")


def test_start_at_boot_is_tried_until_it_works() -> None:
    found = unit("backend_app")
    assert (found["Restart"], found["StartLimitIntervalSec"]) == (["on-failure"], ["0"])


def test_engine_and_pushgateway_are_tried_until_they_start() -> None:
    roles = ROLE.parent
    for path in ("docker/templates/restart.conf.j2", "pushgateway/templates/pushgateway.service.j2"):
        assert "\nStartLimitIntervalSec=0\n" in (roles / path).read_text(), path
    assert "\nRestart=on-failure\n" in (roles / "pushgateway/templates/pushgateway.service.j2").read_text()
