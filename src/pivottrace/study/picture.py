"""The study's picture: AUROC with intervals, and risk by coverage, as one SVG."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from pivottrace.report.svg import COLOURS, drawing, new_figure
from pivottrace.stats.ranking_metrics import FloatArray
from pivottrace.stats.selective import risk_coverage
from pivottrace.study.estimator_metrics import ORACLE
from pivottrace.study.pools import PoolEvidence
from pivottrace.study.text import name_of

COVERAGES = np.linspace(
    0.05, 1, 96
)  # below 0.05 the risk is that of a few questions, which is noise
CURVES = ("consistency", "entropy_mean", "length", "random")  # beside the default and the oracle
ROW_HEIGHT, LEAST_HEIGHT, WIDTH = 0.22, 3.0, 9.4


def draw(pools: Sequence[PoolEvidence], results: Mapping[str, Any]) -> str:
    """Return the SVG's text; the same results give the same bytes."""
    estimators = results["estimators"]
    names = [name for name in estimators if estimators[name]["auroc"]["value"] is not None]
    names.sort(key=lambda name: estimators[name]["auroc"]["value"])
    with drawing():
        figure = new_figure(WIDTH, max(LEAST_HEIGHT, 0.9 + ROW_HEIGHT * len(names)))
        left, right = figure.subplots(1, 2)
        _forest(left, names, estimators, results["default"])
        _curves(right, pools, results["default"])
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", facecolor="white", metadata={"Date": None})
    return buffer.getvalue()


def _forest(axes: Axes, names: Sequence[str], estimators: Any, default: str) -> None:
    for place, name in enumerate(names):
        figure = estimators[name]["auroc"]
        colour = COLOURS["annotate" if name == default else "weak"]
        if figure["low"] is not None:
            axes.plot([figure["low"], figure["high"]], [place, place], color=colour, lw=2)
        axes.plot(figure["value"], place, "o", color=colour, ms=4.5)
    axes.axvline(0.5, color=COLOURS["soft"], lw=0.8, ls="--")
    axes.set_yticks(range(len(names)), [name_of(name) for name in names])
    axes.set(title="AUROC: the greedy answer is wrong", ylim=(-0.6, max(len(names), 1) - 0.4))
    axes.grid(axis="y", visible=False)


def _curves(axes: Axes, pools: Sequence[PoolEvidence], default: str) -> None:
    roles = ("annotate", "mu", "vote", "defer", "discard", "ink")
    for role, name in zip(roles, (default, *CURVES, ORACLE), strict=True):
        if name == ORACLE or all(name in pool.scores for pool in pools):
            axes.plot(
                COVERAGES, _risk(pools, name), color=COLOURS[role], lw=1.5, label=name_of(name)
            )
    axes.set(
        title="risk of the questions kept", xlabel="share kept, most certain first", xlim=(0, 1)
    )
    axes.set_ylabel("share of wrong greedy answers")
    axes.legend(loc="best", fontsize=7.5)


def _risk(pools: Sequence[PoolEvidence], name: str) -> FloatArray:
    """Return the mean risk at `COVERAGES` over pools, by questions; it is linear within a tie."""
    risks = []
    for pool in pools:
        scores = -pool.correctness if name == ORACLE else pool.scores[name]
        known = np.isfinite(scores)
        if known.any():
            coverage, risk = risk_coverage(scores[known], pool.wrong[known])
            risks.append((np.interp(COVERAGES, coverage, risk), known.sum()))
    if not risks:
        return np.full(COVERAGES.size, np.nan)
    mean: FloatArray = np.average([r for r, _ in risks], axis=0, weights=[n for _, n in risks])
    return mean
