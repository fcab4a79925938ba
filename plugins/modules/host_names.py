"""Ansible module: ask a host which addresses names have there.

Runs on the host, with the distribution's Python.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterable
from typing import Any

DOCUMENTATION = """
module: host_names
short_description: Ask a host which addresses names have there
description:
  - Asks as every program of the host does, by its DNS and its C(/etc/hosts). It changes nothing.
options:
  names: {description: "The names.", type: list, elements: str, required: true}
  seconds: {description: "How long to wait for all of them together.", type: float, default: 15}
author: [evenkeel]
"""
EXAMPLES = """
- name: Ask for the addresses of a name
  host_names: {names: [db.example.com]}
"""
RETURN = """
names: {description: "By name, its I(addresses), sorted, and I(why) it has none.", type: dict, returned: always}
"""


def addresses(name: str) -> list[str]:
    """Return the addresses of a name, IPv4 first; raises OSError where it has none."""
    found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    # A zone counts on this host only.
    texts = {(family != socket.AF_INET, str(place[0]).partition("%")[0]) for family, _, _, _, place in found}
    return [text for _, text in sorted(texts)]


def ask(names: Iterable[str], seconds: float) -> dict[str, dict[str, Any]]:
    """Return what is known of each name once all are known, or after some seconds, as the module does.

    A look-up can't be cut off. One that takes too long is left behind, and ends with the process.
    """
    found: dict[str, dict[str, Any]] = {
        name: {"addresses": [], "why": f"no answer within {seconds:g} s"} for name in names
    }

    def look(name: str) -> None:
        try:
            found[name] = {"addresses": addresses(name), "why": ""}
        except (OSError, UnicodeError) as error:
            found[name] = {"addresses": [], "why": getattr(error, "strerror", None) or str(error)}

    threads = [threading.Thread(target=look, args=(name,), daemon=True) for name in found]
    for thread in threads:
        thread.start()
    end = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    return dict(found)


def main() -> None:
    """Run as an Ansible module."""
    from ansible.module_utils.basic import AnsibleModule

    module = AnsibleModule(
        {
            "names": {"type": "list", "elements": "str", "required": True},
            "seconds": {"type": "float", "default": 15},
        },
        supports_check_mode=True,
    )
    module.exit_json(changed=False, names=ask(module.params["names"], module.params["seconds"]))


if __name__ == "__main__":
    main()
