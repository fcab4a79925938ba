"""The CPU monitor: its arithmetic, and how it behaves before a Pushgateway that works, refuses, hangs or trickles."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cpu_monitor
import pytest
from cpu_monitor import CpuTimes, Gateway, Metrics, PushError, Settings, SettingsError, State
from prometheus_client import CollectorRegistry, generate_latest

PROGRAM = Path(cpu_monitor.__file__)
GROUP = "/metrics/job/cpu_usage/instance/backend-1"
ENVIRONMENT = {"CPU_MONITOR_INSTANCE": "backend-1", "CPU_MONITOR_PUSHGATEWAY_URL": "http://127.0.0.1:9091"}


@dataclass
class Stub:
    """A Pushgateway that notes what it is asked, with the client's port (one port is one connection)."""

    server: ThreadingHTTPServer
    status: int = 200
    requests: list[tuple[str, str, int]] = field(default_factory=list)
    bodies: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def methods(self) -> list[str]:
        """What it was asked, in order."""
        return [method for method, _, _ in self.requests]


@contextmanager
def stub(port: int = 0) -> Iterator[Stub]:
    """Run a stub until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            found.bodies.append(self.rfile.read(int(self.headers.get("Content-Length", 0))).decode())
            found.requests.append((self.command, self.path, self.client_address[1]))
            self.send_response(found.status if self.command == "PUT" else 200)
            self.send_header("Content-Length", "6")
            self.end_headers()
            self.wfile.write(b"a word")

        do_PUT = do_DELETE = do_GET  # noqa: N815 the names http.server calls

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        server.daemon_threads = True
        found = Stub(server)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield found
        server.shutdown()


@contextmanager
def silent() -> Iterator[socket.socket]:
    """Listen and never answer: connections come up, and what is sent waits in them, as at a paused container."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        yield listener


def gateway(url: str, timeout: float = 50) -> Gateway:
    return Gateway(Settings("backend-1", url, 60, timeout))


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, "never came true"
        time.sleep(0.02)


@contextmanager
def running(url: str, *arguments: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """Run the program itself, and end it with the block."""
    settings = {"CPU_MONITOR_INTERVAL": "0.5", "CPU_MONITOR_TIMEOUT": "0.49", "CPU_MONITOR_PUSHGATEWAY_URL": url}
    process = subprocess.Popen(
        [sys.executable, str(PROGRAM), *arguments],
        env=os.environ | ENVIRONMENT | settings | environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_cpu_times_are_read_from_the_first_line() -> None:
    # user nice system idle iowait irq softirq steal guest guest_nice
    stat = "cpu  100 20 30 1000 200 4 5 6 70 8\ncpu0 1 1 1 1 1 1 1 1 1 1\nintr 5\n"
    assert cpu_monitor.parse_cpu_times(stat) == CpuTimes(busy=100 + 20 + 30 + 4 + 5 + 6, idle=1000 + 200)


@pytest.mark.parametrize("stat", ["", "cpu0 1 2 3 4 5 6 7 8\n", "cpu  1 2 3\n", "cpu  a b c d e f g h\n"])
def test_any_other_text_is_no_reading(stat: str) -> None:
    with pytest.raises(ValueError, match=r"/proc/stat begins|invalid literal"):
        cpu_monitor.parse_cpu_times(stat)


@pytest.mark.parametrize(
    ("busy", "idle", "percent"),
    [(0, 100, 0), (100, 0, 100), (25, 75, 25), (0, 0, 0), (-3, 100, 0), (50, -2, 100)],
)
def test_percent_is_busy_ticks_of_all_ticks(busy: int, idle: int, percent: float) -> None:
    assert cpu_monitor.busy_percent(CpuTimes(1000, 5000), CpuTimes(1000 + busy, 5000 + idle)) == percent


@pytest.mark.parametrize(
    ("now", "tick"),
    [
        (100.0, 101.0),  # at the start: one interval later
        (100.999, 101.0),
        (101.0, 102.0),  # on a tick: that one is being served
        (101.4, 102.0),  # late: still where it always was
        (137.2, 138.0),  # 36 ticks missed: skipped, not caught up with
    ],
)
def test_ticks_stay_where_they_are(now: float, tick: float) -> None:
    assert cpu_monitor.next_tick(100.0, 1.0, now) == tick


def test_schedule_does_not_drift() -> None:
    now = start = 12345.678
    for _ in range(1000):
        # Waking and pushing take 30 ms every time; a loop of sleeps would end 30 s late.
        now = cpu_monitor.next_tick(start, 1.0, now) + 0.03
    assert now == pytest.approx(start + 1000 + 0.03)


def test_settings_come_from_the_environment() -> None:
    assert Settings.from_environment(ENVIRONMENT) == Settings("backend-1", "http://127.0.0.1:9091", 1, 0.5)
    given = {"CPU_MONITOR_INTERVAL": "2.5", "CPU_MONITOR_TIMEOUT": "2", "CPU_MONITOR_PUSHGATEWAY_URL": "http://a:1/b/"}
    assert Settings.from_environment(ENVIRONMENT | given) == Settings("backend-1", "http://a:1/b", 2.5, 2)


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("INSTANCE", "", "CPU_MONITOR_INSTANCE is empty: give this host's name."),
        *(
            (
                "PUSHGATEWAY_URL",
                url,
                f"CPU_MONITOR_PUSHGATEWAY_URL is '{url}': give a URL such as http://127.0.0.1:9091.",
            )
            for url in (
                "",
                "10.0.0.1:9091",
                "https://a",
                "http://",
                "http://a:x",
                "http://a/?b",
                "http://[a",
                "http://u@a",
            )
        ),
        *(
            ("INTERVAL", text, f"CPU_MONITOR_INTERVAL is '{text}': give a number of seconds.")
            for text in ("x", "", "nan", "inf")
        ),
        ("INTERVAL", "0", "CPU_MONITOR_INTERVAL is 0: give seconds from 0.1 to 3600."),
        ("INTERVAL", "4000", "CPU_MONITOR_INTERVAL is 4000: give seconds from 0.1 to 3600."),
        ("TIMEOUT", "x", "CPU_MONITOR_TIMEOUT is 'x': give a number of seconds."),
        *(
            (
                "TIMEOUT",
                text,
                f"CPU_MONITOR_TIMEOUT is {text}: give more than 0 and less than the interval of 1 s.",
            )
            for text in ("0", "-1", "1", "2")
        ),
    ],
)
def test_bad_setting_is_one_sentence(name: str, value: str, sentence: str) -> None:
    with pytest.raises(SettingsError) as error:
        Settings.from_environment(ENVIRONMENT | {f"CPU_MONITOR_{name}": value})
    assert str(error.value) == sentence


@pytest.mark.parametrize(
    ("arguments", "environment", "sentence"),
    [
        (
            [],
            {"CPU_MONITOR_TIMEOUT": "3"},
            "CPU_MONITOR_TIMEOUT is 3: give more than 0 and less than the interval of 1 s.",
        ),
        (["remember"], {}, "The only argument is `forget`, not 'remember'."),
    ],
)
def test_bad_call_ends_with_the_sentence_and_2(
    arguments: list[str], environment: dict[str, str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cpu_monitor.main(arguments, ENVIRONMENT | environment) == 2
    assert capsys.readouterr().err == f"cpu_monitor: {sentence}\n"


def test_log_speaks_only_when_the_state_changes() -> None:
    state = State()
    assert state.success() == ""
    assert state.failure("refused") == "pushes fail: refused; further failures are counted, not logged"
    assert [state.failure("refused"), state.failure("no answer")] == ["", ""]
    assert state.success() == "pushes succeed again; 3 failed"
    assert state.success() == ""


def test_exactly_three_series_are_pushed() -> None:
    metrics, registry = Metrics(), CollectorRegistry()
    metrics.cpu_usage, metrics.errors = 12.5, 3
    registry.register(metrics)
    lines = generate_latest(registry).decode().splitlines()
    assert [line.split()[0] for line in lines if not line.startswith("#")] == [
        "cpu_usage",
        "cpu_monitor_last_success_timestamp_seconds",
        "cpu_monitor_errors_total",
    ]
    assert "cpu_usage 12.5" in lines
    assert "cpu_monitor_errors_total 3.0" in lines
    assert "# TYPE cpu_monitor_errors_total counter" in lines


def test_pushes_replace_the_group_over_one_connection() -> None:
    with stub() as server:
        way = gateway(server.url)
        for _ in range(3):
            way.push(Metrics())
        way.delete()
        assert [request[:2] for request in server.requests] == [
            ("GET", "/-/ready"),
            ("PUT", GROUP),
            ("PUT", GROUP),
            ("PUT", GROUP),
            ("DELETE", GROUP),
        ]
        assert len({port for _, _, port in server.requests}) == 1
        assert "cpu_usage 0.0" in server.bodies[1]


def test_refused_push_tells_why() -> None:
    with stub() as server:
        server.status = 400
        with pytest.raises(PushError, match=f"^PUT {GROUP} was answered with 400 a word$"):
            gateway(server.url).push(Metrics())


def test_absent_gateway_is_an_error_and_its_return_is_none() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    way = gateway(f"http://127.0.0.1:{port}")
    for _ in range(2):
        with pytest.raises(PushError, match="refused"):
            way.push(Metrics())
    with stub(port) as server:
        way.push(Metrics())
        assert server.methods() == ["GET", "PUT"]


def test_silent_gateway_is_given_up_and_finds_no_pushes_when_it_wakes_up() -> None:
    with silent() as listener:
        way = gateway(f"http://127.0.0.1:{listener.getsockname()[1]}", timeout=1)
        for _ in range(3):
            with pytest.raises(PushError, match=r"^no answer within 1 s$"):
                way.push(Metrics())
        for _ in range(3):
            with listener.accept()[0] as connection:
                waiting = connection.makefile("rb").read()
                assert waiting.startswith(b"GET /-/ready ")
                assert b"PUT" not in waiting


def test_gateway_that_trickles_is_given_up_too() -> None:
    # Every byte comes well within a socket's timeout; only the whole is too slow.
    with silent() as listener:
        way = gateway(f"http://127.0.0.1:{listener.getsockname()[1]}", timeout=0.5)
        stop = threading.Event()

        def trickle() -> None:
            with listener.accept()[0] as connection:
                while not stop.wait(0.02):
                    connection.send(b"H")

        thread = threading.Thread(target=trickle, daemon=True)
        thread.start()
        with pytest.raises(PushError, match=r"^no answer within 0\.5 s$"):
            way.push(Metrics())
        stop.set()


def test_program_pushes_until_it_is_stopped_then_deletes_its_group() -> None:
    # Its one try to delete the group has to succeed on a busy machine too.
    patient = {"CPU_MONITOR_INTERVAL": "2", "CPU_MONITOR_TIMEOUT": "1.9"}
    with stub() as server, running(server.url, **patient) as process:
        until(lambda: server.methods().count("PUT") >= 2)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=120) == 0
        assert server.requests[-1][:2] == ("DELETE", GROUP)
        assert server.methods().count("DELETE") == 1
        values = [line.split()[1] for line in "\n".join(server.bodies).splitlines() if line.startswith("cpu_usage ")]
        assert values
        assert all(0 <= float(value) <= 100 for value in values)


def test_program_stops_before_a_silent_gateway() -> None:
    with silent() as listener, running(f"http://127.0.0.1:{listener.getsockname()[1]}") as process:
        assert process.stderr
        assert "pushing to" in process.stderr.readline()
        assert "pushes fail: no answer within 0.49 s" in process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=120) == 0
        # Nothing more, however many failed.
        assert process.stderr.read() == "cpu_monitor: the group was not deleted: no answer within 0.49 s\n"


def test_program_recovers_by_itself_and_tells_its_errors() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with running(f"http://127.0.0.1:{port}") as process:
        assert process.stderr
        process.stderr.readline()
        assert "refused" in process.stderr.readline()
        with stub(port) as server:
            until(lambda: "PUT" in server.methods())
            assert "pushes succeed again" in process.stderr.readline()
            errors = [
                line for line in "\n".join(server.bodies).splitlines() if line.startswith("cpu_monitor_errors_total")
            ]
            assert float(errors[0].split()[1]) >= 1


@pytest.mark.parametrize(("result", "asked"), [("signal", ["GET", "DELETE"]), ("success", [])])
def test_forgetting_is_for_monitors_that_could_not(result: str, asked: list[str]) -> None:
    patient = {"CPU_MONITOR_INTERVAL": "60", "CPU_MONITOR_TIMEOUT": "59"}
    with stub() as server, running(server.url, "forget", SERVICE_RESULT=result, **patient) as process:
        assert process.wait(timeout=120) == 0
        assert server.methods() == asked
