"""How this machine asks the site's own services."""

from __future__ import annotations

import requests


def session() -> requests.Session:
    """Return a session that takes nothing from its surroundings: no proxy, and no password of a .netrc."""
    made = requests.Session()
    made.trust_env = False
    return made
