"""Matplotlib figures as inline SVG that follows the page's light or dark colours, and repeats.

A figure is drawn in stand-in colours, one per role. In the SVG each becomes a CSS variable of the
page. The same data gives the same bytes: identifiers are hashed with a fixed salt, and no date is
written. Identifiers also have the figure's name, because several figures share one page.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import matplotlib
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

LayoutName = Literal["constrained"] | None

# Role to stand-in. The stand-ins resemble the light theme, so that a figure also reads alone.
COLOURS = {
    "ink": "#1c2330",
    "soft": "#5d6675",
    "grid": "#e3e6eb",
    "paper": "#fefefd",
    "annotate": "#c8500a",
    "weak": "#0a6ab4",
    "discard": "#a4abb6",
    "defer": "#e5b31f",
    "mu": "#007f6b",
    "vote": "#7b4bb0",
}
_STYLE: dict[str, Any] = {
    "svg.hashsalt": "pivottrace",
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",
    "font.size": 8.5,
    "text.color": COLOURS["ink"],
    "text.parse_math": False,
    "axes.edgecolor": COLOURS["soft"],
    "axes.labelcolor": COLOURS["soft"],
    "axes.titlecolor": COLOURS["ink"],
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "grid.color": COLOURS["grid"],
    "grid.linewidth": 0.8,
    "xtick.color": COLOURS["soft"],
    "ytick.color": COLOURS["soft"],
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.solid_capstyle": "round",
}
_NO_METADATA = {"Creator": None, "Date": None, "Format": None, "Type": None}


@contextmanager
def drawing() -> Iterator[None]:
    """The report's drawing style. It ignores the user's matplotlib configuration."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        yield


def new_figure(width: float, height: float, layout: LayoutName = "constrained") -> Figure:
    """A figure in inches, without pyplot and its global state."""
    figure = Figure(figsize=(width, height), layout=layout)
    FigureCanvasSVG(figure)
    return figure


def to_svg(figure: Figure, name: str, description: str) -> str:
    """Write a figure as one `<svg>` element; call it inside `drawing`.

    Args:
        figure: Drawn in `COLOURS` only, with fixed texts (nothing that a model or user wrote).
        name: Prefix of every identifier; letters and dashes.
        description: Text for a screen reader.
    """
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata=_NO_METADATA)
    svg = buffer.getvalue()
    root, body = svg[svg.index("<svg") :].rstrip().split(">", 1)
    # Inside HTML an svg needs no namespaces, and its size comes from the page.
    view_box = re.search(r'viewBox="[^"]*"', root)[0]  # type: ignore[index]
    svg = f'<svg class="figure" role="img" aria-label="{description}" {view_box}>{body}'
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r"url\(#", f"url(#{name}-", svg)
    svg = re.sub(r'href="#', f'href="#{name}-', svg)
    for role, colour in COLOURS.items():
        svg = svg.replace(colour, f"var(--{role})")
    return svg
