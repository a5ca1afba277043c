"""How hard the pool is for its model: a histogram of the expected share of right samples."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.ticker import MaxNLocator, PercentFormatter

from pivottrace.report.svg import COLOURS, drawing, new_figure, to_svg
from pivottrace.routing.routes import ROUTES

NUM_BINS = 20


def difficulty_figure(mu: npt.ArrayLike, routes: Sequence[str]) -> str | None:
    """Draw how many questions the model answers how often, in the colours of their routes.

    Args:
        mu: (Q,) expected share of right samples, in [0, 1]; NaN where nothing is known.
        routes: (Q,) names.

    Returns:
        The figure, or None if nothing is known of any question.
    """
    shares, names = np.asarray(mu, np.float64), np.asarray(routes)
    known = ~np.isnan(shares)
    if not known.any():
        return None
    edges = np.linspace(0, 1, NUM_BINS + 1)
    with drawing():
        figure = new_figure(9.4, 2.4)
        axes = figure.subplots()
        base = np.zeros(NUM_BINS)
        for route in ROUTES:
            counts, _ = np.histogram(shares[known & (names == route)], edges)
            axes.stairs(base + counts, edges, baseline=base, fill=True, color=COLOURS[route], lw=0)
            base = base + counts
        axes.set(xlim=(0, 1), ylabel="questions", xlabel="expected share of right samples")
        axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.grid(axis="x", visible=False)
        return to_svg(figure, "difficulty", "how often the model is right on how many questions")
