"""The table of faults in the documentation."""

from __future__ import annotations

import pytest

from evenkeel import faults

SETTINGS = {"chaos_latency_ms": 300, "chaos_stall_seconds": 1}
FAULT = {"what": "it waits {{ chaos_latency_ms }} ms", "strikes": "backend", "lasts": True}


def test_settings_stand_with_their_defaults() -> None:
    assert faults.sentence(FAULT, SETTINGS) == "it waits `chaos_latency_ms` (300) ms"
    assert faults.sentence(FAULT | {"detail": "Long"}, SETTINGS).endswith(" ms. Long")


@pytest.mark.parametrize(
    "what", ["{{ chaos_latency_ms | int }} ms", "{{ chaos_latency }} ms", "{% if 1 %}x{% endif %}"]
)
def test_text_that_the_table_can_not_show_is_refused(what: str) -> None:
    with pytest.raises(ValueError, match="what and detail may name settings"):
        faults.sentence({"what": what}, SETTINGS)


def test_objectives_follow_from_the_defaults() -> None:
    given = {"slo": {"rps_floor": 0.5, "p99": "{{ chaos_stall_seconds | float + 2 }}"}}
    assert faults.objectives(given, SETTINGS) == {"rps_floor": 0.5, "p99": 3.0}
    assert faults.objectives({}, SETTINGS) == {}


def test_table_has_a_row_for_each() -> None:
    short = {"what": "it stops", "strikes": "balancer", "lasts": False, "slo": {"p99": 2}}
    rows = faults.table({"slow": FAULT, "stop": short}, SETTINGS).splitlines()[2:]
    assert rows == [
        "| `slow` | backend | it waits `chaos_latency_ms` (300) ms | `chaos_duration` | |",
        "| `stop` | balancer | it stops | | `p99` 2 |",
    ]


def test_table_is_exchanged_and_nothing_else() -> None:
    page = faults.PAGE.read_text()
    other = faults.written(page, "| new |\n")
    assert other != page
    assert other.split("<!--")[0] == page.split("<!--")[0]
    assert other.split("-->")[-1] == page.split("-->")[-1]
    with pytest.raises(ValueError, match="There is no table between"):
        faults.written("# A page\n", "| new |\n")
