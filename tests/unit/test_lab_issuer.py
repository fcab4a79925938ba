"""The lab's issuer of certificates: made once, trusted by what it was made with, and asked for its root."""

from __future__ import annotations

import http.server
import ipaddress
import ssl
import threading
from pathlib import Path

import pytest

from evenkeel.errors import EvenkeelError
from evenkeel.lab import images, issuer, settings
from evenkeel.lab.settings import Lab, host_list

SUBNET = ipaddress.IPv4Network("10.213.77.0/24")


class Engine:
    """Stands in for Docker: a container of it is a thread that serves a root with the certificate it was given."""

    def __init__(self) -> None:
        """Begin without a container."""
        self.image, self.made, self.server = "", 0, http.server.HTTPServer(("127.0.0.1", 0), Root)

    def succeeds(self, *_: str) -> bool:
        """Return whether there is a container."""
        return self.image != ""

    def remove(self, _: str) -> None:
        """Remove it."""
        self.image = ""

    def docker(self, command: str, *arguments: str) -> str:
        """Do what the client's commands do."""
        if command == "create":
            self.image, self.made = arguments[-1], self.made + 1
        if command == "cp":
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(arguments[0])
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
            threading.Thread(target=self.server.serve_forever, daemon=True).start()
        answers = {"container": self.image, "port": f"127.0.0.1:{self.server.server_port}"}
        return f"{answers.get(command, '')}\n"


class Root(http.server.BaseHTTPRequestHandler):
    """What Pebble says of its root."""

    text = "first root\n"

    def do_GET(self) -> None:
        """Answer."""
        self.send_response(200 if self.path == "/roots/0" else 404)
        self.end_headers()
        self.wfile.write(self.text.encode())

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Engine:
    monkeypatch.setattr(settings, "PROJECT", tmp_path)
    made = Engine()
    for name in ("docker", "succeeds", "remove"):
        monkeypatch.setattr(issuer, name, getattr(made, name))
    monkeypatch.setattr(images, "debian_base", lambda: "debian")
    monkeypatch.setattr(images, "build", lambda *_: "evenkeel/issuer:1")
    return made


def lab(**names: str) -> Lab:
    return Lab("lab", SUBNET, host_list(names, SUBNET, 2200, {}))


def test_issuer_is_made_once_and_its_roots_are_kept(stand_in: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    site = lab(balancer="balancers")
    variables = issuer.ensure_issuer(site)
    assert variables["acme_directory"] == "https://10.213.77.3:14000/dir"
    assert Path(str(variables["acme_ca_file"])).read_text().startswith("-----BEGIN CERTIFICATE-----")
    assert variables["backend_app_hosts"] == "{{ [] if site_services | default({}) else ['site.lab.test'] }}"
    assert (site.state / "issuer.pem").stat().st_mode & 0o77 == 0
    assert issuer.ensure_issuer(site) == variables
    # It was started again, and has another root.
    monkeypatch.setattr(Root, "text", "second root\n")
    issuer.ensure_issuer(site)
    assert stand_in.made == 1
    assert (site.state / "site-ca.pem").read_text() == "first root\nsecond root\n"


def test_lab_without_balancer_has_no_use_for_an_issuer(stand_in: Engine) -> None:
    with pytest.raises(EvenkeelError, match="A lab with TLS needs a host in the group `balancers`"):
        issuer.ensure_issuer(lab(one="backends"))
    assert stand_in.made == 0
