"""grafana.ini, read strictly: what Grafana would ignore in silence is refused here."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from grafana_standin import StandinError

_BOOL, _INT, _DURATION, _TEXT = "true or false", "a whole number", "a duration such as 1s", "text"
_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800, "M": 2592000, "y": 31536000}

# The keys of Grafana 13 that a site such as this one may want; add to the list what is missing.
KNOWN: dict[str, dict[str, str]] = {
    "": {"app_mode": _TEXT, "instance_name": _TEXT},
    "paths": {"data": _TEXT, "temp_data_lifetime": _DURATION, "logs": _TEXT, "plugins": _TEXT, "provisioning": _TEXT},
    "server": {
        "protocol": _TEXT,
        "http_addr": _TEXT,
        "http_port": _INT,
        "domain": _TEXT,
        "enforce_domain": _BOOL,
        "root_url": _TEXT,
        "serve_from_sub_path": _BOOL,
        "router_logging": _BOOL,
        "enable_gzip": _BOOL,
        "cert_file": _TEXT,
        "cert_key": _TEXT,
        "read_timeout": _DURATION,
    },
    "database": {"type": _TEXT, "host": _TEXT, "name": _TEXT, "user": _TEXT, "path": _TEXT, "wal": _BOOL},
    "dataproxy": {"logging": _BOOL, "timeout": _INT, "keep_alive_seconds": _INT},
    "analytics": {
        "enabled": _BOOL,
        "reporting_enabled": _BOOL,
        "check_for_updates": _BOOL,
        "check_for_plugin_updates": _BOOL,
        "feedback_links_enabled": _BOOL,
    },
    "security": {
        "disable_initial_admin_creation": _BOOL,
        "admin_user": _TEXT,
        "admin_password": _TEXT,
        "admin_email": _TEXT,
        "secret_key": _TEXT,
        "disable_gravatar": _BOOL,
        "disable_brute_force_login_protection": _BOOL,
        "cookie_secure": _BOOL,
        "cookie_samesite": _TEXT,
        "allow_embedding": _BOOL,
        "strict_transport_security": _BOOL,
        "content_security_policy": _BOOL,
    },
    "snapshots": {"enabled": _BOOL, "external_enabled": _BOOL, "public_mode": _BOOL},
    "dashboards": {"versions_to_keep": _INT, "min_refresh_interval": _DURATION, "default_home_dashboard_path": _TEXT},
    "users": {
        "allow_sign_up": _BOOL,
        "allow_org_create": _BOOL,
        "auto_assign_org": _BOOL,
        "auto_assign_org_role": _TEXT,
        "default_theme": _TEXT,
        "home_page": _TEXT,
        "viewers_can_edit": _BOOL,
    },
    "auth": {
        "login_cookie_name": _TEXT,
        "login_maximum_inactive_lifetime_duration": _DURATION,
        "login_maximum_lifetime_duration": _DURATION,
        "disable_login_form": _BOOL,
        "disable_signout_menu": _BOOL,
    },
    "auth.anonymous": {"enabled": _BOOL, "org_name": _TEXT, "org_role": _TEXT, "hide_version": _BOOL},
    "auth.basic": {"enabled": _BOOL},
    "smtp": {
        "enabled": _BOOL,
        "host": _TEXT,
        "user": _TEXT,
        "password": _TEXT,
        "from_address": _TEXT,
        "from_name": _TEXT,
        "startTLS_policy": _TEXT,
    },
    "log": {"mode": _TEXT, "level": _TEXT, "filters": _TEXT},
    "log.console": {"level": _TEXT, "format": _TEXT},
    "metrics": {"enabled": _BOOL, "interval_seconds": _INT, "disable_total_stats": _BOOL},
    "news": {"news_feed_enabled": _BOOL},
    "plugins": {
        "enable_alpha": _BOOL,
        "allow_loading_unsigned_plugins": _TEXT,
        "plugin_admin_enabled": _BOOL,
        "preinstall": _TEXT,
        "preinstall_async": _BOOL,
        "preinstall_disabled": _BOOL,
        "preinstall_auto_update": _BOOL,
        "public_key_retrieval_disabled": _BOOL,
    },
    "live": {"max_connections": _INT, "allowed_origins": _TEXT},
    "unified_alerting": {"enabled": _BOOL},
    "explore": {"enabled": _BOOL},
    "help": {"enabled": _BOOL},
    "profile": {"enabled": _BOOL},
    "public_dashboards": {"enabled": _BOOL},
}


@dataclass(frozen=True)
class Settings:
    """What the stand-in acts upon.

    Attributes:
        address: where it listens; empty is every address, as with Grafana.
        port: the port.
        data: the folder of the database.
        provisioning: the folder with datasources/ and dashboards/.
        admin_user: the admin that a new database begins with.
        admin_password: that admin's password.
        anonymous: whether reading needs no login.
        min_refresh: the shortest refresh of a dashboard, in seconds.
    """

    address: str
    port: int
    data: Path
    provisioning: Path
    admin_user: str
    admin_password: str
    anonymous: bool
    min_refresh: float


def parse(text: str, name: str = "grafana.ini") -> dict[str, dict[str, str]]:
    """Return an ini file's keys by section; raises StandinError where one is unknown, there twice or ill-formed."""
    found: dict[str, dict[str, str]] = {}
    section = ""
    for number, raw in enumerate(text.splitlines(), start=1):
        line, where = raw.strip(), f"{name}, line {number}"
        if not line or line[0] in "#;":
            continue
        if line[0] == "[":
            section = line.strip("[]").strip()
            if section not in KNOWN:
                raise StandinError(f"{where}: there is no section [{section}]{_meant(section, KNOWN)}")
            continue
        key, separator, value = (part.strip() for part in line.partition("="))
        if not separator:
            raise StandinError(f"{where}: `{line}` is neither a section nor `key = value`")
        known = KNOWN[section]
        if key not in known:
            raise StandinError(f"{where}: [{section}] has no key `{key}`{_meant(key, known)}")
        if key in found.setdefault(section, {}):
            raise StandinError(f"{where}: [{section}] has `{key}` twice")
        value = _unquoted(value)
        if not _fits(value, known[key]):
            raise StandinError(f"{where}: [{section}] {key} is `{value}`, which is not {known[key]}")
        found[section][key] = value
    return found


def load(file: Path, defaults: Mapping[str, str]) -> Settings:
    """Read grafana.ini.

    Args:
        file: its path.
        defaults: keys as ``paths.data`` with values that hold where the file has none.
    """
    try:
        found = parse(file.read_text(), str(file))
    except OSError as error:
        raise StandinError(f"{file} can't be read: {error.strerror}") from None

    def get(section: str, key: str, default: str) -> str:
        return found.get(section, {}).get(key, defaults.get(f"{section}.{key}", default))

    return Settings(
        address=get("server", "http_addr", ""),
        port=int(get("server", "http_port", "3000")),
        data=Path(get("paths", "data", "/var/lib/grafana")),
        provisioning=Path(get("paths", "provisioning", "/etc/grafana/provisioning")),
        admin_user=get("security", "admin_user", "admin"),
        admin_password=get("security", "admin_password", "admin"),
        anonymous=get("auth.anonymous", "enabled", "false") == "true",
        min_refresh=duration(get("dashboards", "min_refresh_interval", "5s")),
    )


def duration(text: str) -> float:
    """Return a duration such as ``1s`` or ``1m30s`` in seconds; raises ValueError where it is none."""
    if not re.fullmatch(r"([0-9]+(ms|[smhdwMy]))+", text):
        raise ValueError(f"`{text}` is no duration such as 1s")
    return sum(int(number) * _UNITS[unit] for number, unit in re.findall(r"([0-9]+)(ms|[smhdwMy])", text))


def _unquoted(value: str) -> str:
    for quote in ('"""', '"', "`"):
        if len(value) >= 2 * len(quote) and value.startswith(quote) and value.endswith(quote):
            return value[len(quote) : -len(quote)]
    # Outside quotes these begin a comment.
    return re.split(r"\s[#;]", value)[0].strip()


def _fits(value: str, kind: str) -> bool:
    if kind == _BOOL:
        return value in {"true", "false"}
    if kind == _INT:
        return re.fullmatch(r"-?[0-9]+", value) is not None
    if kind == _DURATION and value != "0":
        try:
            duration(value)
        except ValueError:
            return False
    return True


def _meant(word: str, known: Mapping[str, object]) -> str:
    close = difflib.get_close_matches(word, [name for name in known if name], n=1)
    return f"; did you mean `{close[0]}`?" if close else ""
