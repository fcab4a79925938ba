"""The catalogue of faults as docs/chaos.md shows it; ``python -m evenkeel.faults`` (``make docs``) writes it there.

What it says comes from the faults' own files, roles/chaos/faults/*.yml, and from the role's defaults.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, StrictUndefined

_PROJECT = Path(__file__).resolve().parents[2]
_ROLE = _PROJECT / "roles" / "chaos"
PAGE = _PROJECT / "docs" / "chaos.md"
_BEGIN = "<!-- `make docs` writes this table from roles/chaos/faults. -->\n"
_END = "<!-- The end of the table. -->\n"
_HEAD = """\
| `chaos_fault` | strikes | what happens to the target | lasts | objectives of its own |
|---|---|---|---|---|
"""


def read(folder: Path = _ROLE / "faults") -> dict[str, dict[str, Any]]:
    """Return what each fault's file holds, as it stands, by the fault's name: those of backends first.

    Args:
        folder: that of the files, ``<name>.yml``.
    """
    found = {path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.yml"))}
    return dict(sorted(found.items(), key=lambda item: (str(item[1]["strikes"]), item[0])))


def defaults() -> dict[str, Any]:
    """Return the default of each of the role's settings; those that follow from others are templates."""
    found: dict[str, Any] = yaml.safe_load((_ROLE / "defaults" / "main.yml").read_text(encoding="utf-8"))
    return found


def sentence(fault: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    """Return what the fault does, each setting by its name with its default behind it.

    Args:
        fault: what its file holds.
        settings: the defaults, by name.

    Raises:
        ValueError: its text is a template of anything but settings.
    """
    text = ". ".join(fault[key] for key in ("what", "detail") if key in fault)
    shown = re.sub(
        r"{{ (\w+) }}", lambda match: f"`{match[1]}` ({settings[match[1]]})" if match[1] in settings else match[0], text
    )
    if "{" in shown:
        raise ValueError(f"what and detail may name settings, as {{{{ chaos_… }}}}, and no more: {text}")
    return shown


def objectives(fault: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, float]:
    """Return the objectives that the fault has of its own, by name, in the units of docs/report.md.

    Args:
        fault: what its file holds.
        settings: the defaults, by name; an objective may be computed from them.
    """
    templates = Environment(undefined=StrictUndefined, autoescape=False)

    def number(value: object) -> float:
        # A setting's default may be a template itself.
        for _ in range(2):
            value = templates.from_string(str(value)).render(settings)
        return float(str(value))

    return {name: number(value) for name, value in fault.get("slo", {}).items()}


def table(faults: Mapping[str, Mapping[str, Any]], settings: Mapping[str, Any]) -> str:
    """Return the catalogue as a table in Markdown.

    Args:
        faults: as ``read`` returns them.
        settings: the defaults, by name.
    """
    rows = []
    for name, fault in faults.items():
        own = ", ".join(f"`{key}` {value:g}" for key, value in objectives(fault, settings).items())
        lasts = "`chaos_duration`" if fault["lasts"] else ""
        cells = [f"`{name}`", fault["strikes"], sentence(fault, settings), lasts, own]
        rows.append("".join(f"| {cell} " if cell else "| " for cell in cells) + "|\n")
    return _HEAD + "".join(rows)


def written(page: str, new: str) -> str:
    """Return the page with its table exchanged for the ``new`` one.

    Raises:
        ValueError: the page has not both marks around the table.
    """
    before, begin, rest = page.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not (begin and end):
        raise ValueError(f"There is no table between {_BEGIN.strip()} and {_END.strip()}.")
    return f"{before}{begin}\n{new}\n{end}{after}"


def main() -> None:
    """Write the table into docs/chaos.md."""
    text = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(written(text, table(read(), defaults())), encoding="utf-8")
    print(f"faults: {PAGE}")


if __name__ == "__main__":
    main()
