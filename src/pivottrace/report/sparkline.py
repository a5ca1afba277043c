"""The far mass of one trace as a small SVG, drawn by hand: a tenth of the size by matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

WIDTH, HEIGHT = 720, 84
_LEFT, _RIGHT, _TOP, _BOTTOM = 6, 58, 14, 16
# A screen cannot show more points than this. Each column of the screen keeps its highest value.
MAX_POINTS = 720
# More numbers than this cannot be read side by side. Then each pivot is a tick.
MAX_NUMBERED = 60
_TICK = 7


def sparkline(
    signal: npt.NDArray[np.floating], threshold: float | None, pivots: Sequence[int]
) -> str:
    """Draw the signal with its threshold and numbered pivots.

    Args:
        signal: (T,) far mass, shares in [0, 1]; NaN is drawn as 0.
        threshold: Tau, drawn as a dashed line; None draws no line.
        pivots: Response positions, 0 to T - 1, numbered in order as in the text. More than
            `MAX_NUMBERED` are ticks at the bottom.

    Returns:
        An `<svg>` element of numbers only, coloured by CSS classes.
    """
    values = np.nan_to_num(np.asarray(signal, np.float64))
    top = 1.08 * max(float(values.max(initial=0.0)), threshold or 0.0, 1e-9)
    span_x, span_y = WIDTH - _LEFT - _RIGHT, HEIGHT - _TOP - _BOTTOM
    base = HEIGHT - _BOTTOM

    def x(position: float) -> float:
        return _LEFT + span_x * position / max(1, values.size - 1)

    def y(value: float) -> float:
        return base - span_y * min(value, top) / top

    points = [(x(t), y(v)) for t, v in _thinned(values)]
    line = " ".join(f"{px:.1f},{py:.1f}" for px, py in points)
    first, last = (points[0][0], points[-1][0]) if points else (_LEFT, _LEFT)
    parts = [
        f'<svg class="spark" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="far mass along {values.size} tokens, {len(pivots)} pivots">',
        f'<polygon class="area" points="{first:.1f},{base} {line} {last:.1f},{base}"/>',
        f'<polyline class="line" points="{line}"/>',
        f'<line class="base" x1="{_LEFT}" x2="{_LEFT + span_x}" y1="{base}" y2="{base}"/>',
    ]
    if threshold is not None:
        at = y(threshold)
        parts.append(
            f'<line class="tau" x1="{_LEFT}" x2="{_LEFT + span_x}" y1="{at:.1f}" y2="{at:.1f}"/>'
            f'<text class="tau-label" x="{_LEFT + span_x + 5}" y="{at + 3.5:.1f}">'
            f"τ {threshold:.3f}</text>"
        )
    for number, position in enumerate(sorted(pivots), start=1):
        if position >= values.size:
            continue
        value = float(values[position])
        if len(pivots) > MAX_NUMBERED:
            parts.append(_tick(number, position, value, x(position)))
        else:
            parts.append(_pivot(number, position, value, x(position), y(value)))
    parts.append(
        f'<text class="axis" x="{_LEFT}" y="{HEIGHT - 3}">token 0</text>'
        f'<text class="axis end" x="{_LEFT + span_x}" y="{HEIGHT - 3}">'
        f"{max(0, values.size - 1)}</text></svg>"
    )
    return "".join(parts)


def _tick(number: int, position: int, value: float, px: float) -> str:
    base = HEIGHT - _BOTTOM
    return (
        f'<g class="pivot">{_title(number, position, value)}'
        f'<line x1="{px:.1f}" x2="{px:.1f}" y1="{base}" y2="{base - _TICK}"/></g>'
    )


def _title(number: int, position: int, value: float) -> str:
    return f"<title>pivot {number}: token {position}, far mass {value:.3f}</title>"


def _pivot(number: int, position: int, value: float, px: float, py: float) -> str:
    return (
        f'<g class="pivot">{_title(number, position, value)}'
        f'<line x1="{px:.1f}" x2="{px:.1f}" y1="{HEIGHT - _BOTTOM}" y2="{py:.1f}"/>'
        f'<circle cx="{px:.1f}" cy="{py:.1f}" r="3.4"/>'
        f'<text x="{px:.1f}" y="{py - 5:.1f}">{number}</text></g>'
    )


def _thinned(values: npt.NDArray[np.float64]) -> list[tuple[int, float]]:
    """(position, value) pairs, at most `MAX_POINTS`: the highest of each stretch."""
    if values.size <= MAX_POINTS:
        return list(enumerate(values.tolist()))
    edges = np.linspace(0, values.size, MAX_POINTS + 1).astype(int)
    best = [int(a + np.argmax(values[a:b])) for a, b in pairwise(edges)]
    return [(position, float(values[position])) for position in best]
