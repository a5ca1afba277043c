"""Predicted against observed: how honest the chances of votes are on the probes.

Each probe's chance comes from a fit without it. A probe counts for one over its chance of having
been drawn. The share of right votes in the whole pool is the mean predicted chance of its votes,
mended by the probes' errors (the difference estimator of survey sampling). The weighted share of
the probes themselves errs far more, because few probes are unanimous and these weigh most. All of
it is ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pivottrace.routing.vote_model import Z_90

FloatArray = npt.NDArray[np.float64]

CERTAIN = 1e-6  # chances are kept this far from 0 and 1, where a single miss would cost without end


def check_votes(rows: Sequence[Mapping[str, Any]], chances: npt.ArrayLike) -> dict[str, Any] | None:
    """Return the figures of the check; None if no probe has a vote, a prediction and a chance.

    Args:
        rows: Rows of `evidence`.
        chances: (V,) predicted chances of all votes of the pool, at least one. Probes
            have the chances of `rows`, which come from fits without them.

    Returns:
        `num`, the probes in the check; `predicted`, the mean of `chances`; `observed`, the share of
        right votes in the pool by the probes, with the 90 % interval `low`, `high`; `log_loss` with
        the trace and `log_loss_by_votes` without it, weighted means over probes (in nats, lower is
        better); `trace_adds`, the second less the first, with its 90 % interval.
    """
    used = checkable(rows)
    if not used:
        return None
    drawn = np.array([row["chance"] for row in used])
    weights = 1.0 / drawn
    right = np.array([row["vote_right"] for row in used], dtype=np.float64)
    by_all, by_votes = (
        np.array([row[name] for row in used]) for name in ("predicted", "predicted_by_votes")
    )
    loss, loss_by_votes = log_loss(by_all, right), log_loss(by_votes, right)
    adds, half = weighted_mean(loss_by_votes - loss, weights)
    pool = np.asarray(chances, dtype=np.float64)
    errors = (right - by_all) / drawn
    observed = pool.mean() + errors.sum() / pool.size
    # Few probes meet a miss that the model holds unlikely, so an error counts at least as expected.
    squares = np.maximum(errors**2, by_all * (1.0 - by_all) / drawn**2)
    around = Z_90 * np.sqrt(((1.0 - drawn) * squares).sum()) / pool.size
    return {
        "num": len(used),
        "predicted": float(pool.mean()),
        "observed": {
            "mean": float(np.clip(observed, 0.0, 1.0)),
            "low": float(np.clip(observed - around, 0.0, 1.0)),
            "high": float(np.clip(observed + around, 0.0, 1.0)),
        },
        "log_loss": float(np.average(loss, weights=weights)),
        "log_loss_by_votes": float(np.average(loss_by_votes, weights=weights)),
        "trace_adds": {"mean": adds, "low": adds - half, "high": adds + half},
    }


def checkable(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The rows of `evidence` with a vote, a prediction and a known chance of having been drawn."""
    return [
        row
        for row in rows
        if row["chance"] is not None and row["predicted"] is not None and not row["vote_abstained"]
    ]


def log_loss(chance: FloatArray, happened: FloatArray) -> FloatArray:
    """Return the log loss (n,), in nats, of chances of an event; `happened` is 1 if it came."""
    bounded = np.clip(chance, CERTAIN, 1.0 - CERTAIN)
    return -np.where(happened > 0, np.log(bounded), np.log1p(-bounded))


def weighted_mean(values: FloatArray, weights: FloatArray) -> tuple[float, float]:
    """The weighted mean, and half of its 90 % interval by the ratio estimator's variance."""
    mean = float(np.average(values, weights=weights))
    share = weights / weights.sum()
    size = values.size
    correction = size / max(size - 1, 1)
    return mean, Z_90 * float(np.sqrt(correction * ((share * (values - mean)) ** 2).sum()))
