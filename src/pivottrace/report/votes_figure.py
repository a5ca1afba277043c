"""The report's figure of predicted against observed chances that a vote is right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.ticker import PercentFormatter

from pivottrace.report.svg import COLOURS, drawing, new_figure, to_svg
from pivottrace.routing.vote_check import checkable
from pivottrace.stats.intervals import share_interval

FloatArray = npt.NDArray[np.float64]

# Each dot stands for at least this many probes: of fewer, the interval covers nearly everything.
LEAST_PER_BIN, MOST_BINS = 6, 6
SERIES = (
    ("predicted", "samples and trace", "vote"),
    ("predicted_by_votes", "samples alone", "soft"),
)


def bins_of(
    chance: FloatArray, right: FloatArray, weights: FloatArray
) -> list[tuple[float, float, float, float]]:
    """Return (predicted, observed, low, high) of groups of probes by rising predicted chance.

    Means are weighted. The 90 % interval is the exact one of as many probes as the weights are
    worth, (sum w)^2 / sum w^2.

    Args:
        chance: (n,) predicted chances.
        right: (n,) 1 for a right vote, else 0.
        weights: (n,) one over the chance of having been drawn.
    """
    number = int(np.clip(chance.size // LEAST_PER_BIN, 1, MOST_BINS))
    rows = []
    for group in np.array_split(np.argsort(chance, kind="stable"), number):
        weight = weights[group]
        worth = weight.sum() ** 2 / (weight**2).sum()
        observed = float(np.average(right[group], weights=weight))
        low, high = share_interval(observed * worth, worth)
        predicted = float(np.average(chance[group], weights=weight))
        rows.append((predicted, observed, float(low), float(high)))
    return rows


def votes_figure(rows: Sequence[Mapping[str, Any]]) -> str | None:
    """Draw predicted against observed chances on the probes; None without probes to draw.

    Args:
        rows: Rows of `evidence`.
    """
    used = checkable(rows)
    if len(used) < LEAST_PER_BIN:
        return None
    weights = np.array([1.0 / row["chance"] for row in used])
    right = np.array([row["vote_right"] for row in used], dtype=np.float64)
    with drawing():
        figure = new_figure(4.6, 4.0)
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color=COLOURS["soft"], lw=1, ls=(0, (2, 3)))
        for shift, (name, label, colour) in zip((0.0, 0.012), SERIES, strict=True):
            chance = np.array([row[name] for row in used])
            predicted, observed, low, high = np.array(bins_of(chance, right, weights)).T
            axes.errorbar(
                predicted + shift,
                observed,
                yerr=[observed - low, high - observed],
                color=COLOURS[colour],
                marker="o",
                ms=6,
                lw=0,
                elinewidth=1.4,
                capsize=3,
                label=label,
            )
        axes.set(
            xlim=(-0.03, 1.04),
            ylim=(-0.03, 1.04),
            xlabel="predicted chance that the vote is right",
            ylabel="share of right votes",
        )
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.legend(loc="upper left")
        return to_svg(figure, "votes", "predicted against observed chance that a vote is right")
