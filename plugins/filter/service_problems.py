"""Filter that says what is wrong with the services' descriptions, besides the types of their values."""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

Service = Mapping[str, Any]

# HAProxy's sections, containers, units, folders and metrics carry it.
_NAME = re.compile(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?")
# HAProxy's other sections.
_RESERVED = {"site", "statistics"}
_HOST = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*")
_PATH = re.compile(r"(/[A-Za-z0-9._~!$&'()*+,;=:@%-]+)+|/")
_ALGORITHMS = "roundrobin|static-rr|leastconn|first|hash|source|uri|url_param|hdr|random|rdp-cookie"
# What HAProxy keeps of one address for longer is not worth its memory; and its counters end somewhere.
_MOST_SECONDS, _MOST_REQUESTS = 86_400, 1_000_000
# What these drivers know; of the others the engine says it.
_LOG_OPTIONS = {
    "json-file": {"max-size", "max-file", "compress", "labels", "labels-regex", "env", "env-regex", "tag"},
    "local": {"max-size", "max-file", "compress"},
}
_LOG_OPTIONS = {driver: known | {"mode", "max-buffer-size"} for driver, known in _LOG_OPTIONS.items()}
_METHODS = {"GET", "HEAD", "OPTIONS", "PUT", "DELETE", "POST", "PATCH"}
_KINDS: dict[str, Any] = {
    **dict.fromkeys(["image", "version", "group", "metrics", "sticky", "maintenance_page"], str),
    **dict.fromkeys(["port", "host_port", "surge_port"], int),
    **dict.fromkeys(["hosts", "paths", "allow", "deny"], (list, tuple)),
    **dict.fromkeys(["ready", "retry"], (Mapping, type(None))),
    **dict.fromkeys(["build", "rate_limit", "log", "tls"], Mapping),
    "answer_times": (list, tuple, type(None)),
    "balance": (str, type(None)),
}
# HAProxy sends an answer from one buffer of 16 kB, with its headers, and keeps 1 kB of that free.
_PAGE_BYTES = 14_000
# What HAProxy 2.6 can take for a failure.
_RETRIED = {401, 403, 404, 408, 425, 500, 501, 502, 503, 504}


def services_problems(
    hostvars: Mapping[str, Mapping[str, Any]], backends: Sequence[str], groups: Mapping[str, Sequence[str]]
) -> list[str]:
    """Return what is wrong with the services besides types, a sentence each that names service and key.

    Args:
        hostvars: Ansible's ``hostvars``, with ``topology_services_told`` of each backend.
        backends: the hosts.
        groups: Ansible's ``groups``.
    """
    said: dict[str, None] = {}
    firsts: dict[str, Any] = {}
    # Each look into Ansible's own costs as much as it has hosts.
    members = {str(name): frozenset(hosts) for name, hosts in groups.items()}
    for host in backends:
        try:
            services = list(hostvars[host]["topology_services_told"])
        except Exception:  # noqa: BLE001 - what can't be computed is said by settings_problems
            continue
        names = firsts.setdefault("", (host, [service["name"] for service in services]))
        if names[1] != [service["name"] for service in services]:
            said[
                f"{names[0]} and {host} have different services in site_services, but the balancers need one list: "
                "set it in group_vars/all.yml, and say with `group` which hosts a service has."
            ] = None
            continue
        # Of another type: settings_problems says so.
        sound = [service for service in services if _sound(service)]
        for service in sound:
            said |= dict.fromkeys(_service_problems(service, members))
            said |= dict.fromkeys(_differences(service, firsts.setdefault(service["name"], (host, service)), host))
        said |= dict.fromkeys(_together(sound))
    return list(said)


def _sound(service: Service) -> bool:
    """Return whether every value that is looked at here has its type."""
    if not all(isinstance(service[key], kinds) for key, kinds in _KINDS.items()):
        return False
    ready, retry, limits = service["ready"] or {}, service["retry"] or {}, service["answer_times"] or []
    ranges = service["allow"], service["deny"]
    lists = [service["hosts"], service["paths"], *ranges, retry.get("never", []), retry.get("methods") or []]
    return (
        all(isinstance(text, str) for texts in lists if isinstance(texts, list | tuple) for text in texts)
        and all(isinstance(texts, list | tuple) for texts in [*lists, retry.get("statuses", [])])
        and all(isinstance(limit, Mapping) and isinstance(limit.get("path"), str) for limit in limits)
        and all(isinstance(number, int) for number in (ready.get("status", 200), *_limits(service)))
        and all(isinstance(ready.get(key, ""), str) for key in ("path", "host"))
    )


def _limits(service: Service) -> Iterator[Any]:
    return (number for number in service["rate_limit"].values() if number is not None)


# What a balancer must know, which is one for all hosts.
_SHARED = (
    *("ready", "drain", "group", "hosts", "paths", "default", "retry", "answer_times", "timeout", "tunnel"),
    *("balance", "max_requests", "sticky", "rate_limit", "allow", "deny", "tls", "load", "metrics"),
    "maintenance_page",
)


# A registry's host, which has a dot or a port, and a path of small letters. Without a host it would be Docker Hub's.
_REPOSITORY = re.compile(r"(?=[^/]*[.:]|localhost/)[\w.-]+(:\d+)?(/[a-z0-9._-]+)+")
# Where the guide's API has it.
_GUIDES = {
    "hosts": "backend_app_hosts",
    "tls": "backend_app_tls_automatic",
    "build.registry": "backend_app_build_registry",
}


def _differences(service: Service, first: tuple[str, Service], host: str) -> Iterator[str]:
    for key in _SHARED:
        if service[key] != first[1][key]:
            said, mend = f"{service['name']}.{key}", "site_services"
            if service["guide"] and key in _GUIDES:
                said, mend = _GUIDES[key], "it"
            yield (
                f"{said} is not the same on {first[0]} and {host}, but the balancers need one: set {mend} in "
                "group_vars/all.yml."
            )


def _service_problems(service: Service, groups: Mapping[str, frozenset[str]]) -> Iterator[str]:
    name = f"site_services.{service['name']}"
    if not _NAME.fullmatch(service["name"]) or service["name"] in _RESERVED:
        yield (
            f"{name}: `{service['name']}` can't name a service: use at most 40 small letters, digits and `-`, "
            f"beginning with a letter, and none of {', '.join(sorted(_RESERVED))}."
        )
    if bool(service["image"]) == bool(service["build"]):
        what = "both image and build" if service["image"] else "neither image nor build"
        yield f"{name} has {what}: name the image, or the folder that it is built from."
    for key in ("port", "host_port"):
        if not 1 <= service[key] <= 65535:
            yield f"{name}.{key} is {service[key]}: set it to a number from 1 to 65535."
    if not 0 <= service["surge_port"] <= 65535:
        yield f"{name}.surge_port is {service['surge_port']}: set it to a number from 1 to 65535, or leave it out."
    yield from _image_problems(name, service)
    yield from _page_problems(name, service["maintenance_page"])
    yield from _group_problems(name, str(service["group"]), groups)
    yield from _ready_problems(name, service)
    yield from _request_problems(name, service)
    yield from _answer_problems(name, service)
    yield from _client_problems(name, service)
    yield from _log_problems(name, service["log"])
    # The guide's API says null, and means the role's own settings.
    yield from _retry_problems(name, service["retry"] or {"methods": [], "statuses": [], "never": []})


def _image_problems(name: str, service: Service) -> Iterator[str]:
    folder = service["build"].get("folder", "")
    if folder and not (Path(folder) / "Dockerfile").is_file():
        yield f"{name}.build.folder is {folder}, where no Dockerfile is: name a folder on this machine that has one."
    registry = service["build"].get("registry") or ""
    if registry and not _REPOSITORY.fullmatch(str(registry)):
        said = _GUIDES["build.registry"] if service["guide"] else f"{name}.build.registry"
        yield (
            f'{said} is "{registry}", which is no image\'s name in a registry: write '
            "registry.example.com/team/name, without a tag."
        )
    if service["image"] and not re.fullmatch(r"[\w.:/@-]+", service["image"]):
        yield f'{name}.image is "{service["image"]}", which is no reference: write registry/name:tag.'
    if service["version"] and not re.fullmatch(r"\w[\w.-]*|sha256:[0-9a-f]{64}", service["version"]):
        yield f'{name}.version is "{service["version"]}", which is neither a tag (1.5) nor a digest (sha256:...).'


def _page_problems(name: str, page: str) -> Iterator[str]:
    if not page:
        return
    try:
        text = Path(page).read_bytes()
        text.decode()
    except OSError as error:
        yield f"{name}.maintenance_page is {page}, which can't be read ({error.strerror}): name a file on this machine."
    except UnicodeDecodeError:
        yield f"{name}.maintenance_page is {page}, which is no text in UTF-8: save it as one."
    else:
        if not 0 < len(text) <= _PAGE_BYTES:
            yield (
                f"{name}.maintenance_page is {page}, with {len(text)} bytes: HAProxy can send one of 1 to "
                f"{_PAGE_BYTES}; link to pictures instead of holding them."
            )


def _group_problems(name: str, group: str, groups: Mapping[str, frozenset[str]]) -> Iterator[str]:
    if not groups.get(group):
        yield f"{name}.group is `{group}`, a group without hosts: name one that has some."
    strangers = sorted(groups.get(group, frozenset()) - groups.get("backends", frozenset()))
    if strangers:
        yield (
            f"{name}.group is `{group}`, and {', '.join(strangers)} of it is no backend: make `{group}` a child of the "
            "group `backends`."
        )


def _ready_problems(name: str, service: Service) -> Iterator[str]:
    ready = service["ready"]
    if ready is None:
        return
    if ready["path"] and not ready["path"].startswith("/"):
        yield f'{name}.ready.path is "{ready["path"]}": begin it with a slash.'
    elif re.search(r"[\s\"'#\\]", ready["path"]):
        yield f"{name}.ready.path is `{ready['path']}`, with a space, a quote, # or \\ in it: write %20 and the like."
    if ready["path"] and ready["command"]:
        yield f"{name}.ready has both path and command: one of them says when it is ready."
    if ready["path"] == "" and service["drain"] == "app":
        yield f"{name}.drain is `app`, which answers 404 on its readiness path: set ready.path, or leave drain out."
    if not 100 <= ready["status"] <= 599:
        yield f"{name}.ready.status is {ready['status']}, which is no HTTP status: write one from 100 to 599."
    elif service["drain"] == "app" and ready["status"] == 404:
        yield f"{name}.ready.status is 404, which means `drain me` where drain is `app`: leave drain out."


def _request_problems(name: str, service: Service) -> Iterator[str]:
    hosts = _GUIDES["hosts"] if service["guide"] else f"{name}.hosts"
    for host in service["hosts"]:
        if not _HOST.fullmatch(host.lower()):
            yield f'{hosts} has "{host}", which is no host name: write it without scheme, port, path and wildcard.'
    for path in service["paths"]:
        if not _PATH.fullmatch(path.rstrip("/") or "/"):
            yield (
                f'{name}.paths has "{path}", which is no beginning of a path: write it as /api, without host, query '
                "and wildcard."
            )
    if service["metrics"] and not service["metrics"].startswith("/"):
        yield f'{name}.metrics is "{service["metrics"]}": write its path, which begins with a slash.'
    if service["balance"] and not re.fullmatch(rf"({_ALGORITHMS})([( ][\w(),. -]+)?", service["balance"]):
        yield f'{name}.balance is "{service["balance"]}": write one of HAProxy\'s algorithms, such as roundrobin.'


def _answer_problems(name: str, service: Service) -> Iterator[str]:
    limits = service["answer_times"] or []
    for text in (service["ready"] or {}).get("host", ""), *(limit["path"] for limit in limits):
        if re.search(r"[\s\"'#]", text):
            yield f"{name} has `{text}` in ready.host or answer_times, with a sign that HAProxy can't read there."
    for limit in limits:
        if ("seconds" in limit) == ("seconds_field" in limit):
            yield f"{name}.answer_times: `{limit.get('path')}` needs either seconds or seconds_field."


def _client_problems(name: str, service: Service) -> Iterator[str]:
    # Names that begin with __ have a meaning of their own for browsers.
    if service["sticky"] and not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]{0,63}", service["sticky"]):
        yield (
            f'{name}.sticky is "{service["sticky"]}", which can\'t name a cookie: use at most 64 letters, digits, `-` '
            "and `_`, beginning with a letter."
        )
    limit = service["rate_limit"]
    if limit["seconds"] != 1 and not limit["requests"]:
        yield f"{name}.rate_limit has seconds and no requests: say how many a client may send in that time."
    if not 0 <= (limit["concurrent"] or 0) <= _MOST_REQUESTS:
        yield f"{name}.rate_limit.concurrent is {limit['concurrent']}: set it to a number from 0 to {_MOST_REQUESTS}."
    for key, low, high in (("requests", 0, _MOST_REQUESTS), ("seconds", 1, _MOST_SECONDS)):
        if not low <= limit[key] <= high:
            yield f"{name}.rate_limit.{key} is {limit[key]}: set it to a number from {low} to {high}."
    for key in ("allow", "deny"):
        for text in service[key]:
            wrong = _network_problem(text)
            if wrong:
                yield f'{name}.{key} has "{text}", which {wrong}: write an address or a network, as 192.0.2.0/24.'


def _log_problems(name: str, log: Mapping[str, Any]) -> Iterator[str]:
    options = log["options"]
    known = _LOG_OPTIONS.get(log["driver"])
    for option, value in options.items() if isinstance(options, Mapping) else ():
        where = f"{name}.log.options.{option}"
        if isinstance(value, Mapping | list | tuple | type(None)):
            yield f"{where} is no text: write it as one."
        elif known and option not in known:
            yield f"{where} is none of the driver {log['driver']}: it knows {', '.join(sorted(known))}."
        elif known and option == "max-size" and not re.fullmatch(r"[1-9]\d*[kmg]", str(value)):
            yield f"{where} is {value}: write a number and k, m or g, as 10m."
        elif known and option == "max-file" and not re.fullmatch(r"[1-9]\d*", str(value)):
            yield f"{where} is {value}: write a number from 1."


def _network_problem(text: str) -> str:
    """Return why HAProxy can't take a text for an address or a network; empty where it can."""
    # What Python knows besides: masks as addresses, zones.
    if not re.fullmatch(r"[0-9A-Fa-f:.]+(/[0-9]+)?", text):
        return "is no address and no network"
    try:
        ipaddress.ip_network(text)
    except ValueError as error:
        return "has bits set behind its network" if "host bits" in str(error) else "is no address and no network"
    return ""


def _retry_problems(name: str, retry: Mapping[str, Sequence[Any]]) -> Iterator[str]:
    for method in retry["methods"] or []:
        if method not in _METHODS:
            yield f"{name}.retry.methods has `{method}`, which is none of {', '.join(sorted(_METHODS))}."
    for status in retry["statuses"]:
        if status not in _RETRIED:
            known = ", ".join(map(str, sorted(_RETRIED)))
            yield f"{name}.retry.statuses has {status}, which HAProxy can't try again; it can: {known}."
    for pattern in retry["never"]:
        try:
            re.compile(pattern)
        except re.error as error:
            yield f'{name}.retry.never has "{pattern}", which is no regular expression: {error}.'
        if re.search(r"[\s\"'#]", pattern):
            yield f"{name}.retry.never has `{pattern}` with a space, a quote or # in it: write . or \\s for that."


def _together(services: Sequence[Service]) -> Iterator[str]:
    """Yield what is wrong between services."""
    defaults = [service["name"] for service in services if service["default"]]
    if len(defaults) > 1:
        yield (
            f"{' and '.join(defaults)} would both get what nobody else is asked for: give all but one of them "
            "`hosts` or `paths`."
        )
    cookies = [service["sticky"] for service in services if service["sticky"]]
    for cookie in dict.fromkeys(each for each in cookies if cookies.count(each) > 1):
        who = [f"site_services.{service['name']}" for service in services if service["sticky"] == cookie]
        yield f"{' and '.join(who)} have the same cookie, {cookie} (sticky): give each a name of its own."
    routes = [
        (route, _GUIDES["hosts"] if service["guide"] else f"site_services.{service['name']}")
        for service in services
        for route in service["routes"]
    ]
    for route, count in Counter(route for route, _ in routes).items():
        who = list(dict.fromkeys(said for each, said in routes if each == route))
        asked = route.rstrip("/") or "/"
        if len(who) > 1:
            yield f"{' and '.join(who)} both get what is asked as {asked} (hosts and paths): leave one of them out."
        elif count > 1:
            yield f"{who[0]} says {asked} twice (hosts and paths): leave one of them out."


def services_smallest(
    hostvars: Mapping[str, Mapping[str, Any]], backends: Sequence[str], groups: Mapping[str, Sequence[str]]
) -> int:
    """Return how many hosts the service has that has the fewest, of those that have several; for a roll-out's batch."""
    try:
        services = hostvars[backends[0]]["topology_services_told"]
        sizes = [len(groups.get(str(service["group"]), [])) for service in services]
    except Exception:  # noqa: BLE001 - services_problems and settings_problems say what is wrong
        sizes = []
    return min([size for size in sizes if size > 1], default=len(backends))


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {"services_problems": services_problems, "services_smallest": services_smallest}
