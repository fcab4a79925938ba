"""Filters that check what was set, for every host and every role, before a run touches the first host.

What there is to set is read from ``meta/argument_specs.yml`` of the roles and of the playbooks. Only values that
somebody has set are looked at; the roles' defaults are held right by the tests.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import difflib
import functools
import ipaddress
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

Option = Mapping[str, Any]

PROJECT = Path(__file__).resolve().parents[2]
# What a value may be computed from: the facts that site.yml gathers, before it has done so.
_LATER_FACTS = {
    **dict.fromkeys(
        ["distribution_file_variety", "distribution_file_path", "fqdn", "domain", "kernel", "nodename"], "x"
    ),
    **dict.fromkeys(["hostname", "kernel_version", "machine_id", "python_version", "distribution_minor_version"], "1"),
    "distribution": "Debian",
    "distribution_release": "trixie",
    "distribution_version": "13",
    "distribution_major_version": "13",
    "os_family": "Debian",
    "system": "Linux",
    "architecture": "x86_64",
    "machine": "x86_64",
    "userspace_architecture": "x86_64",
    "userspace_bits": "64",
}
# Times as each program takes them: the pattern, and an example of every unit.
_TIMES = {
    "haproxy": (r"\d+(us|ms|s|m|h|d)", "us, ms, s, m, h or d"),
    "prometheus": (r"(?=\d)(\d+y)?(\d+w)?(\d+d)?(\d+h)?(\d+m)?(\d+s)?(\d+ms)?", "ms, s, m, h, d, w or y"),
    "grafana": (r"\d+(ms|s|m|h|d|w|M|y)", "ms, s, m, h, d, w, M or y"),
}
_TIME = (r"\d+(ms|s|m|h|d)", "ms, s, m, h or d")
_SIZES = {"prometheus": (r"\d+([KMGTPE]?B)", "B, KB, MB, GB, TB, PB or EB")}
_SIZE = (r"\d+([kKmMgG]i?[bB]?|[bB])", "k, m or g")
# HAProxy keeps a time in milliseconds in 31 bits.
_HAPROXY_UNITS = {"us": 0.001, "ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_PROMETHEUS_UNITS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_PROMETHEUS_UNITS["y"] = 31_536_000_000
# Numbers that have other bounds than most: not negative, and 1 to 65535 for a port.
_BOUNDS: dict[str, tuple[float, float]] = {
    "backend_app_threads": (1, 4096),
    "chaos_rate": (0.01, 100_000),
    "chaos_timeout": (0.001, 3600),
    "cpu_monitor_interval": (0.1, 3600),
    "cpu_monitor_timeout": (0.001, 3600),
    "haproxy_check_fall": (1, 1000),
    "haproxy_check_rise": (1, 1000),
    "haproxy_maxconn": (1, 10_000_000),
    "haproxy_retries": (0, 100),
    "haproxy_server_maxconn": (0, 10_000_000),
}
# Tags under which somebody publishes the next image as well.
_MOVING = {"", "current", "dev", "develop", "edge", "head", "latest", "lts", "main", "master", "nightly", "rolling"}
_MOVING |= {"snapshot", "stable", "testing", "unstable"}
# A tag or a digest.
VERSION = r"\w[\w.-]*|sha256:[0-9a-f]{64}"
# Settings of the guide's API, which runs where nothing is described.
_GUIDES = ("version", "image", "port", "workers", "threads", "keepalive_seconds", "factorial_max", "sleep_max_seconds")
# Of these, empty ones say nothing: `make lab TLS=yes` leaves them so.
_GUIDES_GIVEN = ("hosts", "tls_automatic", "build_registry")
_GROUPS = ("backends", "balancers", "monitoring")
# What playbooks take with -e besides what their argument_specs have.
_WORDS = {"remove", "service", "version"}
# What Ansible itself reads of a host: how it gets there and becomes root.
_CONNECTION = {
    *("ansible_connection", "ansible_host", "ansible_password", "ansible_port", "ansible_private_key_file"),
    *("ansible_python_interpreter", "ansible_remote_tmp", "ansible_shell_executable", "ansible_shell_type"),
    *("ansible_timeout", "ansible_user", "ansible_user_id"),
    *(f"ansible_become{name}" for name in ("", "_exe", "_flags", "_method", "_pass", "_password", "_user")),
    *(
        f"ansible_ssh_{name}"
        for name in ("args", "common_args", "executable", "extra_args", "host", "pass", "password")
    ),
    *(f"ansible_ssh_{name}" for name in ("pipelining", "port", "private_key_file", "retries", "timeout", "user")),
    *(f"ansible_sudo_{name}" for name in ("exe", "flags", "pass")),
}
# Longer names are no host names for the kernel.
_HOST_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
_ALGORITHMS = (
    r"(roundrobin|static-rr|leastconn|first|hash|source|uri|url_param|hdr|random|rdp-cookie)([( ][\w(),. -]+)?"
)
# Of these the filter site_problems says where two are one.
_PAIRED = {"backend_app_port", "pushgateway_port", "haproxy_bind_port", "haproxy_stats_port", "prometheus_port"}
_PAIRED |= {"grafana_port", "backend_app_agent_port"}
# What settings of former releases began with, and begin with now.
_FORMER = {"rolling_swap_": "rolling_update_"}


def options() -> dict[str, dict[str, Option]]:
    """Return ``{role: {variable: its specification}}`` of all roles, and of what the playbooks themselves read."""
    found: dict[str, dict[str, Option]] = {}
    for path in sorted(PROJECT.glob("roles/*/meta/argument_specs.yml")):
        found[path.parents[1].name] = _yaml(path)["argument_specs"]["main"].get("options") or {}
    for name, entry in _yaml(PROJECT / "playbooks" / "meta" / "argument_specs.yml")["argument_specs"].items():
        found[name] = entry["options"]
    return {role: {name: _with_default(option) for name, option in entries.items()} for role, entries in found.items()}


def _with_default(option: Option) -> Option:
    """Return an option whose default is another role's time with what that is where it is not set."""
    absent = re.fullmatch(r"\{\{ \w+ \| default\('(\d+[a-z]+)'\) \}\}", str(option.get("default")))
    return {**option, "default": absent[1]} if absent else option


def unit(role: str, name: str, option: Option, known: Mapping[str, Option]) -> tuple[str, str] | None:
    """Return the pattern of a time or a size and its units in words; None for what is neither.

    The default says it: ``30s`` is a time, ``10GB`` a size. A default that is another option's value
    counts as that one.

    Args:
        role: whose option it is.
        name: the option's name.
        option: its specification.
        known: all options of the role.
    """
    default = option.get("default") or option.get("example")
    follows = re.fullmatch(r"\{\{ *(\w+) *\}\}", default) if isinstance(default, str) else None
    if follows and follows[1] in known and follows[1] != name:
        return unit(role, follows[1], known[follows[1]], known)
    if option["type"] != "str" or not isinstance(default, str) or not re.fullmatch(r"\d+[A-Za-z]{1,3}", default):
        return None
    if re.search(r"size|memory|bytes", name) or default.endswith(("B", "b")):
        return _SIZES.get(role, _SIZE)
    return _TIMES.get(role, _TIME)


def settings_problems(
    hostvars: Mapping[str, Mapping[str, Any]], places: Mapping[str, Sequence[str]], names: Sequence[str]
) -> list[str]:
    """Return what is wrong with what was set, a sentence each with host, variable, value and mend.

    Args:
        hostvars: Ansible's ``hostvars``.
        places: the hosts on which each role's settings count, by role; `["localhost"]` for what runs here.
        names: every host of the inventory.
    """
    return _Settings(hostvars, places, [*names, "localhost"]).problems()


def version_problem(version: object, moving: object) -> str:
    """Return what is wrong with ``-e version=``, a sentence; empty where nothing is, or where none was said.

    Args:
        version: a tag or a digest.
        moving: whether a tag that moves is allowed (``preflight_moving_tags``).
    """
    if not isinstance(version, str):
        return f"version is {version}, which is no text: write -e version=1.5, or put it in quotes."
    if version and not re.fullmatch(VERSION, version):
        return f"version is `{version}`, which is neither a tag (1.5) nor a digest (sha256:...)."
    if version and version.lower() in _MOVING and str(moving).lower() not in {"true", "yes", "1", "on"}:
        return f"version is `{version}`, which moves: name one that stays, or a digest (or set preflight_moving_tags)."
    return ""


# Molecule skips these in every run, whatever a playbook has.
_SKIPPED_ANYHOW = {"notest", "molecule-notest", "molecule-idempotence-notest"}


def run_problems(
    tags: Mapping[str, Sequence[str]], limit: str, hosts: Sequence[str], groups: Mapping[str, Sequence[str]], needs: str
) -> list[str]:
    """Return why a run with such tags and such a limit would do nothing, or not what was meant, a sentence each.

    Args:
        tags: ``run`` and ``skip`` as they were given, and ``known``, those the playbook has.
        limit: what ``--limit`` says; empty without.
        hosts: the hosts that it leaves.
        groups: Ansible's ``groups``.
        needs: the group without which there is nothing to do; empty where any host of the site will do.
    """
    problems = []
    known = list(tags["known"])
    special = {"all", "tagged"} if known else {"all"}
    for option, given, fine in (("--tags", tags["run"], special), ("--skip-tags", tags["skip"], _SKIPPED_ANYHOW)):
        unknown = [tag for tag in given if tag not in fine and tag not in known]
        if unknown:
            there = f"there are {', '.join(known)}" if known else "it has none, and always runs as a whole"
            problems.append(f"This playbook has no tag `{'`, `'.join(unknown)}` ({option}): {there}.")
    if limit:
        terms = [term.lstrip("!&") for term in re.split(r"[,:](?![^\[]*\])", limit)]
        plain = [term for term in terms if re.fullmatch(r"[\w.-]+", term)]
        every = {*groups, *groups.get("all", []), "localhost", "all"}
        problems += [
            f"--limit names `{term}`, which is no host and no group{_hint(term, every)}: write it right."
            for term in plain
            if term not in every
        ]
        wanted = [needs] if needs else list(_GROUPS)
        left = set(hosts) & {host for group in wanted for host in groups.get(group, [])}
        if not left and not problems:
            what = f"every host of the group `{needs}`" if needs else "every host of the site"
            problems.append(f"--limit {limit} leaves out {what}, so there would be nothing to do: limit to others.")
    return problems


class _Settings:
    """The settings of every host, looked at once."""

    def __init__(
        self, hostvars: Mapping[str, Mapping[str, Any]], places: Mapping[str, Sequence[str]], names: Sequence[str]
    ) -> None:
        self.hostvars = hostvars
        # Each look into Ansible's own lists costs as much as they have hosts.
        self.places = {role: dict.fromkeys(hosts) for role, hosts in places.items()}
        self.names = dict.fromkeys(names)
        raw_get = getattr(hostvars, "raw_get", None) or hostvars.__getitem__
        self.raw: dict[str, Mapping[str, Any]] = {name: raw_get(name) for name in self.names}
        self.options = options()
        self.known = {name: role for role, entries in self.options.items() for name in entries}
        # By sentence: the hosts it is said of. "{hosts}" stands where they go.
        self.said: dict[str, dict[str, None]] = {}
        self.templars: dict[tuple[str, str], Any] = {}

    def problems(self) -> list[str]:
        for role, entries in self.options.items():
            for host in self.places.get(role, self.names):
                for name in entries:
                    if name in self.raw.get(host, {}):
                        self._check(role, name, host)
        for host in self.names:
            if host != "localhost" and "ansible_host" in self.raw[host]:
                self._check_address(host)
            if host in self.places.get("backend_app", {}):
                self._check_host_name(host)
            self._check_names(host)
            if host != "localhost":
                self._check_ports(host)
        self._check_command_line()
        self._check_places()
        self._check_patience()
        self._check_scrapes()
        self._check_guide()
        return [sentence.replace("{hosts}", self._hosts(hosts)) for sentence, hosts in self.said.items()]

    def _hosts(self, said_of: Iterable[str]) -> str:
        hosts = list(said_of)
        if len(hosts) > 1 and set(hosts) >= set(self.names) - {"localhost"}:
            return "every host"
        shown = hosts if len(hosts) <= 4 else [*hosts[:3], f"{len(hosts) - 3} more"]
        return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"

    def _say(self, host: str, sentence: str) -> None:
        self.said.setdefault(sentence, {})[host] = None

    def _value(self, host: str, name: str) -> tuple[Any, bool]:
        """Return a setting's value on a host, and whether it is made of facts that are not known yet."""
        raw = self.raw[host][name]
        if not _may_be_template(raw):
            return raw, False
        from ansible.parsing.dataloader import DataLoader
        from ansible.template import Templar

        role = self.known.get(name, "")
        if (host, role) not in self.templars:
            facts = {**_LATER_FACTS, **(self.raw[host].get("ansible_facts") or {})}
            variables = {**_role_variables(), **self.raw[host], "ansible_facts": facts, "hostvars": self.hostvars}
            variables["role_path"] = str(PROJECT / "roles" / role)
            self.templars[host, role] = Templar(loader=DataLoader(), variables=variables)
        return self.templars[host, role].template(raw), "ansible_facts" in str(raw)

    def _check(self, role: str, name: str, host: str) -> None:
        option = self.options[role][name]
        try:
            value, later = self._value(host, name)
            # What is made of a stand-in says nothing.
            found = (
                []
                if later
                else list(_value_problems(name, option, value, unit(role, name, option, self.options[role])))
            )
        except Exception as error:  # noqa: BLE001 - a lookup may raise whatever it likes
            self._say(host, f"{name} of {{hosts}} can't be computed: {_reason(error)}.{_advice(name)}")
            return
        if not found and name.endswith("_image") and not later:
            found = self._image_problems(host, name, value)
        if not found and not later:
            found = _validator_problems(role, name, option, value)
        if name == "site_services":
            found = list(_value_problems(name, option, value, None)) + self._services_problems(host, value)
            if later:
                found.append(
                    "site_services of {hosts} is made of ansible_facts, which deploy.yml and rollback.yml do not have: "
                    "write the values themselves."
                )
        for text in found:
            self._say(host, text)

    def _check_address(self, host: str) -> None:
        try:
            self._value(host, "ansible_host")
        except Exception as error:  # noqa: BLE001 - as above
            self._say(
                host, f"ansible_host of {{hosts}} can't be computed: {_reason(error)}.{_advice('service_address')}"
            )

    def _check_host_name(self, host: str) -> None:
        name = str(self._allowed(host, "backend_app_name", host))
        if not _HOST_NAME.fullmatch(name):
            self._say(
                host,
                f"The containers of {{hosts}} would have the host name `{name}`, which the kernel refuses: set "
                "backend_app_name to one of at most 63 letters, digits, `.` and `-`.",
            )

    def _image_problems(self, host: str, name: str, reference: Any, said: Any = None) -> list[str]:
        value = reference if said is None else said
        tag = image_tag(str(reference))
        if tag not in _MOVING or not value or self._allowed(host, "preflight_moving_tags", False):
            return []
        what = f"has the tag `{tag}`, which moves" if tag else "has no tag, which means `latest`, and that moves"
        return [
            f"{name} of {{hosts}} is `{value}`; it {what}: hosts that have fetched it once never fetch what comes "
            "after it. Name a tag that stays or a digest (or set preflight_moving_tags: true, and know it)."
        ]

    def _check_guide(self) -> None:
        """Say which settings of the guide's API count for nothing, since it does not run."""
        for host in self.places.get("services", {}):
            if self._allowed(host, "site_services", {}):
                given = [name for name in _GUIDES_GIVEN if self._allowed(host, f"backend_app_{name}", "")]
                for name in (*_GUIDES, *given):
                    if f"backend_app_{name}" in self.raw[host]:
                        self._say(
                            host,
                            f"backend_app_{name} is set for {{hosts}} and counts for the guide's API alone, which does "
                            "not run beside site_services: remove it, or say it in the service's description.",
                        )

    def _services_problems(self, host: str, services: Any) -> list[str]:
        """Return which services would never fetch what comes after, and what their containers can't be given."""
        found: list[str] = []
        for name, service in services.items() if isinstance(services, Mapping) else ():
            if not isinstance(service, Mapping):
                continue
            key = "version" if service.get("version") else "image"
            reference = f"x:{service['version']}" if key == "version" else str(service.get("image", ""))
            found += _inner_problems(f"site_services.{name}", service)
            # What is built here has a tag of its own.
            if not service.get("build"):
                found += self._image_problems(host, f"site_services.{name}.{key}", reference, service.get(key, ""))
        return found

    def _allowed(self, host: str, name: str, default: Any) -> Any:
        try:
            return self._value(host, name)[0] if name in self.raw[host] else default
        except Exception:  # noqa: BLE001 - what is wrong with it is said of itself
            return default

    def _check_names(self, host: str) -> None:
        for name in self.raw[host]:
            if name in self.known:
                continue
            meant = _meant(name, tuple(self.known))
            if meant is None:
                continue
            if name in self._allowed(host, "preflight_other_names", []) or self._used(host, name) or _is_fact(name):
                continue
            self._say(
                host,
                f"{name} is set for {{hosts}}, and there is no such setting{meant}, or remove it. A name that belongs "
                "to something else goes into preflight_other_names.",
            )

    def _check_command_line(self) -> None:
        """Say which words of `-e` nobody reads."""
        host = next((name for name in self.names if name != "localhost"), "localhost")
        told = " ".join(self.said)
        for name in _given():
            if name in self.known or name in _WORDS or name.startswith(("ansible_", "__")) or f"{name} is set" in told:
                continue
            if name.startswith("topology_"):
                self._say(host, f"{name} is given with -e, but it is computed from the inventory: leave it out.")
            elif name not in self._allowed(host, "preflight_other_names", []) and not self._used(host, name):
                near = _near(name, (*self.known, *_WORDS), 0.7)
                hint = f" ({near} is meant?)" if near else ""
                self._say(
                    host,
                    f"{name} is given with -e, and nothing reads it{hint}: leave it out, or write it right. A name "
                    "that belongs to something else goes into preflight_other_names.",
                )

    def _check_ports(self, host: str) -> None:
        """Say which ports are SSH's, and which are one with another role's."""
        raw = self.raw[host]
        # Where SSH goes another way than the site, nothing is known but its usual port.
        direct = str(raw.get("service_address", "")) in {"", str(raw.get("ansible_host", ""))}
        ssh = {"22", str(raw.get("ansible_port", 22))} if direct else {"22"}
        for port, names in self._ports(host).items():
            for name in names if str(port) in ssh else ():
                self._say(host, f"{name} of {{hosts}} is {port}, where SSH listens: set it to another port.")
            # Those of services are told with the paired ones.
            new = [name for name in names if name not in _PAIRED and "." not in name]
            if port and new and len(names) > 1:
                self._say(host, f"{' and '.join(names)} of {{hosts}} are both {port}: set one of them to another port.")

    def _ports(self, host: str) -> dict[int, list[str]]:
        """Return the settings by port; 0 is none."""
        held: dict[int, list[str]] = {}
        services = bool(self._allowed(host, "site_services", {}))
        for role, entries in self.options.items():
            for name, option in entries.items() if host in self.places.get(role, {}) else ():
                if name.endswith("_port") and not (services and name == "backend_app_port"):
                    text = str(self._allowed(host, name, option.get("default")))
                    held.setdefault(int(text) if re.fullmatch(r"\d{1,5}", text) else 0, []).append(name)
        with contextlib.suppress(Exception):  # services_problems says what is wrong with them
            for service in self.hostvars[host]["topology_services_told"] if services else ():
                for key in ("host_port", "surge_port"):
                    held.setdefault(int(service[key]), []).append(f"site_services.{service['name']}.{key}")
        return held

    def _check_scrapes(self) -> None:
        for host in self.places.get("prometheus", {}):
            interval, timeout = (self._duration(host, f"prometheus_scrape_{name}") for name in ("interval", "timeout"))
            if timeout > interval > 0:
                self._say(
                    host,
                    "prometheus_scrape_timeout of {hosts} is longer than prometheus_scrape_interval, which Prometheus "
                    "refuses: set it to at most that.",
                )

    def _duration(self, host: str, name: str) -> float:
        """Return a time of Prometheus' in milliseconds; 0 where it is none."""
        option = self.options.get("prometheus", {}).get(name, {})
        value = str(self._allowed(host, name, option.get("default", "")))
        return sum(int(number) * _PROMETHEUS_UNITS[unit] for number, unit in re.findall(r"(\d+)(ms|[smhdwy])", value))

    def _used(self, host: str, name: str) -> bool:
        """Return whether another variable of the host is made of this one."""
        word = re.compile(rf"\b{re.escape(name)}\b")
        return any(
            word.search(str(value))
            for other, value in self.raw[host].items()
            if other != name and _may_be_template(value)
        )

    def _check_places(self) -> None:
        for name, role in self.known.items():
            hosts = [host for host in self.names if name in self.raw[host]]
            there = self.places.get(role, self.names)
            if hosts and there and not set(hosts) & set(there):
                text = f"{name} is set for {{hosts}}, where nothing reads it: it counts on {self._hosts(there)}"
                for host in hosts:
                    self._say(host, f"{text}. Set it there, or for all.")

    def _check_patience(self) -> None:
        """Say where HAProxy gives up before our own application may answer."""
        for backend in self.places.get("backend_app", {}):
            longest = self._number(backend, "backend_app", "backend_app_sleep_max_seconds")
            if self._allowed(backend, "backend_app_image", "") or self._allowed(backend, "site_services", {}):
                continue
            for balancer in self.places.get("haproxy", {}):
                if longest >= self._number(balancer, "haproxy", "haproxy_timeout_server"):
                    self._say(
                        backend,
                        f"backend_app_sleep_max_seconds of {{hosts}} is {longest:g}, and HAProxy ends a request before "
                        f'that: set haproxy_timeout_server to more, such as "{longest + 20:g}s", or that one to less.',
                    )

    def _number(self, host: str, role: str, name: str) -> float:
        """Return a setting's value, a time in seconds; 0 where it is none, which has a sentence of its own."""
        option = self.options[role][name]
        value = str(self._allowed(host, name, option["default"]))
        if unit(role, name, option, self.options[role]):
            return _milliseconds(value) / 1000 if re.fullmatch(_TIMES["haproxy"][0], value) else float("inf")
        return float(value) if re.fullmatch(r"\d+(\.\d+)?", value) else 0


def _value_problems(name: str, option: Option, value: Any, units: tuple[str, str] | None) -> Iterator[str]:
    """Yield a sentence for each thing that is wrong with one value; "{hosts}" stands for the hosts' names."""
    kind = option["type"]
    shown = "" if option.get("no_log") else f" {_shown(value)},"
    if value is None:
        yield f"{name} of {{hosts}} is empty (null): give it a value, or leave the line out."
    elif kind in {"str", "path"}:
        yield from _text_problems(name, option, value, units, shown)
    elif kind in {"int", "float"}:
        yield from _number_problems(name, kind, value, shown)
    elif kind == "bool":
        if not isinstance(value, bool) and str(value).lower() not in {*"01", "yes", "no", "on", "off", "true", "false"}:
            yield f"{name} of {{hosts}} is{shown} which is neither true nor false: write one of them."
    elif kind in {"list", "dict"}:
        yield from _collection_problems(name, option, value, shown)
    # Of another type it has its sentence.
    textual = kind != "str" or isinstance(value, str)
    if option.get("choices") and kind != "list" and textual and value not in option["choices"]:
        yield f"{name} of {{hosts}} is{shown} which is none of {', '.join(map(str, option['choices']))}: write one."


def _validator_problems(role: str, name: str, option: Option, value: Any) -> list[str]:
    """Return what Ansible itself will have against a value once the role's turn comes."""
    from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

    if option["type"] == "dict" and "elements" in option and isinstance(value, Mapping):
        # Ansible knows elements of lists alone, and would take the options for the mapping's own.
        option, value = {**option, "type": "list"}, list(value.values())
    found = ArgumentSpecValidator({name: dict(option)}).validate({name: value}).error_messages
    reason = "" if option.get("no_log") else f" ({_reason(found[0])})" if found else ""
    where = f"roles/{role}/meta/argument_specs.yml says what it may be" if (PROJECT / "roles" / role).is_dir() else ""
    mend = f"write it right{'; ' if where else ''}{where}."
    return [f"{name} of {{hosts}} is not what it may be{reason}: {mend}"] if found else []


def _collection_problems(name: str, option: Option, value: Any, shown: str) -> Iterator[str]:
    if option["type"] == "dict":
        if not isinstance(value, Mapping):
            yield (
                f"{name} of {{hosts}} is{shown or ' a value,'} where a mapping is meant: write {{key: value}} "
                f'(-e \'{{"{name}": {{"key": "value"}}}}\').'
            )
        elif option.get("elements") == "dict":
            for key, entry in value.items():
                # Each of them is such a mapping.
                yield from _value_problems(f"{name}.{key}", {**option, "elements": "", "default": ""}, entry, None)
        elif option.get("options"):
            yield from _mapping_problems(name, option["options"], value)
    elif isinstance(value, str | bytes | Mapping) or not isinstance(value, Sequence):
        what = shown or " a value,"
        yield f'{name} of {{hosts}} is{what} where a list is meant: write [a, b] (-e \'{{"{name}": ["a", "b"]}}\').'
    else:
        element = {**option, "type": option.get("elements", "raw"), "elements": "", "description": "", "default": ""}
        for index, item in enumerate(value):
            yield from _value_problems(f"{name}[{index}]", element, item, None)


def _mapping_problems(name: str, known: Mapping[str, Option], value: Mapping[str, Any]) -> Iterator[str]:
    for key, option in known.items():
        if key in value:
            known_as = {"description": "empty", "default": option.get("example", ""), **option}
            yield from _value_problems(f"{name}.{key}", known_as, value[key], unit("", key, option, known))
        elif option.get("required"):
            yield f"{name} of {{hosts}} lacks `{key}`: add it."
    for key in value:
        if key not in known:
            hint = _hint(str(key), known)
            yield f"{name} of {{hosts}} has `{key}`, which is unknown{hint}: write it right, or remove it."


def _text_problems(name: str, option: Option, value: Any, units: tuple[str, str] | None, shown: str) -> Iterator[str]:
    """Yield what is wrong with a text; one that is empty is right where the description says what that means."""
    default = str(option.get("default", ""))
    if isinstance(value, bool):
        yield (
            f"{name} of {{hosts}} is{shown} where a text is meant (YAML makes that of yes, no, on and off too): put it "
            "in quotes."
        )
    elif isinstance(value, int | float) and units:
        example = f"{value}{default.lstrip('0123456789') or 's'}"
        yield f'{name} of {{hosts}} is {value}, which has no unit: write "{example}", if that is meant.'
    elif isinstance(value, int | float | dt.date):
        quoted = f" ({json.dumps(str(value))})" if shown else ""
        yield (
            f"{name} of {{hosts}} is{shown or ' a number,'} where a text is meant: put it in quotes, as you mean it"
            f"{quoted}; unquoted, YAML reads 1.10 as 1.1, 0123 as 83 and 1:30 as 90."
        )
    elif not isinstance(value, str):
        yield f"{name} of {{hosts}} is{shown or ' a list or mapping,'} where a text is meant: write it as one."
    elif value and units:
        yield from _unit_problems(name, default, value, units)
    elif value:
        yield from _word_problems(name, option, value, default)
    elif default and "empty" not in option.get("description", ""):
        yield f'{name} of {{hosts}} is empty: give it a value, or leave the line out ("{default}").'


def _unit_problems(name: str, default: str, value: str, units: tuple[str, str]) -> Iterator[str]:
    if not re.fullmatch(units[0], value):
        lacks = re.fullmatch(r"\d+(\.\d+)?", value)
        what = "which has no unit" if lacks else f"which is no whole number with a unit of {units[1]}"
        example = f"{value}{default.lstrip('0123456789')}" if lacks else default
        yield f'{name} of {{hosts}} is "{value}", {what}: write "{example}", if that is meant.'
    elif units is _TIMES["haproxy"] and _milliseconds(value) > 2**31 - 1:
        yield f'{name} of {{hosts}} is "{value}", which is longer than HAProxy can wait (24 days): write less.'


def _word_problems(name: str, option: Option, value: str, default: str) -> Iterator[str]:
    plain = re.sub(r"\[\d+\]$", "", name)
    shown = "a value" if option.get("no_log") or plain.endswith("_proxy") else f'"{value}"'
    # PEM has lines, and so may what a shell runs.
    lines = plain.endswith("pem") or "command" in option.get("description", "").lower()
    if ("\n" in value or "\r" in value) and not lines:
        yield f"{name} of {{hosts}} has a line break: write it in one line, without | or > (at its end, >- removes it)."
    elif name.endswith("_version") and not re.fullmatch(r"\w[\w.+~-]*", value):
        yield f'{name} of {{hosts}} is "{value}", which is no version: use letters, digits, `.`, `-` and `_`.'
    elif name.endswith("_version") and value.lower() in _MOVING:
        yield f'{name} of {{hosts}} is "{value}", which moves: name one version, such as "{default}".'
    elif name == "haproxy_balance" and not re.fullmatch(_ALGORITHMS, value):
        yield f"{name} of {{hosts}} is {shown}, which is none of HAProxy's algorithms: write one, such as leastconn."
    elif plain.endswith("_never") and (reason := _pattern_problem(value)):
        yield f"{name} of {{hosts}} is {shown}, which is no regular expression ({reason}): write it right."
    else:
        # What such names end with says what they are.
        kind = next((kind for kind in _FORMS if plain.endswith(kind)), "")
        if kind and not _FORMS[kind][0](value):
            yield f"{name} of {{hosts}} is {shown}, which is {_FORMS[kind][1]}"


def _pattern_problem(value: str) -> str:
    try:
        re.compile(value)
    except re.error as error:
        return str(error)
    return ""


def _is_address(value: str) -> bool:
    try:
        ipaddress.ip_address(value.strip("[]"))
    except ValueError:
        # A name has a letter.
        return value == "*" or bool(re.fullmatch(r"(?=.*[A-Za-z])[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?", value))
    return True


def _matches(pattern: str) -> Callable[[str], bool]:
    return lambda value: bool(re.fullmatch(pattern, value))


# By the end of a setting's name: what its value looks like, and the end of the sentence where it does not.
_FORMS: dict[str, tuple[Callable[[str], bool], str]] = {
    "_address": (_is_address, "no address: write one without scheme, port and path, as 192.0.2.1."),
    "_checksum": (_matches(r"sha256:[0-9a-f]{64}"), "no checksum: write sha256: and 64 digits of 0 to 9 and a to f."),
    "_image": (
        _matches(r"[a-z0-9][a-z0-9._-]*(:\d+)?(/[a-z0-9._-]+)*(:\w[\w.-]*)?(@sha256:[0-9a-f]{64})?"),
        "no reference: write registry/name:tag, the name in small letters.",
    ),
    "_path": (_matches(r"/[^\s\"'#]*"), "no path of a request: begin it with a slash, and write %20 for a space."),
    "_paths": (_matches(r"/[^\s\"'#]*"), "no path of a request: begin it with a slash, and write %20 for a space."),
    "_proxy": (_matches(r"https?://[^\s/]+/?"), "no proxy's URL: write it as http://192.0.2.1:3128."),
    "_url": (_matches(r"https?://[^\s/]+(/\S*)?"), "no URL: write it with its scheme, as https://example.com/path."),
}


def _number_problems(name: str, kind: str, value: Any, shown: str) -> Iterator[str]:
    pattern = r"[+-]?\d+" if kind == "int" else r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?"
    port = name.endswith("_port")
    low, high = (1, 65535) if port else _BOUNDS.get(name, (0, 100 if name.endswith("_percent") else float("inf")))
    right = not isinstance(value, bool) and re.fullmatch(pattern, str(value), re.IGNORECASE)
    if port and not (right and low <= float(value) <= high):
        yield f"{name} of {{hosts}} is {value!r}: set it to a number from 1 to 65535 in the inventory."
    elif not right:
        what = "a whole number" if kind == "int" else "a number"
        yield f"{name} of {{hosts}} is{shown} where {what} is meant: write it without quotes and without a unit."
    elif not low <= float(value) <= high:
        upto = "or more" if high == float("inf") else f"to {high:g}"
        yield f"{name} of {{hosts}} is {value}, which is out of bounds: write a number from {low:g} {upto}."


def _inner_problems(name: str, service: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with what a service's container finds inside; secrets are not shown."""
    kinds = {kind: service.get(kind) for kind in ("env", "secret_env", "secrets")}
    given = {kind: values for kind, values in kinds.items() if isinstance(values, Mapping)}
    for key in given.get("secrets", {}):
        if not re.fullmatch(r"\w[\w.-]*", str(key)):
            yield f"{name}.secrets of {{hosts}} has `{key}`, which can't name a file: use letters, digits and `._-`."
    for kind, values in given.items():
        for key, value in values.items():
            if isinstance(value, Mapping | list | tuple):
                yield f"{name}.{kind}.{key} of {{hosts}} is a list or mapping, where a text is meant: write it as one."


def image_tag(reference: str) -> str:
    """Return the tag of an image's reference, its digest where it has one; empty where it has neither."""
    if "@" in reference:
        return reference.rpartition("@")[2]
    # A colon before the last slash is a registry's port.
    return reference.rpartition("/")[2].partition(":")[2]


def _hint(name: str, known: Sequence[str] | set[str] | Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(name, list(known), 1, 0.6)
    return f" (`{near[0]}` is meant?)" if near else ""


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    text = str(value) if isinstance(value, dt.date) else json.dumps(value, default=str)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _milliseconds(text: str) -> float:
    number = text.rstrip("adhmsu")
    return int(number) * _HAPROXY_UNITS[text[len(number) :]]


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")


def _advice(name: str) -> str:
    if name == "service_address":
        return " It is needed before any host is asked for its facts: write the address itself."
    return " Set what it is made of, or write the value itself."


def _may_be_template(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(_may_be_template(item) for item in value.values())
    if isinstance(value, list | tuple):
        return any(_may_be_template(item) for item in value)
    # What is encrypted is no str.
    return "{{" in value or "{%" in value if isinstance(value, str) else not isinstance(value, int | float | type(None))


def _yaml(path: Path) -> Any:
    return yaml.load(path.read_text(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))


@functools.cache
def _near(name: str, known: tuple[str, ...], cutoff: float) -> str:
    return next(iter(difflib.get_close_matches(name, known, 1, cutoff)), "")


@functools.cache
def _meant(name: str, known: tuple[str, ...]) -> str | None:
    """Return the end of the sentence on a name that is no setting; None where it is nobody's business here."""
    if name.startswith(("topology_", "inventory_", "__", "groups", "group_names", "hostvars", "playbook_dir")):
        return None
    if name.startswith("ansible_"):
        # Facts and what Ansible says of its own run are not like these.
        near = "" if name in _CONNECTION else _near(name, tuple(sorted(_CONNECTION)), 0.9)
        return f" ({near} is meant?): write it right" if near else None
    roles = sorted((path.name for path in (PROJECT / "roles").iterdir()), key=len, reverse=True)
    renamed = next((new + name.removeprefix(old) for old, new in _FORMER.items() if name.startswith(old)), name)
    role = next((role for role in roles if renamed.startswith(f"{role}_")), None)
    # What begins with a role's name is that role's; other names are taken for such where they are nearly one.
    playbooks = ("deploy_", "drain_", "front_", "ready_", "service_", "site_")
    near = _near(renamed, known, 0.84 if role or name.startswith(playbooks) else 0.9)
    near = near or ("" if role else _near(renamed, tuple(sorted(_CONNECTION)), 0.9))
    if not role and not near:
        return None
    return f" ({near} is meant?): write it right" if near else f": use one of roles/{role}/defaults/main.yml"


def _given() -> list[str]:
    """Return the names that the command line sets with `-e`, apart from those in files, which may serve others too."""
    from ansible import context
    from ansible.parsing.splitter import parse_kv

    names: list[str] = []
    for word in context.CLIARGS.get("extra_vars") or ():
        text = str(word).strip()
        if text.startswith(("{", "[")):
            said = yaml.safe_load(text)
            names += map(str, said if isinstance(said, Mapping) else ())
        elif not text.startswith("@"):
            names += parse_kv(text)
    return list(dict.fromkeys(names))


@functools.cache
def _is_fact(name: str) -> bool:
    """Return whether a task of the project leaves a variable of this name: a second playbook of one run finds it."""
    left = re.compile(rf"register: {name}\b|set_fact:\n(?: .*\n)*? *{name}:")
    paths = [*PROJECT.glob("roles/*/tasks/**/*.yml"), *PROJECT.glob("playbooks/*.yml")]
    return any(left.search(path.read_text()) for path in paths)


@functools.cache
def _role_variables() -> dict[str, Any]:
    """Return what a role's own files say, as Ansible reads them: a setting may be made of it."""
    from ansible.template import trust_as_template

    def trusted(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: trusted(item) for key, item in value.items()}
        if isinstance(value, list):
            return [trusted(item) for item in value]
        return trust_as_template(value) if isinstance(value, str) else value

    found: dict[str, Any] = {}
    for kind in ("defaults", "vars"):
        for path in PROJECT.glob(f"roles/*/{kind}/main.yml"):
            found |= _yaml(path) or {}
    result: dict[str, Any] = trusted(found)
    return result


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {
            "run_problems": run_problems,
            "settings_problems": settings_problems,
            "version_problem": version_problem,
        }
