"""Ansible module: tell whether apt would have anything to do for some packages, without asking apt.

apt reads its lists for a second of CPU to find that there is nothing to do. What it would find is in two files that are
read here in a moment. Runs on hosts with the distribution's Python, 3.9 or newer.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping
from pathlib import Path

DOCUMENTATION = """
module: apt_installed
short_description: Tell whether packages are installed as they are wanted
description:
  - Looks at dpkg's status and at what apt has marked as installed automatically. Changes nothing.
  - "A package that came along with another one is not complete: apt would take it away together with that one, until it
    is installed for its own sake."
options:
  packages: {description: "C(name) or C(name=version), with C(*) in the version.", type: list, elements: str,
             required: true}
author: [evenkeel]
"""
EXAMPLES = """
- name: Look whether HAProxy is installed
  apt_installed:
    packages: [haproxy]
  register: found
"""
RETURN = """
installed: {description: "Whether all are installed, in whatever version.", type: bool, returned: always}
complete: {description: "Whether apt would have nothing to do for them.", type: bool, returned: always}
"""

_FORM = "${Package}\\t${Version}\\t${db:Status-Status}\\n"
_EXTENDED_STATES = Path("/var/lib/apt/extended_states")


def parse_installed(text: str) -> dict[str, str]:
    """Return the version of each installed package from ``dpkg-query``'s lines name, version, status."""
    rows = (line.split("\t") for line in text.splitlines())
    return {row[0]: row[1] for row in rows if len(row) == 3 and row[2] == "installed"}


def parse_automatic(text: str) -> set[str]:
    """Return the packages that came along with others from apt's ``extended_states``."""
    stanzas = (stanza.splitlines() for stanza in text.split("\n\n"))
    return {
        line.partition(": ")[2]
        for stanza in stanzas
        if "Auto-Installed: 1" in stanza
        for line in stanza
        if line.startswith("Package: ")
    }


def complete(packages: Iterable[str], installed: Mapping[str, str], automatic: set[str]) -> bool:
    """Return whether apt would have nothing to do.

    Args:
        packages: ``name`` or ``name=pattern``.
        installed: the version of each installed package.
        automatic: packages that came along with others.
    """
    for package in packages:
        name, _, pattern = package.partition("=")
        if name not in installed or name in automatic or not fnmatch.fnmatchcase(installed[name], pattern or "*"):
            return False
    return True


def main() -> None:
    """Ansible's entry point."""
    from ansible.module_utils.basic import AnsibleModule

    module = AnsibleModule(
        {"packages": {"type": "list", "elements": "str", "required": True}}, supports_check_mode=True
    )
    packages = module.params["packages"]
    names = [package.partition("=")[0] for package in packages]
    # Those that dpkg does not know end up in its errors.
    text = module.run_command(["dpkg-query", "--show", f"--showformat={_FORM}", *names])[1] if names else ""
    installed = parse_installed(text)
    try:
        automatic = parse_automatic(_EXTENDED_STATES.read_text())
    except FileNotFoundError:
        automatic = set()
    there = installed.keys() >= set(names)
    module.exit_json(changed=False, installed=there, complete=complete(packages, installed, automatic))


if __name__ == "__main__":
    main()
