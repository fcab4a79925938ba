"""The task `masked_template`: `ansible.builtin.template` whose diff shows no secrets, and everything else.

What the file on the host held before is masked too: it may be a former release's, or somebody else's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from ansible.plugins.action.template import ActionModule as TemplateAction

MASK = "********"
# Parts of names whose values are secrets, and ends of names whose values are not, though the rest sounds like it.
SECRET = re.compile(r"pass|pwd|(?:^|_)pw(?:$|_)|secret|token|credential|key|dsn|conn(?:ection)?_?str", re.IGNORECASE)
HARMLESS = re.compile(
    r"_(?:enabled|url|urls|minutes|seconds|duration|interval|lifetime|ttl|to_live|type|algorithm|policy)$",
    re.IGNORECASE,
)
_SECTION = re.compile(r"^\s*\[(.+)\]\s*$")
# A name and its value: of an ini file, YAML, JSON, shell or a systemd unit; commented out or not.
_PAIR = re.compile(r"""^(\s*[-;#]*\s*(?:Environment=)?["']?([\w.-]+)["']?\s*[=:]\s*)(.*?)\s*$""")
# A password within an address.
_ADDRESS = re.compile(r"""(://[^/\s:@"']*:)[^\s"']*@""")


def secret(name: str) -> bool:
    """Return whether the value of what is called ``name`` is a secret."""
    return bool(SECRET.search(name)) and not HARMLESS.search(name)


def masked(text: str, former: dict[tuple[str, str], str] | None = None) -> tuple[str, dict[tuple[str, str], str]]:
    """Mask the secrets of a configuration file.

    Args:
        text: the file's content.
        former: the secrets of the file before; what is another one now is said to be changed.

    Returns:
        the text without its secrets, and the secrets by section and name.
    """
    found: dict[tuple[str, str], str] = {}
    return "\n".join(_lines(text, former, found)), found


def _lines(text: str, former: dict[tuple[str, str], str] | None, found: dict[tuple[str, str], str]) -> Iterator[str]:
    section, closing = "", ""
    for line in text.split("\n"):
        if closing:
            # Within a value of several lines.
            closing = "" if closing in line else closing
            continue
        if heading := _SECTION.match(line):
            section = heading[1]
        pair = _PAIR.match(line)
        if not pair or not secret(pair[2]) or pair[3].rstrip(",").strip("\"'").lower() in {"", "true", "false"}:
            yield _ADDRESS.sub(rf"\g<1>{MASK}@", line)
            continue
        found[section, pair[2]] = pair[3]
        if pair[3].startswith('"""') and '"""' not in pair[3][3:]:
            closing = '"""'
        changed = former is not None and former.get((section, pair[2]), pair[3]) != pair[3]
        yield f"{pair[1]}{MASK}{' (changed)' if changed else ''}"


class ActionModule(TemplateAction):  # type: ignore[misc]
    """The template action with a masked diff."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Write the file and return the result."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        diffs = result.get("diff") or []
        for diff in diffs if isinstance(diffs, list) else [diffs]:
            former = None
            for side in ("before", "after"):
                if isinstance(diff.get(side), str):
                    diff[side], former = masked(diff[side], former)
            # Of a diff that is text already nobody knows which lines belong together.
            if "prepared" in diff:
                diff["prepared"] = "The difference is not shown: it may hold secrets.\n"
        return result
