"""Every rule of Prometheus has a unit test, and every alert says where and what to do.

The unit tests themselves (tests/rules) are run by promtool, in the scenario `prometheus`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

PROJECT = Path(__file__).resolve().parents[2]
FILES = sorted((PROJECT / "roles" / "prometheus" / "files" / "rules").glob("*.yml"))
RULES: list[dict[str, Any]] = [
    rule for path in FILES for group in yaml.safe_load(path.read_text())["groups"] for rule in group["rules"]
]
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}
RECORDS = {rule["record"]: rule for rule in RULES if "record" in rule}


def cases() -> Iterator[dict[str, Any]]:
    """Yield every case of the rules' unit tests."""
    for path in sorted((PROJECT / "tests" / "rules").glob("*.yml")):
        content = yaml.safe_load(path.read_text())
        assert all((path.parent / name).exists() for name in content["rule_files"]), path
        yield from content["tests"]


def test_rules_are_found_and_have_names_of_their_own() -> None:
    assert ALERTS
    assert RECORDS
    assert len(RULES) == len(ALERTS) + len(RECORDS)


def test_the_role_deploys_every_rule_file() -> None:
    defaults = yaml.safe_load((PROJECT / "roles" / "prometheus" / "defaults" / "main.yml").read_text())
    assert sorted(defaults["prometheus_rule_files"]) == [f"rules/{path.name}" for path in FILES]


@pytest.mark.parametrize("name", ALERTS)
def test_alert_is_tested_firing_and_not_firing(name: str) -> None:
    expected = [
        test["exp_alerts"] for case in cases() for test in case.get("alert_rule_test", []) if test["alertname"] == name
    ]
    assert any(expected), "no case expects it to fire"
    assert any(not alerts for alerts in expected), "no case expects it to be quiet"


@pytest.mark.parametrize("name", RECORDS)
def test_record_is_tested_with_a_value(name: str) -> None:
    whole = re.compile(rf"(?<![\w:]){re.escape(name)}(?![\w:])")
    expected = [
        test["exp_samples"]
        for case in cases()
        for test in case.get("promql_expr_test", [])
        if whole.search(test["expr"])
    ]
    assert any(expected), "no case expects a value"


def test_tests_name_rules_that_exist() -> None:
    named = {test["alertname"] for case in cases() for test in case.get("alert_rule_test", [])}
    assert named == set(ALERTS)


@pytest.mark.parametrize("name", ALERTS)
def test_alert_says_where_and_what_to_do(name: str) -> None:
    alert = ALERTS[name]
    assert alert["labels"]["severity"] in {"critical", "warning"}
    summary, description = alert["annotations"]["summary"], alert["annotations"]["description"]
    assert re.fullmatch(r"[^.]+(\.\d[^.]*)*\.", re.sub(r"{{.*?}}", "", summary)), "one sentence"
    assert description.endswith(".")
    # What is summed over the whole site has no host to name.
    assert "$labels.instance" in summary or re.match("(site|proxy):", alert["expr"])
    seconds = re.fullmatch(r"(\d+)s", alert["for"])
    assert seconds, "held for some seconds"


@pytest.mark.parametrize("name", ["BackendDown", "NoHealthyBackend", "TargetMissing"])
def test_what_is_gone_fires_within_ten_seconds(name: str) -> None:
    # Up to two seconds for HAProxy's checks, one each for scrape, its timeout and evaluation.
    assert int(ALERTS[name]["for"].removesuffix("s")) <= 5


@pytest.mark.parametrize("name", RECORDS)
def test_record_is_named_level_metric_operation(name: str) -> None:
    assert re.fullmatch(r"[a-z_]+:[a-z0-9_]+:[a-z0-9_]+", name)
