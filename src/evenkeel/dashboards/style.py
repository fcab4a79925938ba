"""What the panels share: the datasource, colours by backend, lines that show a gap as a gap."""

from __future__ import annotations

from grafana_foundation_sdk.builders import common, dashboard, prometheus, statetimeline, timeseries
from grafana_foundation_sdk.models import common as common_models
from grafana_foundation_sdk.models import dashboard as dashboard_models
from grafana_foundation_sdk.models.dashboard import (
    DataSourceRef,
    DynamicConfigValue,
    FieldColorModeId,
    GridPos,
    Threshold,
    ThresholdsMode,
    ValueMap,
    ValueMappingResult,
)
from grafana_foundation_sdk.models.statetimeline import Options as TimelineOptions

# The uid that the role `grafana` gives the datasource.
DATASOURCE = DataSourceRef(type_val="prometheus", uid="prometheus")
GREEN, ORANGE, RED, GREY = "green", "orange", "red", "#808080"
# Told apart by people who see no red or green too.
PALETTE = ("#56B4E9", "#E69F00", "#CC79A7", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#B3B3B3")
# Percentiles from the lowest to the highest, and what is beside them.
LATENCIES = ("#56B4E9", "#F0E442", "#D55E00", "#B3B3B3")


def target(expr: str, legend: str, ref_id: str = "A") -> prometheus.Dataquery:
    """Return a range query.

    Args:
        expr: the PromQL expression. Ranges are open on the left: at one scrape a second ``[1s]`` holds one point, and
            one point has no rate. So rates are taken over ``$__rate_interval``, which is four of the datasource's
            `timeInterval` or more; zoomed out it grows with the step, and no second between two points is left out.
        legend: the legend's format.
        ref_id: the query's letter in its panel.
    """
    return prometheus.Dataquery().datasource(DATASOURCE).expr(expr).range().legend_format(legend).ref_id(ref_id)


def place(x: int, y: int, width: int, height: int) -> GridPos:
    """Return a place in the grid of 24 columns."""
    return GridPos(h=height, w=width, x=x, y=y)


def bad_from(value: float) -> dashboard.ThresholdsConfig:
    """Return the thresholds of a panel whose values are bad from ``value`` on."""
    steps = [Threshold(value=None, color="transparent"), Threshold(value=value, color=RED)]
    return dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps)


def states(names: dict[str, tuple[str, str]]) -> ValueMap:
    """Return a mapping of values to texts and colours, from ``{"0": ("DOWN", "red"), …}``."""
    return ValueMap(
        options={
            value: ValueMappingResult(text=text, color=color, index=index)
            for index, (value, (text, color)) in enumerate(names.items())
        }
    )


def fixed(color: str) -> DynamicConfigValue:
    """Return what gives a line this colour."""
    return DynamicConfigValue(id_val="color", value={"mode": FieldColorModeId.FIXED, "fixedColor": color})


def lines(title: str, unit: str, position: GridPos) -> timeseries.Panel:
    """Return a panel of lines, each in a colour that Grafana derives from its name."""
    return (
        timeseries.Panel()
        .title(title)
        .unit(unit)
        .grid_pos(position)
        .datasource(DATASOURCE)
        .min(0)
        .line_width(2)
        .fill_opacity(8)
        .line_interpolation(common_models.LineInterpolation.LINEAR)
        .show_points(common_models.VisibilityMode.NEVER)
        # A second without data is a hole: a line drawn across it would claim what nobody measured.
        .span_nulls(False)
        .color_scheme(dashboard.FieldColor().mode(FieldColorModeId.PALETTE_CLASSIC_BY_NAME))
        .legend(_legend())
        .tooltip(
            common.VizTooltipOptions()
            .mode(common_models.TooltipDisplayMode.MULTI)
            .sort(common_models.SortOrder.DESCENDING)
        )
    )


def backend_lines(title: str, unit: str, position: GridPos) -> timeseries.Panel:
    """Return a panel with a line a backend.

    A backend's colour follows from the number its name ends with, so it is the same on every panel and no two of the
    first eight share one.
    """
    panel = lines(title, unit, position)
    for number, color in enumerate(PALETTE, start=1):
        panel.override_by_regexp(f"/^(.*[^0-9])?0*{number}$/", [fixed(color)])
    return panel


class _OnePage(statetimeline.Panel):
    """A timeline with all its rows on one page: a pager would take the room of two."""

    def build(self) -> dashboard_models.Panel:
        """Return the panel; its builder takes no 0, which is Grafana's word for it."""
        built = super().build()
        if isinstance(built.options, TimelineOptions):
            built.options.per_page = 0
        return built


def timeline(title: str, position: GridPos) -> statetimeline.Panel:
    """Return a panel of states over time, one row a series."""
    return (
        _OnePage()
        .title(title)
        .grid_pos(position)
        .datasource(DATASOURCE)
        .show_value(common_models.VisibilityMode.AUTO)
        .merge_values(True)
        .row_height(0.8)
        .fill_opacity(80)
        .line_width(0)
        .legend(common.VizLegendOptions().show_legend(False))
    )


def _legend() -> common.VizLegendOptions:
    # Below: beside the plot it would take half of a narrow panel.
    return (
        common.VizLegendOptions()
        .show_legend(True)
        .display_mode(common_models.LegendDisplayMode.LIST)
        .placement(common_models.LegendPlacement.BOTTOM)
        .calcs(["lastNotNull"])
    )
