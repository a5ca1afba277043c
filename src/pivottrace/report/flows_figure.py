"""The picture of several rounds: a column for each round's routes, and bands for the moves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path

from pivottrace.report.svg import COLOURS, drawing, new_figure, to_svg
from pivottrace.routing.routes import ROUTES

WIDTH = 9.4
HALF = 0.07  # of a column, where rounds are 1 apart
GAP = 0.02  # between routes, of the pool
LEAST_LABELLED = 0.03  # share of the pool that has room for its number


def flows_figure(matrices: Sequence[npt.ArrayLike]) -> str:
    """Draw the moves between rounds.

    Args:
        matrices: One per pair of rounds, each (4, 4): questions by route before and after, in the
            order of `ROUTES`, from top to bottom.
    """
    counts = [np.asarray(matrix, dtype=float) for matrix in matrices]
    total = max(float(counts[0].sum()), 1.0)
    sizes = [counts[0].sum(axis=1), *(matrix.sum(axis=0) for matrix in counts)]  # (4,) per round
    tops = [_tops(size / total) for size in sizes]
    with drawing():
        figure = new_figure(WIDTH, 3.0, layout=None)
        axes = figure.subplots(
            gridspec_kw={"left": 0.03, "right": 0.97, "top": 0.98, "bottom": 0.1}
        )
        for index, matrix in enumerate(counts):
            _bands(axes, index, matrix / total, tops[index], tops[index + 1])
        for index, (size, top) in enumerate(zip(sizes, tops, strict=True)):
            _column(axes, index, size, size / total, top)
        axes.set(xlim=(-0.2, len(counts) + 0.2), ylim=(-1 - 3 * GAP - 0.01, 0.01), yticks=[])
        axes.set_xticks(range(len(sizes)), [f"round {index}" for index in range(len(sizes))])
        axes.grid(False)
        for side in axes.spines.values():
            side.set_visible(False)
        return to_svg(figure, "flows", "questions that moved between routes from round to round")


def _tops(shares: np.ndarray) -> np.ndarray:
    """(4,) upper edge of each route in a column that hangs down from 0."""
    above = np.concatenate([[0.0], np.cumsum(shares)[:-1]])
    tops: np.ndarray = -above - GAP * np.arange(len(ROUTES))
    return tops


def _column(axes: Any, index: int, size: np.ndarray, shares: np.ndarray, tops: np.ndarray) -> None:
    for route, count, share, top in zip(ROUTES, size, shares, tops, strict=True):
        corner = (index - HALF, top - share)
        axes.add_patch(Rectangle(corner, 2 * HALF, share, color=COLOURS[route], lw=0))
        if share >= LEAST_LABELLED:
            # Beside the column: no colour of text can be read on all four routes.
            axes.text(index + HALF + 0.015, top - share / 2, f"{count:.0f}", va="center")


def _bands(axes: Any, index: int, shares: np.ndarray, left: np.ndarray, right: np.ndarray) -> None:
    """Draw the bands between two columns. They leave sorted by end, and arrive sorted by start."""
    leaving, arriving = left.copy(), right.copy()
    for start, route in enumerate(ROUTES):
        for end in range(len(ROUTES)):
            share = shares[start, end]
            if share > 0:
                band = _band(index, leaving[start], arriving[end], share)
                axes.add_patch(PathPatch(band, color=COLOURS[route], alpha=0.35, lw=0))
            leaving[start] -= share
            arriving[end] -= share


def _band(index: int, left: float, right: float, share: float) -> Path:
    """A band of equal height from one column to the next, level where it meets them."""
    start, end, middle = index + HALF, index + 1 - HALF, index + 0.5
    upper = [(start, left), (middle, left), (middle, right), (end, right)]
    lower = [(x, y - share) for x, y in reversed(upper)]
    curve = [Path.CURVE4] * 3
    codes = [Path.MOVETO, *curve, Path.LINETO, *curve, Path.CLOSEPOLY]
    return Path([*upper, *lower, upper[0]], codes)
