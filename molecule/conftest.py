"""The fixture of every scenario's tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml
from scenario import Scenario

# All that the tests ask is a host of the scenario: no proxy of the developer's may come between.
os.environ["no_proxy"] = os.environ["NO_PROXY"] = "*"


@pytest.fixture(scope="session")
def scenario() -> Scenario:
    """Return the hosts of the running scenario."""
    inventory = Path(os.environ["LAB_INVENTORY"])
    groups = yaml.safe_load(inventory.read_text())["all"]["children"].values()
    addresses = {name: host["service_address"] for group in groups for name, host in group["hosts"].items()}
    return Scenario(inventory, addresses)
