"""Deploy, rollback and changed settings while clients are being served: nobody may notice."""

from __future__ import annotations

from pathlib import Path

import changes
import kills
import pytest
from changes import OLD, containers, deploys_log, versions
from scenario import Scenario
from under_load import BUSY, Outcome, under_load

BACKENDS = ("backend-1", "backend-2", "backend-3")


@pytest.fixture
def records(tmp_path: Path) -> Path:
    return tmp_path / "load.gz"


def nothing_lost(outcome: Outcome) -> None:
    print(outcome)
    assert outcome.summary.valid, outcome.summary.schedule
    assert outcome.failed("GET") == outcome.failed("POST") == []
    assert outcome.longest_gap < 1
    assert set(outcome.summary.backends) == set(BACKENDS)


def test_deploy_and_rollback_lose_nothing(scenario: Scenario, records: Path) -> None:
    before = deploys_log(scenario)
    # What an operator has drained is rolled back too, and stays drained.
    made = changes.deploy_and_rollback(scenario, changes.drained_by_hand(scenario, "backend-2"), batch=2)
    nothing_lost(under_load(scenario, records, made, seconds=0, arguments=BUSY))
    lines = deploys_log(scenario)[len(before) :]
    assert [(" deploy " in line, " rollback " in line, "result=ok" in line) for line in lines] == [
        (True, False, True),
        (False, True, True),
    ]


def test_version_that_never_gets_ready_is_undone(scenario: Scenario, records: Path) -> None:
    before = containers(scenario)
    made = changes.failed_deploy(scenario, "backend-2", batch=2)
    nothing_lost(under_load(scenario, records, made, seconds=0, arguments=BUSY))
    after = containers(scenario)
    # The very containers of before. The first was swapped and put back, the third never had its turn.
    assert {name: after[name][0] == before[name][0] for name in BACKENDS} == dict.fromkeys(BACKENDS, True)
    restarted = {name for name in BACKENDS if after[name][1] != before[name][1]}
    assert restarted == {"backend-1", "backend-2"}
    assert (versions(scenario), kills.blemishes(scenario)) == ({OLD}, [])
    assert "result=failed on backend-2" in deploys_log(scenario)[-1]


def test_changed_settings_and_backends_lose_nothing(scenario: Scenario, records: Path) -> None:
    made = changes.changed_site(scenario, "backend-3")
    nothing_lost(under_load(scenario, records, made, seconds=0, arguments=BUSY))
