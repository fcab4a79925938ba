"""A drawing on paper and on the page: PNG on white, SVG that follows the page's colours and its width."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib as mpl
from cycler import cycler
from matplotlib.axes import Axes

mpl.use("Agg")
from matplotlib import pyplot as plt

# Stand-ins in the SVG for the page's own colours.
INK, MUTED = "#010203", "#030201"
RED, GREEN, AMBER = "#d1242f", "#1a7f37", "#9a6700"
# People who see no red or green can tell these colours apart. They are readable on white and on black.
PALETTE = ["#4c9fd4", "#d98f00", "#c4699c", "#00946a", "#7c6fe0", "#b3593a", "#6f7f8c", "#a3a000"]
_STYLE: dict[str, Any] = {
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.prop_cycle": cycler(color=PALETTE),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.size": 10,
    "grid.color": MUTED,
    "legend.labelcolor": INK,
    "svg.fonttype": "none",
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}
Painter = Callable[[Axes], None]


def png_or_svg(name: str, paint: Sequence[Painter], size: tuple[float, float], kind: str) -> bytes:
    """Return the axes painted one below the other, ``size`` in inches, as ``kind`` (png or svg)."""
    colours = {INK: "#1f2328", MUTED: "#59636e"} if kind == "png" else {}
    style: dict[Any, Any] = {
        key: colours.get(value, value) if isinstance(value, str) else value for key, value in _STYLE.items()
    }
    # The salt keeps the names inside one SVG apart from those of the next one on the page.
    with mpl.rc_context({**style, "svg.hashsalt": f"{name} {size}"}):
        figure, axes = plt.subplots(len(paint), 1, figsize=size, squeeze=False, sharex=True)
        for axis, each in zip(axes[:, 0], paint, strict=True):
            each(axis)
        out = io.BytesIO()
        metadata = {"Date": None} if kind == "svg" else {}
        figure.savefig(out, format=kind, bbox_inches="tight", transparent=kind == "svg", dpi=130, metadata=metadata)
        plt.close(figure)
    return out.getvalue()


def _svg(name: str, paint: Sequence[Painter], size: tuple[float, float]) -> str:
    text = png_or_svg(name, paint, size, "svg").decode()
    # Without the XML header, and in the page's colours.
    text = text[text.index("<svg") :]
    return text.replace(INK, "var(--ink)").replace(MUTED, "var(--muted)")


def svgs(name: str, paint: Sequence[Painter], height: float) -> dict[str, str]:
    """Return the same drawing for a desk and for a phone."""
    return {"wide": _svg(name, paint, (9, height)), "narrow": _svg(name, paint, (4.2, height))}
