"""What Grafana is shown of a run."""

from __future__ import annotations

import http.server
import json
import threading
from pathlib import Path

import pytest

from evenkeel.chaos.run.annotate import annotate, describe
from evenkeel.errors import EvenkeelError

JOURNAL = {
    "fault": "poweroff",
    "target": "one",
    "verdict": "held",
    "injected_at": 1000.0,
    "marks": [{"name": "undone", "at": 20.0}, {"name": "undone", "at": 21.5}],
    "times": {"detected": 1.25, "recovered": 30.0},
}


def test_fault_is_a_span_and_what_follows_are_moments() -> None:
    fault, detected, recovered = describe(JOURNAL)
    assert fault == {
        "time": 1_000_000,
        "timeEnd": 1_021_500,
        "tags": ["fault"],
        "text": "Fault: poweroff at one (held)",
    }
    assert (detected["time"], detected["text"]) == (1_001_250, "Detected: poweroff at one")
    assert (recovered["time"], recovered["tags"]) == (1_030_000, ["fault"])


def test_what_never_happened_is_not_shown() -> None:
    never = {**JOURNAL, "marks": [], "times": {"detected": None, "recovered": None}}
    (fault,) = describe(never)
    assert "timeEnd" not in fault


def test_absent_grafana_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "journal.json").write_text(json.dumps(JOURNAL))
    with pytest.raises(EvenkeelError, match="gives no answer"):
        annotate(tmp_path, "http://127.0.0.1:9", "secret")


def test_operators_proxy_is_not_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Nobody listens there: whoever asks it gets no answer.
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    (tmp_path / "journal.json").write_text(json.dumps(JOURNAL))

    class Grafana(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Stay quiet."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Grafana) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        assert annotate(tmp_path, f"http://127.0.0.1:{server.server_port}", "secret") == 3
        server.shutdown()
