"""The picture of a plan: routes and expected learning by budget, as a separate SVG file."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.ticker import PercentFormatter

from pivottrace.report.svg import COLOURS, drawing, new_figure
from pivottrace.routing.routes import ROUTES


def plan_figure(rows: Sequence[dict[str, Any]], num_probes: int) -> str:
    """Draw a plan.

    Args:
        rows: Rows of PLAN, by rising budget; expected values may be missing.
        num_probes: Labels bought so far, drawn as a dotted line; 0 without a calibration.
    """
    budget = np.array([row["budget"] for row in rows])
    calibrated = num_probes > 0
    with drawing():
        figure = new_figure(9.4, 3.3)
        panels: Any = figure.subplots(1, 2 if calibrated else 1, squeeze=False)[0]
        counts = np.array([[row[route] for route in ROUTES] for row in rows], float)  # (B, 4)
        total = max(counts[0].sum(), 1.0)
        panels[0].stackplot(
            budget, (counts / total).T, labels=ROUTES, colors=[COLOURS[r] for r in ROUTES], lw=0
        )
        panels[0].set(title="Routes of the pool", ylim=(0, 1), ylabel="share of the pool")
        panels[0].legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=4)
        if calibrated:
            _learning(panels[1], budget, rows)
            for axes in panels:  # the labels on the left of this line are spent
                axes.axvline(num_probes / total, color=COLOURS["ink"], lw=1, ls=(0, (2, 3)))
        for axes in panels:
            axes.set(xlim=(0, 1), xlabel="label budget, share of the pool")
            axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
            axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
        return buffer.getvalue()


def _learning(axes: Any, budget: np.ndarray, rows: Sequence[dict[str, Any]]) -> None:
    most = max((row["learning"] for row in rows), default=0.0) or 1.0
    middle, low, high = (
        np.array([row[name] for row in rows]) / most
        for name in ("learning", "learning_low", "learning_high")
    )
    wrong = np.array([np.nan if r["wrong_votes"] is None else r["wrong_votes"] for r in rows])
    axes.fill_between(budget, low, high, color=COLOURS["mu"], alpha=0.14, lw=0)
    axes.plot(budget, middle, color=COLOURS["mu"], lw=2.2, label="expected learning, of the most")
    axes.plot(budget, wrong, "--", color=COLOURS["vote"], lw=1.8, label="wrong pseudo-labels")
    axes.set(title="Expected result", ylim=(0, None))
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2)
