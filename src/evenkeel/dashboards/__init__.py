"""Grafana's dashboards as code; ``python -m evenkeel.dashboards`` (``make dashboards``) writes files/dashboards."""

from __future__ import annotations

import json
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from evenkeel.dashboards import site

FOLDER = Path(__file__).resolve().parents[3] / "files" / "dashboards"
DASHBOARDS = {"site.json": site.site}


def render() -> dict[str, str]:
    """Return every dashboard as JSON, by file name."""
    return {
        name: json.dumps(dashboard().build(), cls=JSONEncoder, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
        for name, dashboard in DASHBOARDS.items()
    }
