"""Matplotlib figures as inline SVG that follows the page's light or dark colours, and repeats.

A figure is drawn in stand-in colours, one per role. In the SVG each becomes a CSS variable of the
page. The same data gives the same bytes: identifiers are hashed with a fixed salt, and no date is
written. Identifiers also have the figure's name, because several figures share one page.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

# Inches. A phone's page is about 340 pixels wide, so its text keeps its size.
NARROW_WIDTH = 4.3
MOST_SCALE = 1.5
_narrow: ContextVar[bool] = ContextVar("narrow", default=False)

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


def for_both_widths(draw: Callable[[], str | None]) -> str | None:
    """Draw a figure for a wide page and again for a phone; the page's style shows one of them.

    Args:
        draw: Draws the figure by `new_figure`, `panels` and `to_svg`. None if there is nothing.
    """
    wide = draw()
    if wide is None:
        return None
    token = _narrow.set(True)
    try:
        narrow = draw()
    finally:
        _narrow.reset(token)
    return f'<div class="on-wide">{wide}</div><div class="on-narrow">{narrow}</div>'


def is_narrow() -> bool:
    """Whether the figure is for a phone."""
    return _narrow.get()


def new_figure(
    width: float, height: float, layout: LayoutName = "constrained", narrow_height: float = 0.0
) -> Figure:
    """A figure in inches, without pyplot and its global state.

    Args:
        width: On a wide page.
        height: On a wide page.
        layout: As matplotlib's.
        narrow_height: On a phone; 0 is the same height.
    """
    if is_narrow():
        width, height = min(width, NARROW_WIDTH), narrow_height or height
    figure = Figure(figsize=(width, height), layout=layout)
    FigureCanvasSVG(figure)
    return figure


def panels(figure: Any, count: int, ratios: Sequence[float] | None = None) -> list[Axes]:
    """Panels side by side; on a phone one below the other.

    Args:
        figure: A figure or a part of one.
        count: Number of panels, at least 1.
        ratios: Their widths beside each other.
    """
    if is_narrow():
        return list(figure.subplots(count, 1, squeeze=False)[:, 0])
    return list(figure.subplots(1, count, squeeze=False, width_ratios=ratios)[0])


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
    # Inside HTML an svg needs no namespaces. It fills the page, but a small one is not blown up.
    view_box = re.search(r'viewBox="[^"]*"', root)[0]  # type: ignore[index]
    widest = f'style="max-width: {MOST_SCALE * 72 * figure.get_figwidth():.0f}px"'
    svg = f'<svg class="figure" role="img" aria-label="{description}" {widest} {view_box}>{body}'
    name = f"{name}-narrow" if is_narrow() else name
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r"url\(#", f"url(#{name}-", svg)
    svg = re.sub(r'href="#', f'href="#{name}-', svg)
    for role, colour in COLOURS.items():
        svg = svg.replace(colour, f"var(--{role})")
    return svg
