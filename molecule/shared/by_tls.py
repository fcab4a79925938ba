"""Two balancers with TLS before one small server that each has for itself, as their clients see them."""

from __future__ import annotations

import base64
import hashlib
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from scenario import PROJECT, Scenario, wait_until

from evenkeel.load.records import read
from evenkeel.load.summary import Summary, summarise

CONVERGE = "molecule/tls/converge.yml"
FOLDER = "/etc/haproxy/evenkeel-tls"
NAMES = ["tls-1", "tls-2"]
# Answers, and echoes as a WebSocket does that a browser opened.
SERVER = """
import base64, hashlib, http.server
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        key = self.headers.get("Sec-WebSocket-Key")
        if key:
            accept = base64.b64encode(hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest())
            self.send_response(101)
            self.send_header("Upgrade", "websocket")
            self.send_header("Connection", "Upgrade")
            self.send_header("Sec-WebSocket-Accept", accept.decode())
            self.end_headers()
            while data := self.connection.recv(1000):
                self.connection.sendall(data)
            self.close_connection = True
            return
        body = (self.headers.get("X-Forwarded-Proto", "-") + " " + str(self.headers.get("X-Evenkeel-Load"))).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    do_POST = do_GET
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer.request_queue_size = 128
http.server.ThreadingHTTPServer(("127.0.0.1", 9001), Handler).serve_forever()
"""


def serve(scenario: Scenario) -> None:
    """Have the server run on each balancer, and wait until it is served."""
    for name in NAMES:
        host = scenario.host(name)
        host.check_output("systemctl is-active --quiet server || systemd-run --unit=server python3 -c %s", SERVER)
        wait_until(lambda host=host: host.run("curl -sf http://127.0.0.1:9001/").rc == 0, "the server answers")  # type: ignore[misc]
    for address in scenario.addresses.values():
        wait_until(lambda address=address: answer(address, "shop.example.com")[0] == "200", "it serves")  # type: ignore[misc]


def shaken(address: str, name: str | None, **versions: ssl.TLSVersion) -> ssl.SSLSocket:
    """Return a connection on which a client asks for a name; raises ssl.SSLError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    for key, value in versions.items():
        setattr(context, key, value)
    return context.wrap_socket(socket.create_connection((address, 443), timeout=60), server_hostname=name)


def shown(address: str, name: str | None) -> bytes:
    """Return the certificate that a balancer shows for a name."""
    with shaken(address, name) as connection:
        return connection.getpeercert(True) or b""


def answer(address: str, name: str, path: str = "/", headers: str = "") -> tuple[str, str]:
    """Ask by TLS for a service and return status line's code and the whole answer."""
    with shaken(address, name) as connection:
        connection.sendall(f"GET {path} HTTP/1.0\r\nHost: {name}\r\n{headers}\r\n".encode())
        text = b"".join(iter(lambda: connection.recv(65536), b"")).decode()
    return text.split(" ")[1], text


@contextmanager
def websocket(address: str, name: str) -> Iterator[ssl.SSLSocket]:
    """Open a WebSocket to a service; the server sends back what it is sent."""
    key = base64.b64encode(os.urandom(16)).decode()
    with shaken(address, name) as connection:
        connection.sendall(
            f"GET /ws HTTP/1.1\r\nHost: {name}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
        )
        accept = base64.b64encode(hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest())
        assert accept in connection.recv(4096)
        yield connection


def processes(host: Any) -> list[str]:
    """Return the ids of HAProxy's processes: a reload makes another worker, and a restart others altogether."""
    return sorted(host.check_output("pgrep haproxy").split())


@contextmanager
def under_load(
    scenario: Scenario, folder: Path, scheme: str = "https", name: str = "shop.example.com"
) -> Iterator[dict[str, Summary]]:
    """Put load on each balancer; what came of it is in what is yielded, by balancer, once it has ended."""
    outcome: dict[str, Summary] = {}
    with ExitStack() as stack:
        for balancer, address in scenario.addresses.items():
            command = [
                sys.executable,
                "-m",
                "evenkeel.load",
                f"{scheme}://{address}",
                "--header",
                f"Host: {name}",
            ]
            command += ["--no-verify", "--mix", "GET /=9,POST /=1", "--rate", "50", "--duration", "200", "--quiet"]
            # What is late on a busy machine is not lost.
            command += ["--timeout", "60"]
            process = stack.enter_context(
                subprocess.Popen(
                    [*command, "--records", str(folder / balancer)],
                    env=os.environ | {"PYTHONPATH": str(PROJECT / "src")},
                    stdout=subprocess.DEVNULL,
                )
            )
            stack.callback(process.send_signal, signal.SIGINT)
        time.sleep(2)
        yield outcome
        time.sleep(2)
    outcome |= {name: summarise(read(folder / name)) for name in scenario.addresses}


def converge(scenario: Scenario, *arguments: str, wanted: int = 0) -> str:
    """Run the scenario's playbook and return its output; fails the test where it ends otherwise than wanted."""
    run = scenario.play(CONVERGE, *arguments)
    assert run.returncode == wanted, run.stdout
    return str(run.stdout)


def serves(address: str) -> bool:
    """Return whether a balancer serves by TLS."""
    try:
        return answer(address, "shop.example.com")[0] == "200"
    except OSError:
        return False
