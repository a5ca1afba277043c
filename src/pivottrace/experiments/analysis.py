"""The figures of an experiment from its finished results: every number that the report prints."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pivottrace.errors import RunDirError
from pivottrace.experiments.definition import BASE, Arm, Experiment
from pivottrace.experiments.results import Result, read_result, refuse_other_settings
from pivottrace.stats.accuracy import Interval
from pivottrace.stats.arms import (
    ERRORS_BELOW,
    NOT_WORSE_MARGIN,
    Curve,
    SeedValues,
    SpeedUp,
    mean_over_seeds,
    paired_means,
    speed_up,
    without_one_seed,
)

Results = Mapping[int, Result]
DIGITS = 6


def analyse(experiment: Experiment) -> dict[str, Any]:
    """Compute every figure of an experiment from the results that are finished so far.

    Returns:
        A tree of plain values, as for a JSON file; NaN is None.

    Raises:
        RunDirError: The reference has no result yet.
    """
    found = {arm.name: _results(experiment, arm.name, arm.seeds) for arm in experiment.arms}
    reference = found[experiment.reference]
    if not reference:
        raise RunDirError(
            f"{experiment.results}: the reference arm {experiment.reference!r} has no result yet. "
            f"Run it with: pivottrace lab run {experiment.path} --arms {experiment.reference}"
        )
    before = _results(experiment, BASE, experiment.seeds)
    everything = [result for results in (before, *found.values()) for result in results.values()]
    return {
        "experiment": experiment.name,
        "file": str(experiment.path),
        "reference": experiment.reference,
        "seeds": list(experiment.seeds),
        "pool": round(float(np.mean([r.facts["pool"] for r in before.values()]))),
        "held_out": _held_out(reference, found),
        "clustered_by": experiment.cluster_by,
        "versions": _versions(everything),
        "before": _interval(mean_over_seeds([_accuracy(r) for r in before.values()])),
        "arms": {
            arm.name: _arm(
                arm, found[arm.name], experiment.arm(experiment.reference), reference, before
            )
            for arm in experiment.arms
            if found[arm.name]
        },
        "compared": _compared(experiment, {**found, BASE: before}),
        "missing": _missing(experiment, found),
        "elsewhere": {name: _elsewhere(experiment, name) for name in experiment.also_evaluate},
    }


def _elsewhere(experiment: Experiment, name: str) -> dict[str, Any] | None:
    """Return the arms' figures on further held-out questions; None if the reference has none."""
    there = experiment.elsewhere(name)
    found = {arm.name: _results(there, arm.name, arm.seeds) for arm in there.arms}
    reference = found[there.reference]
    if not reference:
        return None
    before = _results(there, BASE, there.seeds)
    counts = next(iter(reference.values())).counts
    return {
        "source": experiment.also_evaluate[name],
        "versions": _versions([r for results in found.values() for r in results.values()]),
        "questions": counts.num_samples.size,
        "before": _interval(mean_over_seeds([_accuracy(r) for r in before.values()])),
        "arms": {
            arm.name: _outcome(arm, found[arm.name], reference)
            for arm in there.arms
            if found[arm.name]
        },
        "compared": _compared(there, {**found, BASE: before}),
        "missing": _missing(there, found),
    }


def _compared(experiment: Experiment, found: Mapping[str, Results]) -> list[dict[str, Any]]:
    return [
        {"arm": arm, "other": other, **gap}
        for arm, other in experiment.compare
        if (gap := _difference(found[arm], found[other])) is not None
    ]


def _missing(experiment: Experiment, found: Mapping[str, Results]) -> dict[str, list[int]]:
    """Return the seeds that have no result yet, by arm."""
    return {
        arm.name: lacking
        for arm in experiment.arms
        if (lacking := [seed for seed in arm.seeds if seed not in found[arm.name]])
    }


def _results(experiment: Experiment, name: str, seeds: Sequence[int]) -> dict[int, Result]:
    found = {seed: read_result(experiment, name, seed) for seed in seeds}
    there = {seed: result for seed, result in found.items() if result is not None}
    for result in there.values():
        refuse_other_settings(experiment, name, result.seed, result.facts)
    return there


def _accuracy(result: Result) -> SeedValues:
    return SeedValues(result.clusters, result.counts.means)


def _difference(results: Results, others: Results) -> dict[str, Any] | None:
    """Return the paired difference on the seeds that both have; None without such a seed."""
    common = sorted(results.keys() & others.keys())
    if not common or results is others:
        return None
    gaps = [
        SeedValues(results[s].clusters, paired_means(results[s].counts, others[s].counts))
        for s in common
    ]
    gap = mean_over_seeds(gaps)
    return _interval(gap) | {
        "seeds": common,
        "not_worse": bool(gap.low > -NOT_WORSE_MARGIN),
        "better": bool(gap.low > 0),
    }


def _versions(results: Sequence[Result]) -> dict[str, str]:
    """Return every version that a result was made with, by package."""
    found: dict[str, set[str]] = {}
    for result in results:
        for name, number in result.facts["versions"].items():
            found.setdefault(name, set()).add(number)
    return {name: " or ".join(sorted(numbers)) for name, numbers in found.items()}


def _held_out(reference: Results, found: Mapping[str, Results]) -> dict[str, Any]:
    result = next(iter(reference.values()))
    steps = [r.facts["steps"] for results in found.values() for r in results.values()]
    return {
        "questions": result.counts.num_samples.size,
        "samples": result.facts["num_samples"],
        "curve_questions": result.facts["curve"]["questions"],
        "steps": [min(steps), max(steps)],
    }


def _arm(
    arm: Arm, results: Results, reference_arm: Arm, reference: Results, before: Results
) -> dict[str, Any]:
    facts = [result.facts for result in results.values()]
    labels = [f["labels"] for f in facts]
    values: dict[str, Any] = {
        **_outcome(arm, results, reference),
        "labels": float(np.mean(labels)),
        "label_share": float(
            np.mean(
                [f["labels"] / before[s].facts["pool"] for s, f in zip(results, facts, strict=True)]
            )
        ),
        "routes": _means([f["routes"] for f in facts]),
        "rows": _means([f["rows"] for f in facts]),
        "tokens": {
            "training": float(np.mean([f["all_training_tokens"] for f in facts])),
            "own": float(np.mean([_own_tokens(arm, result) for result in results.values()])),
        },
        "alarms": _alarms(facts),
        "curve": _band([r.curve(0.0) for r in results.values()]),
        # On the arm's own seeds: seeds differ by as much as arms do.
        "reference_curve": _band([r.curve(0.0) for s, r in reference.items() if s in results]),
        "speed": None,
    }
    with_curves = all(result.curve(0.0).steps.size for result in reference.values())
    if values["curve"] is not None and with_curves and results.keys() & reference.keys():
        values["speed"] = _speed(_curves(arm, results), _curves(reference_arm, reference))
    return values


def _outcome(arm: Arm, results: Results, reference: Results) -> dict[str, Any]:
    """Return the accuracy of an arm, by itself and relative to the reference."""
    by_seed = {s: round(float(r.counts.means.mean()), DIGITS) for s, r in results.items()}
    return {
        "title": arm.title,
        "seeds": sorted(results),
        "accuracy": _interval(mean_over_seeds([_accuracy(r) for r in results.values()])),
        "accuracy_by_seed": by_seed,
        "difference": _difference(results, reference),
    }


def _alarms(facts: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Return the number of an arm's runs in which each alarm went off."""
    went_off = [
        {event["what"] for event in f.get("alarms", []) if event["action"] != "end"} for f in facts
    ]
    return {what: sum(what in seen for seen in went_off) for what in sorted(set().union(*went_off))}


def _own_tokens(arm: Arm, result: Result) -> float:
    """Return the tokens of the pool's rollouts that an arm's routes need: traces and samples."""
    if not arm.own_rollouts:
        return 0.0
    return float(sum(result.facts["rollout_tokens"].values()))


def _curves(arm: Arm, results: Results) -> dict[int, Curve]:
    """Return learning curves by seed; their tokens begin with the tokens that the routes needed."""
    return {seed: result.curve(_own_tokens(arm, result)) for seed, result in results.items()}


def _speed(ours: Mapping[int, Curve], theirs: Mapping[int, Curve]) -> dict[str, Any]:
    found: SpeedUp = speed_up(ours, theirs)
    left_out = [other.by_steps for other in without_one_seed(ours, theirs)]
    targets = (speed_up(ours, theirs, ERRORS_BELOW + more) for more in (1.0, -1.0))
    return {
        "target": _number(found.target),
        "steps": _number(found.steps),
        "reference_steps": _number(found.reference_steps),
        "by_steps": _number(found.by_steps),
        "by_steps_without_a_seed": [_number(value) for value in left_out],
        "by_steps_at_lower_and_higher_target": [_number(other.by_steps) for other in targets],
        "by_tokens": _number(found.by_tokens),
    }


def _band(curves: Sequence[Curve]) -> dict[str, list[float]] | None:
    """Return the mean measured curve over seeds with its standard error; None without curves."""
    if not curves or not all(curve.steps.size for curve in curves):
        return None
    accuracy = np.array([curve.accuracy for curve in curves])  # (seeds, K)
    error = (
        accuracy.std(axis=0, ddof=1) / len(curves) ** 0.5 if len(curves) > 1 else 0 * accuracy[0]
    )
    return {
        "step": curves[0].steps.tolist(),
        "accuracy": accuracy.mean(axis=0).round(DIGITS).tolist(),
        "error": error.round(DIGITS).tolist(),
    }


def _means(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {key: round(float(np.mean([row[key] for row in rows])), 1) for key in rows[0]}


def _interval(found: Interval) -> dict[str, Any]:
    return {key: round(value, DIGITS) for key, value in vars(found).items()}


def _number(value: float) -> float | None:
    return round(value, DIGITS) if math.isfinite(value) else None
