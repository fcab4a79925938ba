"""The fixture of every scenario's tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from scenario import Scenario

# All that the tests ask is a host of the scenario: no proxy of the developer's may come between.
os.environ["no_proxy"] = os.environ["NO_PROXY"] = "*"


@pytest.fixture(scope="session")
def scenario() -> Scenario:
    """Return the hosts of the running scenario."""
    return Scenario.of(Path(os.environ["LAB_INVENTORY"]))
