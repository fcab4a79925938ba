"""The services of the scenario `services`: as they are described there, and otherwise."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from changes import played
from scenario import PROJECT, Scenario

SETTINGS = PROJECT / "molecule" / "services" / "settings" / "hosts.yml"
DESCRIBED: dict[str, Any] = yaml.safe_load((SETTINGS.parent / "group_vars" / "all.yml").read_text())["site_services"]


@contextmanager
def described(**services: Mapping[str, Any]) -> Iterator[str]:
    """Descriptions with some keys changed, or left out (None), as an inventory to be named after the scenario's own.

    A service that is not described there is one more.
    """
    whole = {
        name: {
            key: value
            for key, value in {**DESCRIBED.get(name, {}), **services.get(name, {})}.items()
            if value is not None
        }
        for name in [*DESCRIBED, *(name for name in services if name not in DESCRIBED)]
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "hosts.yml"
        path.write_text(yaml.safe_dump({"all": {"vars": {"site_services": whole}}}, sort_keys=False))
        yield str(path)


def run(scenario: Scenario, *arguments: str, wanted: int = 0) -> str:
    """Run a playbook with the scenario's descriptions, which must end with the exit code ``wanted``."""
    playbook, *others = arguments
    return played(scenario, playbook, "-i", str(SETTINGS), *others, wanted=wanted)


def ids(scenario: Scenario, service: str) -> dict[str, str]:
    """Return the id of a service's container by backend."""
    look = f"docker inspect backend_{service} --format '{{{{.Id}}}} {{{{.State.StartedAt}}}}'"
    return {name: scenario.host(name).check_output(look) for name in scenario.backends}
