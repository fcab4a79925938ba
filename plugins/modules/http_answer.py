"""Ansible module: ask a URL from the host until it answers as wanted, for so many seconds.

What `uri` with until, retries and delay can't do: the limit is a time and not a number of tries, whatever one try
takes; a body that comes byte by byte is bounded too; and no proxy of the host's environment is asked. Runs with the
distribution's Python (3.9 or newer) and its standard library alone.
"""

from __future__ import annotations

import base64
import email.utils
import http.client
import io
import json
import os
import re
import socket
import ssl
import threading
import time
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

DOCUMENTATION = """
module: http_answer
short_description: Ask a URL until it answers as wanted
description:
  - Asks by HTTP, from the host, never through a proxy, and follows no redirect.
  - By https it asks for I(host), and takes any certificate. It says what is served, and not who vouches for it.
  - Waits by the monotonic clock; a try that hangs, or whose body drips, is cut off.
options:
  url: {description: "What is asked; http or https.", type: str, required: true}
  host: {description: "The request's Host header; without it, the URL's host.", type: str}
  unix_socket: {description: "Ask through this socket instead of the URL's host and port.", type: path}
  seconds: {description: "How long it may take until the answer is as wanted; 0 asks once.", type: float, default: 0}
  try_seconds: {description: "How long one try may take, its body included.", type: float, default: 3}
  status: {description: "The statuses wanted.", type: list, elements: int, default: [200]}
  content: {description: "The exact text wanted.", type: str}
  matches: {description: "Regular expressions, one or a list, all of which must be found in the text.", type: raw}
  headers: {description: "Headers that the answer must have, with these values.", type: dict, default: {}}
  time: {description: "A regular expression whose first group is a time in the text, in seconds since 1970.", type: str}
  time_max_age: {description: "So many seconds before the answer's own Date that time may be at most.", type: float}
  time_after: {description: "Files of the host; that time must not be before the last change of any.", type: list,
               elements: path, default: []}
  method: {description: "The request's method.", type: str, default: GET}
  send: {description: "Headers of the request.", type: dict, default: {}}
  body: {description: "The request's body; what is no string goes as JSON.", type: raw}
  username: {description: "The user, for basic authentication.", type: str}
  password: {description: "The user's password.", type: str}
  required: {description: "Fail where the answer is not as wanted in time.", type: bool, default: true}
author: [evenkeel]
"""
EXAMPLES = """
- name: Wait until the application is ready
  http_answer: {url: "http://10.0.0.11/readyz", seconds: 30, headers: {X-App-Version: "1.0"}}
"""
RETURN = """
answered: {description: "Whether the answer was as wanted.", type: bool, returned: always}
status: {description: "The last answer's status; 0 without an answer.", type: int, returned: always}
content: {description: "The last answer's text.", type: str, returned: always}
headers: {description: "The last answer's headers, by lower-case names.", type: dict, returned: always}
date: {description: "The last answer's Date in seconds since 1970; 0 without one.", type: float, returned: always}
msg: {description: "One sentence that says what came of it.", type: str, returned: always}
"""

# Between two tries.
_PAUSE_SECONDS = 0.25
# No page that is asked here is nearly as long; what is longer is not read into memory.
_MOST_BYTES = 8 * 1024 * 1024
_BROKE_OFF = "its answer broke off"
# So much of an answer is quoted.
_MOST_QUOTED = 200

Clock = Callable[[], float]


class ParameterError(Exception):
    """A parameter that can't be meant; its text is the sentence the operator reads."""


class NoAnswerError(Exception):
    """A try without a whole answer; its text says what happened, such as ``connection refused``."""


@dataclass(frozen=True)
class Answer:
    """A whole answer.

    Attributes:
        status: its HTTP status.
        content: its text.
        headers: its headers by lower-case names; what comes several times is joined by commas.
    """

    status: int
    content: str
    headers: Mapping[str, str]

    @property
    def date(self) -> float:
        """What it says of its own time, in seconds since 1970; 0 where that is nothing readable."""
        try:
            # Not strptime: month names of the locale are none of HTTP's.
            return email.utils.parsedate_to_datetime(self.headers.get("date", "")).timestamp()
        except (TypeError, ValueError):
            return 0


class _Bounded(io.RawIOBase):
    """A connection that ends at a time, however many little pieces arrive until then; speaks to http.client."""

    def __init__(self, connection: socket.socket, remaining: Clock) -> None:
        self._connection = connection
        self._remaining = remaining

    def sendall(self, data: bytes) -> None:
        self._connection.settimeout(self._remaining())
        self._connection.sendall(data)

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(self)

    def close(self) -> None:
        """Do nothing: http.client closes it twice, and who made the connection closes that."""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._connection.settimeout(self._remaining())
        return self._connection.recv_into(buffer)


def _resolve(host: str, port: int, seconds: float) -> list[Any]:
    """Return the addresses of ``host``; a look-up can't be cut off, so it is left behind where it takes too long."""
    found: list[Any] = []
    failed: list[OSError] = []

    def look_up() -> None:
        try:
            found.extend(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except OSError as error:
            failed.append(error)

    thread = threading.Thread(target=look_up, daemon=True)
    thread.start()
    thread.join(seconds)
    if failed:
        raise NoAnswerError(f"the name {host} is not known ({failed[0].strerror})")
    if not found:
        raise NoAnswerError(f"looking up {host} took too long")
    return found


def _port(url: urllib.parse.SplitResult) -> int:
    return url.port or (443 if url.scheme == "https" else 80)


def _secure(connection: socket.socket, name: str, remaining: Clock) -> socket.socket:
    """Return a connection with TLS on it; raises OSError."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    connection.settimeout(remaining())
    return context.wrap_socket(connection, server_hostname=name)


def _connect(url: urllib.parse.SplitResult, unix_socket: str | None, remaining: Clock) -> socket.socket:
    """Return a connection to the URL's host or to the Unix socket; raises OSError, NoAnswerError."""
    if unix_socket:
        ways = [(socket.AF_UNIX, unix_socket)]
    else:
        addresses = _resolve(str(url.hostname), _port(url), remaining())
        ways = [(address[0], address[4]) for address in addresses]
    for number, (family, target) in enumerate(ways, 1):
        connection = socket.socket(family, socket.SOCK_STREAM)
        try:
            connection.settimeout(remaining())
            connection.connect(target)
        except (OSError, NoAnswerError):
            connection.close()
            if number == len(ways):
                raise
        else:
            return connection
    raise NoAnswerError("it has no address")


def _request(parameters: Mapping[str, Any]) -> tuple[bytes | None, dict[str, str]]:
    """Return the request's body and headers."""
    headers = {"Connection": "close", "User-Agent": "evenkeel"}
    headers |= {name: str(value) for name, value in (parameters.get("send") or {}).items()}
    if parameters.get("host"):
        headers["Host"] = str(parameters["host"])
    if parameters.get("username") is not None:
        pair = f"{parameters['username']}:{parameters.get('password') or ''}"
        headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
    body = parameters.get("body")
    if body is None:
        return None, headers
    headers["Content-Type"] = "text/plain; charset=utf-8" if isinstance(body, str) else "application/json"
    return (body if isinstance(body, str) else json.dumps(body)).encode(), headers


def _exchange(
    connection: socket.socket, url: urllib.parse.SplitResult, parameters: Mapping[str, Any], remaining: Clock
) -> Answer:
    """Send the request over a connection and return the answer; raises NoAnswerError, OSError, HTTPException."""
    method = parameters.get("method") or "GET"
    body, headers = _request(parameters)
    link = http.client.HTTPConnection(str(url.hostname), _port(url))
    link.sock = _Bounded(connection, remaining)
    link.request(method, (url.path or "/") + (f"?{url.query}" if url.query else ""), body, headers)
    response = link.getresponse()
    content = response.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        raise NoAnswerError(f"its answer is longer than {_MOST_BYTES} bytes")
    # With a limit read() takes a body that broke off for a whole one.
    if response.length and method != "HEAD":
        raise NoAnswerError(_BROKE_OFF)
    said = {name.lower(): ", ".join(response.headers.get_all(name, [])) for name in response.headers}
    return Answer(response.status, content.decode(errors="replace"), said)


def _words(error: Exception, seconds: float) -> str:
    """Return in words what ended a try."""
    if isinstance(error, (TimeoutError, socket.timeout)):
        return f"no whole answer in {seconds:.3g} s"
    if isinstance(error, ssl.SSLError):
        return f"no TLS came about ({(error.reason or str(error)).lower().replace('_', ' ')})"
    if isinstance(error, http.client.RemoteDisconnected):
        return "the connection was closed without an answer"
    if isinstance(error, http.client.IncompleteRead):
        return _BROKE_OFF
    if isinstance(error, http.client.HTTPException):
        return f"what came is no HTTP ({type(error).__name__})"
    return str(getattr(error, "strerror", None) or error).lower()


def ask(parameters: Mapping[str, Any], seconds: float, clock: Clock = time.monotonic) -> Answer:
    """Ask once and return the answer.

    Args:
        parameters: the module's.
        seconds: how long it may take altogether.
        clock: tells seconds.

    Raises:
        NoAnswerError: there was no whole answer in time.
    """
    end = clock() + seconds

    def remaining() -> float:
        left = end - clock()
        if left <= 0:
            raise TimeoutError
        return left

    url = urllib.parse.urlsplit(parameters["url"])
    try:
        with _connect(url, parameters.get("unix_socket"), remaining) as connection:
            if url.scheme != "https":
                return _exchange(connection, url, parameters, remaining)
            with _secure(connection, str(parameters.get("host") or url.hostname), remaining) as secured:
                return _exchange(secured, url, parameters, remaining)
    except (OSError, http.client.HTTPException) as error:
        raise NoAnswerError(_words(error, seconds)) from None


def _quote(text: str) -> str:
    """Return a text's beginning in one line, in quotation marks."""
    line = " ".join(text.split())
    return json.dumps(line if len(line) <= _MOST_QUOTED else line[:_MOST_QUOTED] + "…", ensure_ascii=False)


def patterns(parameters: Mapping[str, Any]) -> list[str]:
    """Return what must be found in the text."""
    wanted = parameters.get("matches")
    return [] if wanted is None else [wanted] if isinstance(wanted, str) else list(wanted)


def _late(answer: Answer, parameters: Mapping[str, Any]) -> str:
    """Return what is wrong with the time that the text tells; empty where nothing is."""
    found = re.search(parameters["time"], answer.content, re.MULTILINE)
    try:
        told = float(found.group(1)) if found else None
    except ValueError:
        told = None
    if told is None:
        return f"its text has no time where {parameters['time']} looks for one"
    most = parameters.get("time_max_age")
    if most is not None and answer.date - told > most:
        return f"what it tells is {answer.date - told:.0f} s old"
    for path in parameters.get("time_after") or []:
        try:
            changed = os.stat(path).st_mtime  # noqa: PTH116 a path of the host
        except OSError as error:
            return f"{path} can't be looked at ({error.strerror})"
        if told < changed:
            return f"what it tells is older than {path}"
    return ""


def difference(answer: Answer, parameters: Mapping[str, Any]) -> str:
    """Return what of the answer is not as wanted, in words; empty where all is."""
    said = f"it said {answer.status} {_quote(answer.content)}"
    if answer.status not in (parameters.get("status") or [200]):
        return said
    content = parameters.get("content")
    if content is not None and answer.content != content:
        return f"{said} instead of {_quote(content)}"
    for pattern in patterns(parameters):
        if not re.search(pattern, answer.content, re.MULTILINE):
            return f"{said}, in which {pattern} is not found"
    for name, value in (parameters.get("headers") or {}).items():
        has = answer.headers.get(name.lower())
        if has != str(value):
            return f"it said {answer.status} with {name}: {has} instead of {value}"
    return _late(answer, parameters) if parameters.get("time") else ""


def check(parameters: Mapping[str, Any]) -> None:
    """Check the parameters.

    Raises:
        ParameterError: one of them can't be meant.
    """
    url = str(parameters["url"])
    try:
        parts = urllib.parse.urlsplit(url)
        known = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        known = False
    if not known or parts.username is not None or re.search(r"[\x00-\x20\x7f]", url):
        raise ParameterError(
            f"url is {_quote(url)}: give it as http://host:port/path, without spaces, user or password."
        )
    for pattern in [*patterns(parameters), *([parameters["time"]] if parameters.get("time") else [])]:
        try:
            groups = re.compile(pattern).groups
        except (re.error, TypeError) as error:
            raise ParameterError(f"{pattern} is no regular expression: {error}.") from None
        if pattern == parameters.get("time") and groups < 1:
            raise ParameterError(f"time is {pattern}: put what is the time into parentheses.")
    if parameters["seconds"] < 0 or parameters["try_seconds"] <= 0:
        raise ParameterError("seconds must not be below 0, and try_seconds must be above 0.")


def run(
    parameters: Mapping[str, Any], clock: Clock = time.monotonic, sleep: Callable[[float], None] = time.sleep
) -> dict[str, Any]:
    """Ask until the answer is as wanted or the time is over, and return the module's result.

    Args:
        parameters: the module's.
        clock: tells seconds.
        sleep: waits for seconds.

    Raises:
        ParameterError: a parameter can't be meant.
    """
    check(parameters)
    seconds, most = parameters["seconds"], parameters["try_seconds"]
    end = clock() + seconds
    answer, wrong = None, ""
    while True:
        bound = min(most, end - clock()) if seconds else most
        try:
            answer = ask(parameters, bound, clock)
            wrong = difference(answer, parameters)
        except NoAnswerError as error:
            # The last try, which the deadline cuts off, says nothing new.
            if bound == most or not wrong:
                answer, wrong = None, str(error)
        if not wrong or clock() + _PAUSE_SECONDS >= end:
            break
        sleep(_PAUSE_SECONDS)
    where = parameters["url"] + (f" at {parameters['unix_socket']}" if parameters.get("unix_socket") else "")
    within = f" within {seconds:g} s: last" if seconds else ":"
    answer_ = answer or Answer(0, "", {})
    return {
        "answered": not wrong,
        "status": answer_.status,
        "content": answer_.content,
        "headers": dict(answer_.headers),
        "date": answer_.date,
        "msg": f"{where} did not answer as wanted{within} {wrong}." if wrong else f"{where} answered {answer_.status}.",
    }


def main() -> None:
    """Ansible's entry point."""
    from ansible.module_utils.basic import AnsibleModule

    module = AnsibleModule(
        argument_spec={
            "url": {"type": "str", "required": True},
            "host": {"type": "str"},
            "unix_socket": {"type": "path"},
            "seconds": {"type": "float", "default": 0},
            "try_seconds": {"type": "float", "default": 3},
            "status": {"type": "list", "elements": "int", "default": [200]},
            "content": {"type": "str"},
            "matches": {"type": "raw"},
            "headers": {"type": "dict", "default": {}},
            "time": {"type": "str"},
            "time_max_age": {"type": "float"},
            "time_after": {"type": "list", "elements": "path", "default": []},
            "method": {"type": "str", "default": "GET"},
            "send": {"type": "dict", "default": {}},
            "body": {"type": "raw"},
            "username": {"type": "str"},
            "password": {"type": "str", "no_log": True},
            "required": {"type": "bool", "default": True},
        },
        supports_check_mode=True,
    )
    if module.check_mode and module.params["method"] not in {"GET", "HEAD"}:
        module.exit_json(
            skipped=True, answered=False, status=0, content="", headers={}, date=0, msg="Not in check mode."
        )
    try:
        result = run(module.params)
    except ParameterError as error:
        module.fail_json(msg=str(error))
    if module.params["required"] and not result["answered"]:
        module.fail_json(**result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
