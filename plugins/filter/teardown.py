"""Filters that say what teardown.yml has done, what is left, and where it was not done.

What they know is what the roles' teardown.yml registered, under names that end in ``_teardown``: each with ``removed``,
texts, and ``left``, texts by kind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

# In this order. "{all}" stands where all of it goes.
_KINDS = {
    "packages": "Packages stay installed: {all}.",
    "running": "Still running: {all}.",
    "data": "Data stays: {all}. To remove it too: -e teardown_data=yes.",
    "volumes": "Volumes stay: {all}.",
    "images": "Images stay: {all}.",
    "copies": "Copies of what this project had replaced, to be put back by hand: {all}.",
    "foreign": "Not written by this project, and left as it is: {all}.",
    "engine": "{all}",
}
# Of these nobody wants the names.
_COUNTED = {"volumes", "images"}


def _results(variables: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for name in sorted(variables):
        if name.endswith("_teardown"):
            value = variables[name]
            # A host that was lost has answered nothing.
            if isinstance(value, Mapping) and "left" in value:
                yield value


def _joined(texts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(texts))


def _groups(found: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return ``(what, hosts)``, hosts with the same together."""
    hosts: dict[str, list[str]] = {}
    for host, what in found.items():
        hosts.setdefault(what, []).append(host)
    return [(what, ", ".join(names)) for what, names in hosts.items()]


def teardown_report(hostvars: Mapping[str, Mapping[str, Any]], names: Sequence[str], check_mode: bool) -> list[str]:
    """Return what was removed, or in check mode would be, and what is still there, a sentence each.

    Args:
        hostvars: Ansible's ``hostvars``.
        names: the hosts of the site.
        check_mode: whether nothing was changed.
    """
    results = {name: list(_results(hostvars[name])) for name in names}
    looked = [name for name in names if results[name]]
    lines = []
    for name in looked:
        removed = _joined(text for result in results[name] for text in result.get("removed", []))
        if check_mode and removed:
            lines.append(f"{name} would lose {', '.join(removed)}.")
        elif removed:
            containers = sum(text.startswith("container ") for text in removed)
            lines.append(f"{name} has lost {containers} containers and {len(removed) - containers} files and folders.")
        else:
            lines.append(f"{name} had nothing of this project's to remove.")
    for kind, sentence in _KINDS.items():
        found = {}
        for name in looked:
            texts = _joined(text for result in results[name] for text in result["left"].get(kind, []))
            if texts:
                found[name] = str(len(texts)) if kind in _COUNTED else ", ".join(texts)
        if kind == "engine":
            lines += [f"{hosts}: {what}" for what, hosts in _groups(found)]
        elif found:
            lines.append(sentence.format(all="; ".join(f"{what} on {hosts}" for what, hosts in _groups(found))))
    return lines


def teardown_problems(
    hostvars: Mapping[str, Mapping[str, Any]], names: Iterable[str], reached: Sequence[str]
) -> list[str]:
    """Return where the site was not, or not wholly, taken off, a sentence each.

    Args:
        hostvars: Ansible's ``hostvars``, with ``teardown_failed`` where something failed.
        names: the hosts of the site.
        reached: those that answered.
    """
    listed = list(names)
    silent = [name for name in listed if name not in reached]
    problems = [
        f"{name} was not finished: {hostvars[name]['teardown_failed']} Mend that and run teardown.yml again."
        for name in listed
        if "teardown_failed" in hostvars[name]
    ]
    if silent:
        problems.append(
            f"{', '.join(silent)} can't be reached or worked on, so nothing was removed there: mend that and run "
            "teardown.yml again."
        )
    return problems


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {"teardown_problems": teardown_problems, "teardown_report": teardown_report}
