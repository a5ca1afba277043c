"""The questions of a study by kind: how hard they are, and how long the responses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pivottrace.stats.ranking_metrics import BoolArray, FloatArray
from pivottrace.study.pools import PoolEvidence


def composition(pools: Sequence[PoolEvidence]) -> list[dict[str, Any]]:
    """One row per kind of question, by name, over all pools; and one of all questions, the last.

    Returns:
        Rows with `kind` (None: all; "" for questions without one) and `num_questions`. Shares in
        [0, 1]: `greedy_wrong`, `mean_correctness`, `never_right` and `always_right` (in all truth
        samples), and `ended` (greedy responses). `tokens` of the greedy responses: mean, 10th and
        90th percentile.
    """
    kinds = np.concatenate([np.array(pool.kind_names)[pool.kinds] for pool in pools])
    wrong, ended, correctness, tokens = (
        np.concatenate(values)
        for values in zip(
            *((p.wrong, p.ended, p.correctness, p.scores["length"]) for p in pools), strict=True
        )
    )
    named = np.unique(kinds).tolist()
    chosen = [(kind, kinds == kind) for kind in named if len(named) > 1]
    return [
        {"kind": kind} | _row(wrong[of], ended[of], correctness[of], tokens[of])
        for kind, of in [*chosen, (None, np.full(kinds.size, True))]
    ]


def _row(
    wrong: BoolArray, ended: BoolArray, correctness: FloatArray, tokens: FloatArray
) -> dict[str, Any]:
    return {
        "num_questions": int(wrong.size),
        "greedy_wrong": float(wrong.mean()),
        "mean_correctness": float(correctness.mean()),
        "never_right": float((correctness == 0).mean()),
        "always_right": float((correctness == 1).mean()),
        "ended": float(ended.mean()),
        "tokens": [float(tokens.mean()), *np.percentile(tokens, [10, 90]).tolist()],
    }
