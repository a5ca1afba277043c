"""The questions of each pool by kind: how hard they are, and how long the responses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from pivottrace.report.breakdown import in_words
from pivottrace.stats.ranking_metrics import BoolArray
from pivottrace.study.pools import PoolEvidence


def composition(pools: Sequence[PoolEvidence]) -> list[dict[str, Any]]:
    """Rows pool by pool: one per kind of question, the largest kind first, then the whole pool.

    Returns:
        Rows with `pool`, `kind` (in words, "" for questions without one; None for the whole pool)
        and `num_questions`. Shares in [0, 1]: `greedy_wrong`, `mean_correctness`, `never_right` and
        `always_right` (in all truth samples), and `ended` (greedy responses). `tokens` of the
        greedy responses: mean, 10th and 90th percentile.
    """
    return [
        {"pool": pool.name, "kind": kind} | _row(pool, of)
        for pool in pools
        for kind, of in _parts(pool)
    ]


def _parts(pool: PoolEvidence) -> Iterator[tuple[str | None, BoolArray]]:
    if len(pool.kind_names) > 1:
        sizes = np.bincount(pool.kinds, minlength=len(pool.kind_names))
        for kind in np.argsort(-sizes, kind="stable"):
            yield in_words(pool.kind_names[kind]), pool.kinds == kind
    yield None, np.full(pool.wrong.size, True)


def _row(pool: PoolEvidence, of: BoolArray) -> dict[str, Any]:
    correctness, tokens = pool.correctness[of], pool.scores["length"][of]
    return {
        "num_questions": int(of.sum()),
        "greedy_wrong": float(pool.wrong[of].mean()),
        "mean_correctness": float(correctness.mean()),
        "never_right": float((correctness == 0).mean()),
        "always_right": float((correctness == 1).mean()),
        "ended": float(pool.ended[of].mean()),
        "tokens": [float(tokens.mean()), *np.percentile(tokens, [10, 90]).tolist()],
    }
