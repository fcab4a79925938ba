"""The dashboards: the committed JSON is what the code makes, and says what operators were promised."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml

from evenkeel.dashboards import FOLDER, render

PROJECT = FOLDER.parents[1]
SITE: dict[str, Any] = json.loads(render()["site.json"])
PANELS: dict[str, dict[str, Any]] = {panel["title"]: panel for panel in SITE["panels"]}


def color(panel: str, name: str) -> str | None:
    """Return the fixed colour of a series by the panel's overrides."""
    for override in PANELS[panel]["fieldConfig"]["overrides"]:
        if re.search(override["matcher"]["options"].strip("/"), name):
            return str(override["properties"][0]["value"]["fixedColor"])
    return None


def test_committed_dashboards_are_what_the_code_makes() -> None:
    assert {path.name: path.read_text() for path in FOLDER.glob("*.json")} == render(), "run make dashboards"


@pytest.mark.parametrize(
    ("title", "unit", "expr"),
    [
        ("CPU per backend", "percent", "cpu_usage"),
        (
            "RPS per backend",
            "reqps",
            'sum by (server) (label_replace(rate(haproxy_server_http_responses_total{proxy=~"$service"}'
            '[$__rate_interval]), "server", "$1", "server", "(.+)_next"))',
        ),
        ("Total RPS", "reqps", 'sum(rate(haproxy_frontend_http_responses_total{proxy="site"}[$__rate_interval]))'),
    ],
)
def test_the_guides_three_graphs_keep_their_names_and_units(title: str, unit: str, expr: str) -> None:
    panel = PANELS[title]
    assert panel["type"] == "timeseries"
    assert panel["fieldConfig"]["defaults"]["unit"] == unit
    assert [target["expr"] for target in panel["targets"]] == [expr]


def test_the_guides_three_graphs_come_first_and_are_the_largest() -> None:
    first, others = SITE["panels"][:3], SITE["panels"][3:]
    assert [panel["title"] for panel in first] == ["CPU per backend", "RPS per backend", "Total RPS"]

    def area(panel: dict[str, Any]) -> int:
        return int(panel["gridPos"]["w"] * panel["gridPos"]["h"])

    assert min(map(area, first)) > max(map(area, others))
    assert max(panel["gridPos"]["y"] for panel in first) < min(panel["gridPos"]["y"] for panel in others)


def test_panels_do_not_overlap() -> None:
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in SITE["panels"])
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
    assert len({panel["id"] for panel in SITE["panels"]}) == len(SITE["panels"])


def test_cpu_is_drawn_from_0_to_100() -> None:
    defaults = PANELS["CPU per backend"]["fieldConfig"]["defaults"]
    assert (defaults["min"], defaults["max"]) == (0, 100)


@pytest.mark.parametrize("title", [title for title, panel in PANELS.items() if panel["type"] == "timeseries"])
def test_gap_in_the_data_is_a_gap_in_the_line(title: str) -> None:
    custom = PANELS[title]["fieldConfig"]["defaults"]["custom"]
    assert custom["spanNulls"] is False
    assert custom["lineInterpolation"] == "linear"


def test_backend_has_one_colour_on_every_panel() -> None:
    panels = ["CPU per backend", "RPS per backend", "CPU monitor: age of the last push"]
    names = [f"backend-{number}" for number in range(1, 9)]
    colors = {name: {color(panel, name) for panel in panels} for name in names}
    assert all(len(found) == 1 for found in colors.values())
    assert len(set.union(*colors.values())) == len(names)
    assert color("CPU per backend", "web01") == color("CPU per backend", "backend-1")
    assert color("CPU per backend", "backend-11") is None


def test_rates_are_taken_over_an_interval_of_several_scrapes() -> None:
    for panel in SITE["panels"]:
        for target in panel["targets"]:
            assert set(re.findall(r"\[(.*?)\]", target["expr"])) <= {"$__rate_interval"}, panel["title"]


def test_everything_asks_the_datasource_of_the_role() -> None:
    uid = yaml.safe_load((PROJECT / "roles/grafana/vars/main.yml").read_text())["__grafana_datasource_uid"]
    used = {panel["datasource"]["uid"] for panel in SITE["panels"]}
    used |= {target["datasource"]["uid"] for panel in SITE["panels"] for target in panel["targets"]}
    assert used == {uid}


def test_refresh_is_one_the_role_allows() -> None:
    options = yaml.safe_load((PROJECT / "roles/grafana/defaults/main.yml").read_text())["grafana_options"]
    assert options["dashboards"]["min_refresh_interval"] == "1s"
    assert SITE["refresh"] in SITE["timepicker"]["refresh_intervals"]
    assert SITE["time"] == {"from": "now-5m", "to": "now"}


def test_annotations_are_those_that_somebody_makes() -> None:
    found = {tuple(item["target"]["tags"]): item["datasource"]["uid"] for item in SITE["annotations"]["list"]}
    assert found == {("fault",): "-- Grafana --"}
    posted = (PROJECT / "src/evenkeel/chaos/run/annotate.py").read_text()
    assert all(f'"{tag}"' in posted for tags in found for tag in tags)


def test_the_guides_three_graphs_fit_1280_by_800() -> None:
    # A row of Grafana's grid is 30 px high with 8 px between; its own bars and margins take some 170 px.
    rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in SITE["panels"][:3])
    assert rows * 38 + 170 <= 800


def test_legends_leave_the_plot_its_width() -> None:
    for panel in SITE["panels"]:
        legend = panel["options"]["legend"]
        assert not legend["showLegend"] or legend["placement"] == "bottom", panel["title"]


def test_timelines_have_no_pager() -> None:
    timelines = [panel for panel in SITE["panels"] if panel["type"] == "state-timeline"]
    assert timelines
    assert {panel["options"]["perPage"] for panel in timelines} == {0}


def test_values_that_are_mapped_are_not_added_up() -> None:
    # Two servers down are two series of one alert: 2 is neither none nor firing.
    (target,) = PANELS["Firing alerts"]["targets"]
    assert target["expr"].startswith("max by (alertname, instance) ")
    for panel in SITE["panels"]:
        if panel["fieldConfig"]["defaults"].get("mappings"):
            assert not re.search(r"\b(sum|count)\b", panel["targets"][0]["expr"]), panel["title"]


def test_latencies_have_colours_of_their_own() -> None:
    names = ["p50", "p95", "p99", "balancer"]
    assert {target["legendFormat"] for target in PANELS["Latency"]["targets"]} == set(names)
    colors = [color("Latency", name) for name in names]
    assert None not in colors
    assert len(set(colors)) == len(names)


def test_ages_are_not_below_zero() -> None:
    # The axis begins at 0: what is below is not seen.
    (target,) = PANELS["CPU monitor: age of the last push"]["targets"]
    assert target["expr"].startswith("abs(time() - ")
