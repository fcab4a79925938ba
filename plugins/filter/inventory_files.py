"""Filter that looks at the files in which an inventory sets something: what in them counts for nobody.

What Ansible has made of them no longer tells: of two lines with one key it keeps the last.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

_GROUPS = ("backends", "balancers", "monitoring")
_EXTENSIONS = ("", ".yml", ".yaml", ".json")
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def inventory_problems(groups: Mapping[str, Sequence[str]], sources: Sequence[str]) -> list[str]:
    """Return which groups, files and lines of settings count for nobody, a sentence each.

    Args:
        groups: Ansible's ``groups``.
        sources: the inventories, as ``ansible_inventory_sources`` names them.
    """
    problems = []
    if "monitoring" in groups and not groups["monitoring"]:
        problems.append(
            "The group `monitoring` is there and has no host: add one to it, or remove the group, and Prometheus and "
            "Grafana run on the balancers."
        )
    for name in groups:
        near = difflib.get_close_matches(name, [group for group in _GROUPS if not groups.get(group)], 1, 0.8)
        if name not in _GROUPS and near:
            problems.append(f"The group `{name}` is unknown, and there is no `{near[0]}`: rename it, if that is meant.")
    hosts = {"localhost", *groups.get("all", [])}
    folders = {path if path.is_dir() else path.parent for path in map(Path, sources) if path.exists()}
    for folder in sorted(folders):
        for kind, known, what in (("group_vars", set(groups), "group"), ("host_vars", hosts, "host")):
            problems += _unread(folder / kind, known, what)
    # An inventory that is named may have any ending.
    named = [path for path in map(Path, sources) if path.is_file()]
    for path in dict.fromkeys([*named, *_files(sorted(folders)), *_given()]):
        text = path.read_text(errors="ignore")
        said = f"{path.parent.name}/{path.name}"
        names = re.findall(r"^\s*(topology_\w+)\s*[:=]", text, re.MULTILINE)
        problems += [f"{name} is set in {said}, but it is computed from the inventory: remove it." for name in names]
        # Ini has sections; what is encrypted as a whole is not looked into.
        sections = re.findall(r"^\[([\w.-]+):vars\]", text, re.MULTILINE)
        if not sections and not text.startswith("$ANSIBLE_VAULT"):
            tree = _tree(text)
            problems += [
                f"{said}: `{name}` stands twice, in lines {first} and {second}, and only the last counts: remove one."
                for name, first, second in dict.fromkeys(_twice(tree))
            ]
            # Files of a group hold its settings; all others groups.
            sections = _groups_with_settings(tree) if path.parent in folders else []
        problems += [
            f"{said} sets something for the group `{name}`, which has no host"
            f"{_hint(name, [group for group, hosts in groups.items() if hosts])}: put hosts into it, or remove it."
            for name in sections
            if not groups.get(name) and name not in _GROUPS
        ]
    return problems


def _given() -> list[Path]:
    """Return the files of settings that the command line names (`-e @file`)."""
    from ansible import context

    words = [str(word).strip() for word in context.CLIARGS.get("extra_vars") or ()]
    return [path for word in words if word.startswith("@") and (path := Path(word[1:]).expanduser()).is_file()]


def _tree(text: str) -> Any:
    """Return YAML as nodes, which know their lines; None of what is no YAML, of which Ansible says that."""
    try:
        return yaml.compose(text, _LOADER)
    except yaml.YAMLError:
        return None


def _twice(node: Any) -> Iterator[tuple[str, int, int]]:
    """Yield keys that stand twice in one mapping, with their lines."""
    if isinstance(node, yaml.MappingNode):
        lines: dict[str, int] = {}
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                # Two merges are two mappings.
                if key.value in lines and key.value != "<<":
                    yield key.value, lines[key.value], key.start_mark.line + 1
                lines[key.value] = key.start_mark.line + 1
            yield from _twice(value)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from _twice(item)


def _groups_with_settings(node: Any) -> list[str]:
    """Return the groups in a YAML inventory that have `vars`."""
    found = []
    for name, group in node.value if isinstance(node, yaml.MappingNode) else ():
        parts = {key.value: value for key, value in group.value} if isinstance(group, yaml.MappingNode) else {}
        if isinstance(parts.get("vars"), yaml.MappingNode) and parts["vars"].value:
            found.append(name.value)
        found += _groups_with_settings(parts.get("children"))
    return found


def _unread(folder: Path, known: set[str], what: str) -> Iterator[str]:
    """Yield a sentence for each file of settings in a folder that Ansible does not read."""
    if not folder.is_dir():
        return
    first: dict[str, Path] = {}
    entries = [path for path in folder.iterdir() if not path.name.startswith(".") and not path.name.endswith("~")]
    for entry in sorted(entries, key=lambda path: _EXTENSIONS.index(_extension(path)) if _readable(path) else 9):
        if not _readable(entry):
            continue
        name = entry.name.removesuffix(_extension(entry))
        said = f"{folder.parent.name}/{folder.name}"
        if name in first:
            read = f"{first[name].name}{'/' if first[name].is_dir() else ''}"
            yield f"{said}/{entry.name} is not read, since {said}/{read} is there too: put all into one of them."
        elif name not in known:
            hint = _hint(name, known)
            lacks = f"which the inventory does not have{hint}"
            yield f"{said}/{entry.name} is for the {what} `{name}`, {lacks}: rename or remove it."
        first.setdefault(name, entry)


def _files(folders: Sequence[Path]) -> Iterator[Path]:
    """Yield the files in which an inventory sets something."""
    for folder in folders:
        inside = [path for kind in ("group_vars", "host_vars") for path in (folder / kind).rglob("*")]
        yield from (path for path in [*sorted(folder.glob("*")), *sorted(inside)] if path.is_file() and _readable(path))


def _readable(path: Path) -> bool:
    return path.is_dir() or path.suffix in _EXTENSIONS[1:] or "." not in path.name


def _extension(path: Path) -> str:
    return path.suffix if path.is_file() and path.suffix in _EXTENSIONS else ""


def _hint(name: str, known: Sequence[str] | set[str] | Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(name, list(known), 1, 0.6)
    return f" (`{near[0]}` is meant?)" if near else ""


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {"inventory_problems": inventory_problems}
