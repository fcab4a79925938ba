"""Draws what runs of site.yml cost against the number of backends, from what play_table.py has measured.

Use: ``python bench/play_curves.py reports/plays-<time>.json docs/images/scale.png``, after ``make bench-plays`` with
three sizes or more.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt

# What is drawn: the name in the figures, and the one for people.
CURVES = {
    "nothing changes": "site.yml, nothing changes",
    "one line of HAProxy's changes": "site.yml, one line of HAProxy's changes",
    "nothing changes, haproxy alone": "site.yml --tags haproxy, nothing changes",
    "floor": "asking all hosts for their facts",
}


def main() -> None:
    """Draw one curve for each kind of run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("figures", type=Path, help="JSON of play_table.py")
    parser.add_argument("picture", type=Path, help="the PNG to write")
    arguments = parser.parse_args()
    costs = json.loads(arguments.figures.read_text())
    figure, axis = plt.subplots(figsize=(9, 4.5))
    for what, label in CURVES.items():
        points = sorted((cost["backends"], cost["control"] + cost["hosts"]) for cost in costs if cost["what"] == what)
        axis.plot(*zip(*points, strict=True), marker="o", label=label)
    axis.set_xlabel("backends")
    axis.set_ylabel("CPU seconds, Ansible's machine and all hosts")
    axis.set_xlim(left=0)
    axis.set_ylim(bottom=0)
    axis.grid(alpha=0.3)
    axis.legend(loc="upper left", frameon=False)
    figure.tight_layout()
    figure.savefig(arguments.picture, dpi=110)


if __name__ == "__main__":
    main()
