"""The Flask API, without a container."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from app import OutOfRangeError, Settings, create_app, parse_seconds, parse_whole_number
from flask.testing import FlaskClient
from prometheus_client import generate_latest
from werkzeug.test import TestResponse


@pytest.fixture
def client(tmp_path: Path) -> FlaskClient:
    settings = Settings(
        "backend-9", "1.2.3-abc", factorial_max=2000, sleep_max_seconds=1, drain_file=tmp_path / "drain"
    )
    return create_app(settings).test_client()


def body(answer: TestResponse) -> dict[str, Any]:
    """Return an answer's JSON."""
    found: dict[str, Any] = answer.get_json()
    return found


@pytest.mark.parametrize(
    "path", ["/", "/factorial/5", "/sleep/0/hello", "/healthz", "/readyz", "/factorial/x", "/nowhere"]
)
def test_every_answer_tells_date_host_and_version(client: FlaskClient, path: str) -> None:
    answer = client.get(path)
    assert answer.headers["X-Backend"] == body(answer)["host"] == "backend-9"
    assert answer.headers["X-App-Version"] == "1.2.3-abc"
    assert body(answer)["date"].endswith("+00:00")


def test_factorial_is_exact_beyond_pythons_own_print_limit(client: FlaskClient) -> None:
    assert body(client.get("/factorial/5"))["factorial"] == "120"
    assert body(client.get("/factorial/2000"))["factorial"] == str(math.factorial(2000))


def test_sleep_echoes_the_answer(client: FlaskClient) -> None:
    assert body(client.get("/sleep/0.01/hello"))["answer"] == "hello"


@pytest.mark.parametrize("text", ["-1", "2001", "1.5", "x", "", "9" * 5000, "\uff11"])
def test_bad_whole_numbers_are_refused(text: str) -> None:
    with pytest.raises(OutOfRangeError, match=r"^n must be a whole number from 0 to 2000\.$"):
        parse_whole_number(text, 2000)


@pytest.mark.parametrize("text", ["-1", "1.01", "nan", "inf", "1e0", "x", ""])
def test_bad_seconds_are_refused(text: str) -> None:
    with pytest.raises(OutOfRangeError, match=r"^seconds must be a number from 0 to 1\.$"):
        parse_seconds(text, 1)


@pytest.mark.parametrize("path", ["/factorial/-1", "/factorial/10000000", "/sleep/99999/x"])
def test_refusals_are_400_with_the_sentence(client: FlaskClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 400
    assert body(answer)["error"].endswith(".")


def test_host_that_goes_down_is_not_ready(tmp_path: Path) -> None:
    leaving = tmp_path / "leaving"
    client = create_app(Settings("b", "v", 7, 1, tmp_path / "drain", leaving)).test_client()
    assert client.get("/readyz").status_code == 200
    leaving.touch()
    assert client.get("/readyz").status_code == 404
    assert [client.get(path).status_code for path in ("/", "/healthz", "/factorial/5")] == [200, 200, 200]
    leaving.unlink()
    assert client.get("/readyz").status_code == 200


def test_unknown_path_is_404(client: FlaskClient) -> None:
    assert client.get("/nowhere").status_code == 404


def test_settings_come_from_the_environment() -> None:
    assert Settings.from_environment({"BACKEND_NAME": "b", "APP_VERSION": "v", "FACTORIAL_MAX": "7"}) == Settings(
        "b", "v", 7, 10, Path("/tmp/draining")
    )


def series() -> set[str]:
    """Return every combination of labels that is counted by now."""
    text = generate_latest().decode()
    return {line.rpartition(" ")[0] for line in text.splitlines() if line.startswith("backend_app_")}


def test_clients_requests_are_counted_and_probes_are_not(client: FlaskClient) -> None:
    for path in ("/", "/healthz", "/readyz"):
        client.get(path)
    counted = {each for each in series() if each.startswith("backend_app_requests_total")}
    assert 'backend_app_requests_total{endpoint="/",method="GET",status="200"}' in counted
    assert [each for each in series() if "/healthz" in each or "/readyz" in each] == []


@pytest.mark.parametrize(
    "invented",
    [
        lambda number: {"method": f"M{number}"},
        lambda number: {"path": f"/nowhere/{number}"},
        lambda number: {"path": f"/sleep/0/{number}"},
        lambda number: {"path": f"/factorial/{number}"},
        lambda number: {"path": "/", "query_string": {f"q{number}": "x"}},
        lambda number: {"path": "/", "headers": {f"X-Invented-{number}": "x", "Host": f"host-{number}"}},
        lambda number: {"path": "/", "method": f"M{number}", "headers": {"X-HTTP-Method-Override": f"N{number}"}},
    ],
)
def test_what_clients_invent_makes_no_series(client: FlaskClient, invented: Callable[[int], dict[str, Any]]) -> None:
    client.open(**invented(0))
    before = series()
    for number in range(1, 30):
        client.open(**invented(number))
    assert series() == before


def test_methods_that_are_none_are_counted_as_other(client: FlaskClient) -> None:
    client.open("/", method="BREW")
    assert any('method="other"' in line for line in series())
    assert not any("BREW" in line for line in series())
