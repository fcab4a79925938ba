"""Filter that finds what Grafana's settings can't mean."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

# Ends of names whose values are passwords and the like.
_SECRET = re.compile(r"(?:pass(?:word|wd|phrase)?|pwd|secret|token|key|dsn)$", re.IGNORECASE)
# Grafana's own bound.
_SHORTEST_PASSWORD = 5
_QUOTE = "YAML took it for {kind}: put it into quotes."
_KINDS = {
    bool: "true or false",
    int: "a number",
    float: "a number",
    list: "a list",
    str: "a text",
    type(None): "nothing",
}


def _kind(value: object) -> str:
    return next((words for kind, words in _KINDS.items() if isinstance(value, kind)), "a dictionary")


def _controls(text: str) -> bool:
    return bool(re.search(r"[\x00-\x1f\x7f]", text))


def password_problem(password: object, name: str) -> str:
    """Return a sentence about a password that Grafana can't take; empty where it can. The password is not in it."""
    if not isinstance(password, str):
        return f"{name} is not a text: {_QUOTE.format(kind=_kind(password))}"
    if _controls(password):
        return f"{name} has several lines or a control character: Grafana's command takes one line; choose another."
    if len(password) < _SHORTEST_PASSWORD:
        return f"{name} is too short: Grafana takes {_SHORTEST_PASSWORD} characters or more."
    return ""


def grafana_problems(
    options: Mapping[str, Any], password: object, stored: str | bool | None, password_file: str
) -> list[str]:
    """Return a sentence for everything that grafana.ini or the admin's password can't mean.

    Args:
        options: ``{section: {key: value}}``.
        password: `grafana_admin_password`; empty where one is made up.
        stored: what the password file holds; false where there is none, None where it can't be read.
        password_file: its path.
    """
    found = []
    if password != "":
        found.append(password_problem(password, "grafana_admin_password"))
    elif stored is None:
        found.append(
            f"{password_file} is there and can't be read, so nobody knows Grafana's password: make it readable."
        )
    elif isinstance(stored, str):
        problem = password_problem(stored.rstrip(), f"The password in {password_file}")
        found.append(f"{problem} Or remove the file: a new one is made up." if problem else "")
    for section, keys in options.items():
        if not isinstance(keys, Mapping):
            found.append(f"grafana_extra_options: {section} is {_kind(keys)}: give keys and values.")
            continue
        found += [_option_problem(f"{section}: {key}", str(key), value) for key, value in keys.items()]
    return [sentence for sentence in found if sentence]


def _option_problem(name: str, key: str, value: object) -> str:
    where = f"grafana_extra_options: {name}"
    if isinstance(value, (Mapping, list)) or value is None:
        return f"{where} is {_kind(value)}: give one value, '' for an empty one."
    if isinstance(value, str) and (_controls(value) or '"""' in value):
        return f'{where} has several lines, a control character or """, which grafana.ini can\'t hold.'
    if not isinstance(value, (str, bool)) and _SECRET.search(key):
        return f"{where} is not a text: {_QUOTE.format(kind=_kind(value))}"
    return ""


class FilterModule:
    """The filters by their names in templates."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters."""
        return {"grafana_problems": grafana_problems}
