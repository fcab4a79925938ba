"""The Flask API behind the balancer: one page that says what it is, one that computes, one that waits.

Every answer is JSON with the date and the host's name, and carries the headers ``X-Backend`` and ``X-App-Version``,
so that a client can tell who answered. Settings come from the environment (see :class:`Settings`).
"""

from __future__ import annotations

import math
import os
import re
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from flask import Blueprint, Flask, Response, current_app, g, jsonify, request
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    multiprocess,
)

REQUESTS = Counter("backend_app_requests_total", "Requests answered.", ["method", "endpoint", "status"])
RUNNING = Gauge("backend_app_requests_running", "Requests being answered now.", multiprocess_mode="livesum")
LATENCY = Histogram(
    "backend_app_request_duration_seconds",
    "Time from a request's arrival in the application to its answer.",
    ["endpoint"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
# What a client may invent is counted under one name: each new name would be a series for ever, in every worker.
METHODS = frozenset({"GET", "HEAD", "POST", "OPTIONS", "PUT", "PATCH", "DELETE"})


@dataclass(frozen=True)
class Settings:
    """What may differ from host to host.

    Attributes:
        backend: the host's inventory name, sent as ``X-Backend``.
        version: the image's version, sent as ``X-App-Version``.
        factorial_max: the largest ``n`` that ``/factorial/<n>`` computes.
        sleep_max_seconds: the longest wait, in seconds, that ``/sleep`` accepts.
        drain_file: exists while the process is about to stop (gunicorn.conf.py).
        leaving_file: exists while the host is about to go down (backend_app_announce.service).
    """

    backend: str
    version: str
    factorial_max: int
    sleep_max_seconds: float
    drain_file: Path
    leaving_file: Path = Path("/run/backend_app/leaving")

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        """Read the settings; raises ValueError where a limit is not a number."""
        return cls(
            backend=environment.get("BACKEND_NAME", "unnamed"),
            version=environment.get("APP_VERSION", "unversioned"),
            factorial_max=int(environment.get("FACTORIAL_MAX", "1000")),
            sleep_max_seconds=float(environment.get("SLEEP_MAX_SECONDS", "10")),
            drain_file=Path(environment.get("DRAIN_FILE", "/tmp/draining")),
        )


class OutOfRangeError(ValueError):
    """A number in the path that the application refuses; its text is the sentence the client reads."""


def parse_whole_number(text: str, maximum: int) -> int:
    """Return ``text`` as a whole number from 0 to ``maximum``; raises OutOfRangeError otherwise."""
    # The length is looked at first: int() of a million digits would itself take long.
    if re.fullmatch(r"[0-9]{1,18}", text) and int(text) <= maximum:
        return int(text)
    raise OutOfRangeError(f"n must be a whole number from 0 to {maximum}.")


def parse_seconds(text: str, maximum: float) -> float:
    """Return ``text`` as seconds from 0 to ``maximum``; raises OutOfRangeError otherwise (nan and inf included)."""
    if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text) and float(text) <= maximum:
        return float(text)
    raise OutOfRangeError(f"seconds must be a number from 0 to {maximum:g}.")


api = Blueprint("api", __name__)
probes = Blueprint("probes", __name__)


def settings() -> Settings:
    """Return the settings of the application that answers."""
    held: Settings = current_app.extensions["settings"]
    return held


def answer(**body: object) -> Response:
    """Return ``body`` as JSON with the date and the host's name."""
    return jsonify(date=datetime.now(UTC).isoformat(timespec="milliseconds"), host=settings().backend, **body)


def refuse(sentence: str, status: int) -> Response:
    """Return an error the client can read."""
    response = answer(error=sentence)
    response.status_code = status
    return response


@api.get("/")
def index() -> Response:
    """Tell what this is."""
    paths = ["/factorial/<n>", "/sleep/<seconds>/<answer>"]
    return answer(what="evenkeel backend", version=settings().version, paths=paths)


@api.route("/factorial/<n>", methods=["GET", "POST"])
def factorial(n: str) -> Response:
    """Compute ``n!``."""
    number = parse_whole_number(n, settings().factorial_max)
    # As text: JSON readers lose digits of numbers beyond 2**53.
    return answer(n=number, factorial=str(math.factorial(number)))


@api.route("/sleep/<seconds>/<reply>", methods=["GET", "POST"])
def sleep(seconds: str, reply: str) -> Response:
    """Wait, then answer ``reply``."""
    duration = parse_seconds(seconds, settings().sleep_max_seconds)
    time.sleep(duration)
    return answer(slept=duration, answer=reply)


@probes.get("/healthz")
def healthz() -> Response:
    """Is the process alive? The container's health check asks this."""
    return answer(status="alive")


@probes.get("/readyz")
def readyz() -> Response:
    """Should the balancer send requests here? HAProxy takes 404 for "no new ones, let the running ones finish"."""
    if settings().drain_file.exists() or settings().leaving_file.exists():
        return refuse("This host is about to stop; send new requests elsewhere.", 404)
    return answer(status="ready")


@probes.get("/metrics")
def metrics() -> Response:
    """Return the metrics of all workers: each counts in files of its own, and the collector adds them up."""
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)


def enter() -> None:
    """Before a request: start its clock."""
    g.started = time.perf_counter()
    RUNNING.inc()


def sign(response: Response) -> Response:
    """After a request: say who answered, and count it, unless it is a probe.

    Every scrape reads each path's series, and an idle host would have those of its probes alone.
    """
    response.headers["X-Backend"] = settings().backend
    response.headers["X-App-Version"] = settings().version
    if request.blueprint == probes.name:
        return response
    # The rule, not the path, which a client may invent as well (METHODS). Statuses are the application's own.
    endpoint = request.url_rule.rule if request.url_rule else "unknown"
    method = request.method if request.method in METHODS else "other"
    LATENCY.labels(endpoint).observe(time.perf_counter() - g.started)
    REQUESTS.labels(method, endpoint, str(response.status_code)).inc()
    return response


def leave(_: BaseException | None) -> None:
    """At a request's end, however it ended."""
    RUNNING.dec()


def not_found(_: Exception) -> Response:
    """Answer a path that is none."""
    return refuse("There is nothing at this path; try /, /factorial/<n> or /sleep/<seconds>/<answer>.", 404)


def out_of_range(error: OutOfRangeError) -> Response:
    """Answer a number that is refused."""
    return refuse(str(error), 400)


def create_app(held: Settings) -> Flask:
    """Build the application for the settings ``held``."""
    # Python refuses to print integers of more than 4300 digits; factorial_max is the bound that counts here.
    sys.set_int_max_str_digits(0)
    app = Flask("backend_app")
    app.extensions["settings"] = held
    app.register_blueprint(api)
    app.register_blueprint(probes)
    app.before_request(enter)
    app.after_request(sign)
    app.teardown_request(leave)
    app.register_error_handler(404, not_found)
    app.register_error_handler(OutOfRangeError, out_of_range)
    return app


app = create_app(Settings.from_environment(os.environ))
