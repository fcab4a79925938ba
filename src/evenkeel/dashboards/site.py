"""The dashboard "Site": what each backend does, second by second, and what clients get."""

from __future__ import annotations

from collections.abc import Callable

from grafana_foundation_sdk.builders import common, dashboard, statetimeline, timeseries
from grafana_foundation_sdk.models.common import GraphThresholdsStyleMode
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DataSourceRef,
    DynamicConfigValue,
    VariableOption,
    VariableRefresh,
)

from evenkeel.dashboards.style import (
    DATASOURCE,
    GREEN,
    GREY,
    LATENCIES,
    ORANGE,
    RED,
    backend_lines,
    bad_from,
    fixed,
    lines,
    place,
    states,
    target,
    timeline,
)

# HAProxy's proxies, as the role `haproxy` names them: a backend carries its service's name.
FRONTEND, BACKEND = 'proxy="site"', 'proxy=~"$service"'
RATE = "[$__rate_interval]"
# The application's own requests: an image of before, or another's, may count probes too, which would hide them.
REQUESTS = 'endpoint!~"/(healthz|readyz|metrics)"'


def tagged(name: str, tag: str, color: str) -> dashboard.AnnotationQuery:
    """Return the annotations of Grafana's own store that carry ``tag``."""
    return (
        dashboard.AnnotationQuery()
        .name(name)
        .datasource(DataSourceRef(type_val="grafana", uid="-- Grafana --"))
        .enable(True)
        .icon_color(color)
        .target(dashboard.AnnotationTarget().type("tags").tags([tag]).match_any(True).limit(100))
    )


def service() -> dashboard.QueryVariable:
    """Return the variable that chooses services; all of them at first."""
    return (
        dashboard.QueryVariable("service")
        .label("Service")
        .datasource(DATASOURCE)
        .query("label_values(haproxy_backend_active_servers, proxy)")
        # Where balancers answer an issuer of certificates is no service.
        .regex("/^(?!acme_challenges$)/")
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .multi(True)
        .include_all(True)
        .all_value(".+")
        .current(VariableOption(text=["All"], value=["$__all"]))
    )


def cpu_per_backend() -> timeseries.Panel:
    """Busy share of each backend's CPUs, as its own monitor pushed it."""
    return (
        backend_lines("CPU per backend", "percent", place(0, 0, 12, 8))
        .description("Pushed by each backend every second. A gap: the backend, or its Pushgateway, is gone.")
        .max(100)
        .with_target(target("cpu_usage", "{{instance}}"))
    )


def rps_per_backend() -> timeseries.Panel:
    """Responses by backend, as the balancer counts them."""
    # In a roll-out a second server stands in for the backend's own (surge_port).
    rates = f"rate(haproxy_server_http_responses_total{{{BACKEND}}}{RATE})"
    expr = f'sum by (server) (label_replace({rates}, "server", "$1", "server", "(.+)_next"))'
    return (
        backend_lines("RPS per backend", "reqps", place(12, 0, 12, 8))
        .description("Responses of each backend, counted at the balancer.")
        .with_target(target(expr, "{{server}}"))
    )


def total_rps() -> timeseries.Panel:
    """Responses to clients; the balancer's own errors are among them."""
    expr = f"sum(rate(haproxy_frontend_http_responses_total{{{FRONTEND}}}{RATE}))"
    return (
        lines("Total RPS", "reqps", place(0, 8, 24, 7))
        .description("Responses to clients, the balancer's own errors included.")
        .with_target(target(expr, "all"))
    )


def backend_state() -> statetimeline.Panel:
    """What the balancer thinks of each backend; its exporter has a series a state, 1 where it holds."""
    numbers = {"UP": 1, "MAINT": 2, "DRAIN": 3, "NOLB": 4}
    expr = " + ".join(
        # What stands in for a backend in a roll-out is in maintenance at all other times.
        f"{number} * max by (instance, proxy, server) "
        f'(haproxy_server_status{{{BACKEND},server!~".+_next",state="{state}"}})'
        for state, number in numbers.items()
    )
    mapping = {
        "0": ("DOWN", RED),
        "1": ("UP", GREEN),
        "2": ("MAINT", ORANGE),
        "3": ("DRAIN", ORANGE),
        "4": ("NOLB", GREY),
    }
    return (
        timeline("Backend state", place(0, 15, 12, 6))
        .description("The state each balancer holds each backend in.")
        .mappings([states(mapping)])
        .with_target(target(expr, "{{proxy}} on {{server}} at {{instance}}"))
    )


def firing_alerts() -> statetimeline.Panel:
    """A row for every alert that fires; with none, a row that says so, which tells "none" from "no data"."""
    # Not the sum: an alert may fire for several servers of an instance.
    expr = (
        'max by (alertname, instance) (ALERTS{alertstate="firing"}) '
        'or on () label_replace(vector(0), "alertname", "no alert", "", "")'
    )
    return (
        timeline("Firing alerts", place(12, 15, 12, 6))
        .mappings([states({"0": ("none", GREEN), "1": ("firing", RED)})])
        .with_target(target(expr, "{{alertname}} {{instance}}"))
    )


def errors() -> timeseries.Panel:
    """The share of responses to clients that are 5xx."""
    responses = f"haproxy_frontend_http_responses_total{{{FRONTEND}}}"
    failed = f'haproxy_frontend_http_responses_total{{{FRONTEND},code="5xx"}}'
    expr = f"sum(rate({failed}{RATE})) / sum(rate({responses}{RATE}))"
    return (
        lines("Errors (5xx share)", "percentunit", place(0, 21, 12, 7))
        .description("Of the responses to clients. No line: no requests.")
        .axis_soft_max(0.05)
        .thresholds(bad_from(0.01))
        .thresholds_style(common.GraphThresholdsStyleConfig().mode(GraphThresholdsStyleMode.AREA))
        .with_target(target(expr, "5xx"))
    )


def retries() -> timeseries.Panel:
    """Attempts that the balancer had to repeat."""
    return (
        lines("Retries and redispatches", "ops", place(12, 21, 12, 7))
        .description(
            "Attempts that failed and were repeated: at the same backend (retries), at another (redispatches)."
        )
        .axis_soft_max(1)
        .with_target(target(f"sum(rate(haproxy_backend_retry_warnings_total{{{BACKEND}}}{RATE}))", "retries"))
        .with_target(
            target(f"sum(rate(haproxy_backend_redispatch_warnings_total{{{BACKEND}}}{RATE}))", "redispatches", "B")
        )
    )


def latency() -> timeseries.Panel:
    """Percentiles from the application's histogram, with the balancer's averages beside them."""
    panel = (
        lines("Latency", "s", place(0, 28, 12, 7))
        .description(
            "p50, p95, p99: inside the application. Balancer: average of its last 1024 requests, waiting included."
        )
        .fill_opacity(0)
    )
    buckets = f"sum by (le) (rate(backend_app_request_duration_seconds_bucket{{{REQUESTS}}}{RATE}))"
    for ref_id, percentile in zip("ABC", ("50", "95", "99"), strict=True):
        panel.with_target(target(f"histogram_quantile(0.{percentile}, {buckets})", f"p{percentile}", ref_id))
    average = f"max(haproxy_backend_total_time_average_seconds{{{BACKEND}}})"
    panel.with_target(target(average, "balancer", "D"))
    # Colours that Grafana derives from these names are shades of one.
    for name, color in zip(("p50", "p95", "p99", "balancer"), LATENCIES, strict=True):
        panel.override_by_name(name, [fixed(color)])
    dashed = {"fill": "dash", "dash": [8, 8]}
    return panel.override_by_name("balancer", [DynamicConfigValue(id_val="custom.lineStyle", value=dashed)])


def staleness() -> timeseries.Panel:
    """How old each backend's last push is."""
    return (
        backend_lines("CPU monitor: age of the last push", "s", place(12, 28, 12, 7))
        .description(
            "About as long as cpu_monitor_interval (a second) while the monitor runs. More, too, where a host is "
            "ahead or behind by its clock. How old is too old, the alert CpuMonitorStale says."
        )
        .axis_soft_max(5)
        .with_target(target('abs(time() - push_time_seconds{job="cpu_usage"})', "{{instance}}"))
    )


PANELS: tuple[Callable[[], timeseries.Panel | statetimeline.Panel], ...] = (
    cpu_per_backend,
    rps_per_backend,
    total_rps,
    backend_state,
    firing_alerts,
    errors,
    retries,
    latency,
    staleness,
)


def site() -> dashboard.Dashboard:
    """Return the dashboard."""
    built = (
        dashboard.Dashboard("Site")
        .uid("evenkeel-site")
        .tags(["evenkeel"])
        .timezone("browser")
        .readonly()
        .time("now-5m", "now")
        # Grafana's own minimum is 5s; the role lowers it (min_refresh_interval).
        .refresh("2s")
        .timepicker(dashboard.TimePicker().refresh_intervals(["1s", "2s", "5s", "10s", "30s", "1m"]))
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .with_variable(service())
        .annotation(tagged("Faults", "fault", RED))
    )
    for number, panel in enumerate(PANELS, start=1):
        # Numbered here, by their place: links and annotations point at a panel's number.
        built.with_panel(panel().id(number))
    return built
