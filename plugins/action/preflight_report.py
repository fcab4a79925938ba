"""The task `preflight_report`: all that was found, in one table and as JSON; it fails where anything is wrong.

A sentence says what is wrong and then how to mend it. Where the mend begins is found by its verb.
"""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from ansible import constants
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

_ARGUMENTS: dict[str, dict[str, Any]] = {
    # What was found without a connection, a sentence each.
    "problems": {"type": "list", "elements": "str", "default": []},
    # Whether a report follows that tells these too.
    "later": {"type": "bool", "default": False},
    # Where all is written as JSON; empty for nowhere.
    "json": {"type": "path", "default": ""},
    # Whether the hosts were looked at (the task `preflight_host`, registered as `preflight_look`).
    "looked": {"type": "bool", "default": False},
    # Whether a host that can't be reached is a problem, and the mend besides that of its connection.
    "reach": {"type": "bool", "default": False},
    "reach_advice": {"type": "str", "default": ""},
    # How many seconds the hosts' clocks may be apart; 0: not looked at.
    "clock_seconds": {"type": "float", "default": 0},
}
_VERBS = (
    "add|ask|begin|choose|connect|do|drop|end|finish|free|give|install|keep|leave|let|limit|link|make|mend|mount|move|"
    "name|put|remove|rename|repeat|restore|run|save|say|see|set|start|stop|take|to go on|unhold|use|wait|write|"
    "there are|it has none|apt-get|apt-mark|chmod"
)
_MEND = re.compile(rf"(?<=[:;.,)?]) (?=(?:{_VERBS})\b)", re.IGNORECASE)

Row = dict[str, Any]


def row(sentence: str, hosts: Sequence[str], host: str = "") -> Row:
    """Return a sentence as ``{"hosts": [str], "what": str, "mend": str}``.

    Args:
        sentence: what is wrong, and how to mend it.
        hosts: the inventory's; those that the sentence names are meant.
        host: the one that is meant, where that is known.
    """
    found = _MEND.search(sentence)
    what, mend = (sentence[: found.start()], sentence[found.end() :]) if found else (sentence, "")
    words = set(re.findall(r"[\w.-]*\w", what))
    named = [host] if host else [name for name in hosts if name in words]
    if not named and "every host" in what:
        named = [*hosts]
    return {"hosts": named, "what": what.rstrip(), "mend": mend.lstrip()}


def clock_problems(clocks: Mapping[str, Sequence[float]], seconds: float) -> dict[str, str]:
    """Return by host what is wrong with its clock, as against the one in the middle.

    Args:
        clocks: between which two numbers of seconds each is ahead of this machine's.
        seconds: how far they may be apart for certain; 0: as far as they like.
    """
    # This machine decides between two.
    middles = sorted([0.0, *((low + high) / 2 for low, high in clocks.values())])
    middle = middles[len(middles) // 2] if len(clocks) > 1 else 0.0
    reference = min(
        [(0.0, 0.0), *(tuple(each) for each in clocks.values())], key=lambda each: abs(sum(each) / 2 - middle)
    )
    problems = {}
    for host, (low, high) in clocks.items() if seconds and len(clocks) > 1 else ():
        apart = max(low - reference[1], reference[0] - high)
        if apart > seconds:
            way = "ahead of" if low > reference[1] else "behind"
            problems[host] = (
                f"The clock of {host} is {apart:.1f} s {way} the other hosts': let a time service set it (apt-get "
                "install systemd-timesyncd, timedatectl set-ntp true), or set preflight_clock_seconds to more."
            )
    return problems


def path_rows(looks: Mapping[str, Mapping[str, Any]], hosts: Sequence[str]) -> list[Row]:
    """Return which hosts do not get through to others that are up.

    A host that nobody reached may be down. This project's firewall says no to who is new, and that got through.
    """
    gone: dict[tuple[str, str, str], list[str]] = {}
    for host, look in looks.items():
        for path in look.get("unreached", []):
            other = looks.get(path["name"], {})
            if "clock" in other:
                gone.setdefault((host, path["name"], path["why"]), []).append(_place(path["address"], path["port"]))
    return [
        row(
            f"{host} does not get through to {other} at {', '.join(places)} ({why}): see that routes and firewalls "
            f"between them let it, and that service_address of {other} is right.",
            hosts,
            host,
        )
        for (host, other, why), places in gone.items()
    ]


def _place(address: object, port: object) -> str:
    return f"[{address}]:{port}" if ":" in str(address) else f"{address}:{port}"


def table(rows: Sequence[Row], notes: Sequence[Row], width: int, looked: bool) -> str:
    """Return all that was found as text: the host, what is wrong, and below that the mend."""
    names = [", ".join(each["hosts"][:3]) + (" …" if len(each["hosts"]) > 3 else "") for each in [*rows, *notes]]
    column = min(max([4, *map(len, names)]), 24)
    room = max(width - column - 2, 40)
    count = "1 problem" if len(rows) == 1 else f"{len(rows)} problems"
    lines = [
        f"{count}, and nothing was changed.{'' if looked else ' No host was asked.'}" if rows else "Worth knowing:"
    ]
    lines += ["", f"{'HOST':{column}}  WHAT IS WRONG, AND BELOW IT HOW TO MEND IT"]
    for name, each in zip(names, [*rows, *notes], strict=True):
        if rows and notes and each is notes[0]:
            lines += ["", f"{'HOST':{column}}  WORTH KNOWING"]
        texts = _wrapped(each["what"], room) + _wrapped(each["mend"], room - 2, "  ")
        firsts = textwrap.wrap(name or "-", column, break_on_hyphens=False) or ["-"]
        for number in range(max(len(texts), len(firsts))):
            first = firsts[number] if number < len(firsts) else ""
            lines.append(f"{first:{column}}  {texts[number] if number < len(texts) else ''}".rstrip())
    return "\n".join(lines)


def _wrapped(text: str, room: int, indent: str = "") -> list[str]:
    lines = textwrap.wrap(" ".join(text.split()), room, break_long_words=False, break_on_hyphens=False)
    return [f"{indent}{line}" for line in lines]


def as_json(rows: Sequence[Row], notes: Sequence[Row], looked: bool) -> str:
    """Return all that was found as docs/preflight.md describes it."""

    def sentence(text: str) -> str:
        text = " ".join(text.split()).rstrip(":;,")
        # A command keeps its letters.
        return text if re.match(r"(apt|chmod)", text) else f"{text[:1].upper()}{text[1:]}"

    def entry(each: Row) -> Row:
        what = " ".join(each["what"].split()).rstrip(":;,.")
        return {"hosts": each["hosts"], "what": f"{what}.", "mend": sentence(each["mend"])}

    found = {
        "format": 1,
        "ok": not rows,
        "hosts_looked_at": looked,
        "problems": [entry(each) for each in rows],
        "notes": [entry(each) for each in notes],
    }
    return json.dumps(found, indent=2, ensure_ascii=False) + "\n"


def _callback() -> ModuleType:
    """Return the callback plugin that knows why a host can't be worked on."""
    path = Path(__file__).resolve().parents[1] / "callback/advice.py"
    spec = importlib.util.spec_from_file_location("evenkeel_advice", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class ActionModule(ActionBase):  # type: ignore[misc]
    """Tells what was found. Fails where anything is wrong. With ``later``, the result keeps the ``problems``."""

    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Collect, print, write, and return the verdict."""
        super().run(tmp, task_vars)
        _, given = self.validate_argument_spec(_ARGUMENTS)
        if given["later"]:
            return {"changed": False, "problems": given["problems"]}
        variables = task_vars or {}
        hosts = [str(host) for host in variables["groups"]["all"]]
        rows, notes = [row(sentence, hosts) for sentence in given["problems"]], []
        if given["looked"]:
            asked = {host: variables["hostvars"].raw_get(host) for host in hosts}
            looks = {host: each["preflight_look"] for host, each in asked.items() if "preflight_look" in each}
            for host, look in looks.items():
                rows += [row(sentence, hosts, host) for sentence in look.get("problems", [])]
                rows += self._unusable(host, look, variables["hostvars"][host], given)
                notes += [row(sentence, hosts, host) for sentence in look.get("notes", [])]
            clocks = {host: look["clock"] for host, look in looks.items() if "clock" in look}
            for host, sentence in clock_problems(clocks, given["clock_seconds"]).items():
                rows.append(row(sentence, hosts, host))
            rows += path_rows(looks, hosts)
            for host, each in asked.items():
                rows += [found for failed in each.get("preflight_failed", []) for found in _failed(failed, hosts, host)]
        said = table(rows, notes, shutil.get_terminal_size((110, 24)).columns, given["looked"])
        if given["json"]:
            path = Path(given["json"]).expanduser()
            try:
                path.write_text(as_json(rows, notes, given["looked"]))
            except OSError as error:
                return {
                    "failed": True,
                    "msg": f"preflight_json is {path}, which can't be written ({error.strerror}): name a file in a "
                    f"folder of yours.\n{said if rows else ''}",
                }
        if rows or notes:
            # Of a task's message Ansible makes two copies.
            Display().display(f"\n{said}\n", color=constants.COLOR_ERROR if rows else None)
        if rows:
            count = "what is wrong is" if len(rows) == 1 else f"the {len(rows)} things that are wrong are"
            return {"failed": True, "msg": f"Nothing was changed: {count} in the table above."}
        return {"changed": False, "msg": "Nothing is wrong."}

    @staticmethod
    def _unusable(
        host: str, look: Mapping[str, Any], variables: Mapping[str, Any], given: Mapping[str, Any]
    ) -> list[Row]:
        """Return why a host was not looked at; one out of reach is a problem only where the caller says so."""
        if not look.get("failed") and not (look.get("unreachable") and given["reach"]):
            return []
        reached = not look.get("unreachable")
        message = "\n".join(str(look.get(part, "")) for part in ("msg", "module_stderr", "module_stdout"))
        callback = _callback()
        known = {name: variables[name] for name in callback.CONNECTION if name in variables}
        said = callback.advice(message, callback.describe(known, host), reached=reached)
        what = f"{host} can't be {'worked on' if reached else 'reached'}, so nothing was changed."
        # Its own words are the best there is where nobody knows better.
        why = said or next((line.strip() for line in message.splitlines() if line.strip()), "It gave no reason")
        otherwise = given["reach_advice"] or f"Or leave it out with --limit 'all:!{host}'."
        return [{"hosts": [host], "what": what, "mend": f"{why[:1].upper()}{why[1:].rstrip('.')}. {otherwise}"}]


def _failed(failed: Mapping[str, Any], hosts: Iterable[str], host: str) -> list[Row]:
    """Return what a role's own look has found: in parts where the module says so, else as one sentence."""
    parts = failed.get("rows") or [{"what": str(failed.get("msg", "")), "mend": ""}]
    return [
        {"hosts": [host], **each} if each["mend"] else row(each["what"], [*hosts], host) for each in map(dict, parts)
    ]
