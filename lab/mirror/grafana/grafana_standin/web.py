"""The HTTP side: the answers that the role, the tests and the project's tools ask Grafana for."""

from __future__ import annotations

import base64
import binascii
import html
import http.server
import json
import re
import secrets
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from grafana_standin import VERSION
from grafana_standin.dashboards import Dashboards
from grafana_standin.store import Store

_DATASOURCE_SECONDS = 5
_LARGEST_BODY = 1_000_000
_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Grafana stand-in</title>
<style>body {{ font-family: sans-serif; max-width: 42rem; margin: 4rem auto; line-height: 1.5 }}</style></head>
<body><h1>This is not Grafana</h1>
<p>It is a stand-in ({version}) for machines where Grafana's package can't be had. It takes Grafana's place so that its
installation can be tested here: it reads the same files, keeps the same password and answers the same questions. It
draws nothing.</p>
<p>Where Grafana's repository answers, the same playbook installs Grafana itself. The numbers are in Prometheus:
<code>{prometheus}</code></p>
</body></html>
"""


@dataclass(frozen=True)
class Question:
    """One request.

    Attributes:
        arguments: what the path's pattern caught.
        query: the query string's values by name.
        body: the JSON body, empty where there is none.
    """

    arguments: tuple[str, ...]
    query: dict[str, list[str]]
    body: dict[str, Any]

    def first(self, name: str, default: str = "") -> str:
        """Return a query parameter's first value."""
        return self.query.get(name, [default])[0]


@dataclass(frozen=True)
class Answer:
    """A status, what goes out as JSON (text goes out as a page), and further headers."""

    status: int
    content: object
    headers: dict[str, str] = field(default_factory=dict)


class Site:
    """The answers by method and path."""

    def __init__(self, store: Store, dashboards: Dashboards, anonymous: bool, plugins: Path | None = None) -> None:
        """Keep what the answers are made from.

        Args:
            store: the database.
            dashboards: the dashboards.
            anonymous: whether everyone may read.
            plugins: the folder that has a folder for each datasource's type; without it all are there.
        """
        self._store, self._dashboards, self._anonymous, self._plugins = store, dashboards, anonymous, plugins
        self._sessions: set[str] = set()
        self._open: list[tuple[str, str, Callable[[Question], Answer]]] = [
            ("GET", r"/(?:login)?", self._page),
            ("POST", r"/login", self._login),
            ("GET", r"/api/health", self._health),
        ]
        self._closed: list[tuple[str, str, Callable[[Question], Answer]]] = [
            ("GET", r"/api/user", lambda _: Answer(200, {"id": 1, "login": "admin", "isGrafanaAdmin": True})),
            ("GET", r"/api/datasources", lambda _: Answer(200, list(store.datasources().values()))),
            ("GET", r"/api/datasources/uid/([^/]+)", self._datasource),
            ("GET", r"/api/datasources/uid/([^/]+)/health", self._datasource_health),
            ("GET", r"/api/search", self._search),
            ("GET", r"/api/dashboards/uid/([^/]+)", self._dashboard),
            ("GET", r"/api/annotations", self._annotations),
            ("POST", r"/api/annotations", self._annotate),
            ("DELETE", r"/api/annotations/([0-9]+)", self._forget),
        ]

    def answer(self, method: str, path: str, question: Question, authorization: str, cookie: str) -> Answer:
        """Answer one request; ``authorization`` and ``cookie`` are the headers of that name."""
        for routes, closed in ((self._open, False), (self._closed, True)):
            for known, pattern, function in routes:
                match = re.fullmatch(pattern, path)
                if known != method or match is None:
                    continue
                if closed and (refusal := self._refusal(method, authorization, cookie)):
                    return Answer(401, {"message": refusal}, {"WWW-Authenticate": 'Basic realm="Grafana"'})
                return function(Question(match.groups(), question.query, question.body))
        return Answer(404, {"message": "Not found (the stand-in answers a part of Grafana's API only)"})

    def _refusal(self, method: str, authorization: str, cookie: str) -> str:
        """Return why a request is refused, or nothing."""
        kind, _, value = authorization.partition(" ")
        if kind.lower() == "basic":
            try:
                login, _, password = base64.b64decode(value, validate=True).decode().partition(":")
            except (binascii.Error, UnicodeDecodeError):
                return "Invalid Basic Auth Header"
            return "" if self._store.accepts(login, password) else "Invalid username or password"
        session = re.search(r"(?:^|;\s*)grafana_session=([0-9a-f]+)", cookie)
        if (session and session[1] in self._sessions) or (self._anonymous and method == "GET"):
            return ""
        return "Unauthorized"

    def _page(self, _: Question) -> Answer:
        urls = ", ".join(item["url"] for item in self._store.datasources().values())
        return Answer(200, _PAGE.format(version=VERSION, prometheus=html.escape(urls or "not set")))

    def _login(self, question: Question) -> Answer:
        if not self._store.accepts(str(question.body.get("user")), str(question.body.get("password"))):
            return Answer(401, {"message": "Invalid username or password"})
        session = secrets.token_hex(16)
        self._sessions.add(session)
        cookie = f"grafana_session={session}; Path=/; HttpOnly; SameSite=Lax"
        return Answer(200, {"message": "Logged in", "redirectUrl": "/"}, {"Set-Cookie": cookie})

    def _health(self, _: Question) -> Answer:
        self._store.datasources()
        return Answer(200, {"database": "ok", "version": VERSION, "commit": "stand-in"})

    def _datasource(self, question: Question) -> Answer:
        found = self._store.datasources().get(question.arguments[0])
        return Answer(200, found) if found else Answer(404, {"message": "Data source not found"})

    def _datasource_health(self, question: Question) -> Answer:
        found = self._store.datasources().get(question.arguments[0])
        if not found:
            return Answer(404, {"message": "Data source not found"})
        # Some packages of Grafana came without one; the datasource itself answers all the same.
        if self._plugins and not (self._plugins / found["type"] / "plugin.json").exists():
            return Answer(404, {"message": "Plugin not registered", "messageId": "plugin.notRegistered"})
        problem = ask(found["url"])
        if problem:
            return Answer(400, {"status": "ERROR", "message": problem})
        return Answer(200, {"status": "OK", "message": "Successfully queried the Prometheus API."})

    def _search(self, question: Question) -> Answer:
        words, tags = question.first("query").lower(), set(question.query.get("tag", []))
        if question.first("type", "dash-db") != "dash-db":
            return Answer(200, [])
        found = [
            {
                "id": number,
                "uid": uid,
                "title": item["title"],
                "url": f"/d/{uid}/{re.sub(r'[^a-z0-9]+', '-', item['title'].lower()).strip('-')}",
                "type": "dash-db",
                "tags": item.get("tags", []),
                "isStarred": False,
            }
            for number, (uid, item) in enumerate(sorted(self._dashboards.found.items()), start=1)
            if words in item["title"].lower() and tags <= set(item.get("tags", []))
        ]
        return Answer(200, found[: int(question.first("limit", "1000"))])

    def _dashboard(self, question: Question) -> Answer:
        found = self._dashboards.found.get(question.arguments[0])
        if not found:
            return Answer(404, {"message": "Dashboard not found"})
        return Answer(200, {"meta": {"provisioned": True, "canSave": False}, "dashboard": found})

    def _annotations(self, question: Question) -> Answer:
        first, last = int(question.first("from", "0")), int(question.first("to", str(2**62)))
        tags = set(question.query.get("tags", []))
        any_tag = question.first("matchAny") == "true"
        found = [
            item
            for item in self._store.annotations()
            if item["timeEnd"] >= first and item["time"] <= last
            if not tags or (tags & set(item["tags"]) if any_tag else tags <= set(item["tags"]))
        ]
        return Answer(200, found[: int(question.first("limit", "100"))])

    def _annotate(self, question: Question) -> Answer:
        body = question.body
        unknown = set(body) - {"dashboardUID", "panelId", "time", "timeEnd", "tags", "text"}
        if unknown or not body.get("text"):
            reason = f"unknown: {', '.join(sorted(unknown))}" if unknown else "text field should not be empty"
            return Answer(400, {"message": f"Failed to save annotation: {reason}"})
        begin = int(body.get("time") or time.time() * 1000)
        place = (str(body.get("dashboardUID", "")), int(body.get("panelId", 0)))
        number = self._store.annotate(
            begin, int(body.get("timeEnd") or begin), body.get("tags") or [], str(body["text"]), place
        )
        return Answer(200, {"id": number, "message": "Annotation added"})

    def _forget(self, question: Question) -> Answer:
        if self._store.forget(int(question.arguments[0])):
            return Answer(200, {"message": "Annotation deleted"})
        return Answer(404, {"message": "Annotation not found"})


def ask(url: str) -> str:
    """Ask a Prometheus for 1+1 and return what is wrong, or nothing."""
    try:
        # Not through a proxy of the environment.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"{url.rstrip('/')}/api/v1/query?query=1%2B1", timeout=_DATASOURCE_SECONDS) as answer:
            if json.load(answer).get("status") == "success":
                return ""
    except (OSError, ValueError) as error:
        return f"Prometheus at {url} does not answer: {error}"
    return f"Prometheus at {url} answers something else than success"


def handler(site: Site) -> type[http.server.BaseHTTPRequestHandler]:
    """Return the request handler of a site."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        server_version = f"grafana-standin/{VERSION}"

        def log_message(self, *_: object) -> None:
            """Stay quiet: Grafana logs no requests by default either."""

        def reply(self) -> None:
            """Answer whatever the method."""
            url = urllib.parse.urlsplit(self.path)
            try:
                length = int(self.headers.get("Content-Length") or 0)
                if length > _LARGEST_BODY:
                    raise ValueError("too large")
                body = json.loads(self.rfile.read(length) or b"{}")
                question = Question((), urllib.parse.parse_qs(url.query), dict(body))
                headers = self.headers
                answer = site.answer(
                    self.command, url.path, question, headers.get("Authorization") or "", headers.get("Cookie") or ""
                )
            except (ValueError, TypeError):
                answer = Answer(400, {"message": "bad request data"}, {"Connection": "close"})
            page = isinstance(answer.content, str)
            content = (str(answer.content) if page else json.dumps(answer.content)).encode()
            self.send_response(answer.status)
            self.send_header("Content-Type", "text/html; charset=utf-8" if page else "application/json")
            self.send_header("Content-Length", str(len(content)))
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_DELETE = reply  # noqa: N815 the base class asks for these names

    return Handler
