"""The fixture of every scenario's tests, and the list of those that failed."""

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


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Keep what failed, a paragraph each, for `make` to say last: after pytest's end molecule says much more."""
    kept = Path(os.environ["LAB_FAILED"])
    failed = [report for kind in ("failed", "error") for report in terminalreporter.getreports(kind)]
    kept.write_text("".join(f"{report.nodeid}\n{report.longreprtext[-1500:]}\n\n" for report in failed))
