"""The verdict of a study in words: whether a pool fits its model, and how to rank it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pivottrace.estimators import ESTIMATORS
from pivottrace.report.verdict import FEW_RIGHT
from pivottrace.report.wording import estimator_title
from pivottrace.study.estimator_metrics import ORACLE


def verdict_lines(results: Mapping[str, Any]) -> Iterator[str]:
    """Yield sentences, the gravest first.

    Args:
        results: The content of `study.json`.
    """
    for pool in results["pools"]:
        right = pool["mean_correctness"]
        if right < FEW_RIGHT:
            yield (
                f"{pool['name']} is too hard for its model: {100 * right:.1f} % of the samples are "
                f"right, so hardly anything can be learnt or ranked. Take a stronger model or "
                f"easier questions, or train it first on worked solutions"
            )
        elif right > 1 - FEW_RIGHT:
            yield (
                f"{pool['name']} is too easy for its model: {100 * right:.1f} % of the samples are "
                f"right. Take harder questions"
            )
    yield from filter(None, map(_part_of, results["pools"]))
    yield _ranking(results)


def _part_of(pool: Mapping[str, Any]) -> str | None:
    """A warning about a pool if only a part of it has answers; else None."""
    if not pool["num_unanswered"]:
        return None
    num_answered = pool["num_questions"] + pool["num_failed"]
    return (
        f"{pool['name']}: {num_answered:,} of {num_answered + pool['num_unanswered']:,} questions "
        f"have an answer; the study is of these. They may be no random sample of the pool, and "
        f"then its figures do not hold for the others"
    )


def _ranking(results: Mapping[str, Any]) -> str:
    """The estimator to rank by: the default, unless another is better beyond chance."""
    default, figures = results["default"], results["estimators"]
    own = figures[default]["auroc"]
    title = estimator_title(default)
    if own["value"] is None:
        return "no ranking can be judged: all greedy answers are right, or all are wrong"
    better = [
        name
        for name, gains in results["advantages"].items()
        if name != ORACLE
        and name in ESTIMATORS
        and ESTIMATORS[name].competes
        and (gains["auroc"]["low"] or 0.0) > 0
    ]
    if better:
        best = max(better, key=lambda name: figures[name]["auroc"]["value"])
        return (
            f"rank by {estimator_title(best)} (score.estimator = {best!r}): AUROC "
            f"{figures[best]['auroc']['value']:.2f}, better beyond chance than {title} with "
            f"{own['value']:.2f}"
        )
    if own["low"] is not None and own["low"] <= 0.5:
        return (
            f"nothing that reads the trace is shown to rank these questions: {title} has AUROC "
            f"{own['value']:.2f}, and its interval holds chance (0.5)"
        )
    return (
        f"rank by {title}, the default: AUROC {own['value']:.2f}, and no estimator that reads the "
        f"trace alone is better beyond chance"
    )
