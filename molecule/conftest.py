"""The fixture of every scenario's tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from scenario import Scenario


@pytest.fixture(scope="session")
def scenario() -> Scenario:
    """Return the hosts of the running scenario."""
    return Scenario.of(Path(os.environ["LAB_INVENTORY"]))
