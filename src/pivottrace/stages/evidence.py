"""The evidence on one question, from its stored trace: the shared part of scoring and voting.

This module is not a stage. The stages are `score`, for estimators that need no samples, and
`sample`, for estimators that do.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pivottrace.config import Config, PivotsConfig
from pivottrace.estimators.trace_evidence import TraceEvidence
from pivottrace.run.choices import driving_estimator, estimators_in, own_reference
from pivottrace.run.directory import RunDir
from pivottrace.signals.layer_path import LayerPath
from pivottrace.signals.pivot_detection import find_onsets, find_peaks

TRACED = ("far_mass", "question_mass", "entropy", "log_prob", "self_certainty")
SIGNALS_READ = ("question_id", "failure", "top2_margin", "layer_path", *TRACED)
GREEDY_READ = ("question_id", "text", "answer", "finish")
# Each signal's threshold, by its key in `reference.json`.
THRESHOLDS = {"threshold": "far_mass", "question_threshold": "question_mass"}


def evidence_of(
    run: RunDir,
    signal: dict[str, Any],
    text: str,
    thresholds: dict[str, float | None],
    answer_classes: list[int] | None = None,
) -> TraceEvidence | None:
    """The evidence on one question; None if its trace has failed, or if no trace has a signal.

    Args:
        run: The run, for its pivots and its seed.
        signal: The question's row of `signals`, with the columns `SIGNALS_READ`.
        text: Text of its greedy response.
        thresholds: The frozen thresholds of onsets, by the keys of `THRESHOLDS`.
        answer_classes: (G,) class of each sampled answer; None before there are samples.
    """
    if signal["failure"] is not None or None in thresholds.values():
        return None
    settings = run.config.pivots
    traced = {name: np.asarray(signal[name], np.float32) for name in TRACED}
    far_mass = traced.pop("far_mass")
    onsets, peaks = find_pivots(far_mass, thresholds["threshold"], settings)
    question_onsets, _ = find_pivots(
        traced.pop("question_mass"), thresholds["question_threshold"], settings
    )
    return TraceEvidence(
        question_id=signal["question_id"],
        num_tokens=far_mass.size,
        text=text,
        onsets=onsets,
        peaks=peaks,
        question_onsets=question_onsets,
        layer_path=_layer_path(signal["layer_path"]),
        answer_classes=answer_classes or [],
        seed=run.config.seed,
        **traced,
    )


def has_every_estimator(run: RunDir, stage: str, table: str) -> bool:
    """Whether a finished table has every estimator, and the user's one from the same reference.

    Two modules may each have a function of one name, so the column's name alone does not tell.
    """
    facts = run.stage_facts(stage)
    if not facts:
        return False
    has_columns = estimators_in(table, run.config).keys() <= set(run.table_schema(table).names)
    own = own_estimator_facts(table, run.config)
    return has_columns and own.items() <= facts.items()


def own_estimator_facts(table: str, config: Config) -> dict[str, str]:
    """The fact that a stage records on the user's estimator: its reference, if its table has it."""
    own = own_reference(config)
    is_there = own is not None and driving_estimator(config) in estimators_in(table, config)
    return {"own_estimator": own} if own is not None and is_there else {}


def find_pivots(
    signal: np.ndarray, threshold: float | None, settings: PivotsConfig
) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the pivots of one signal (T,): onsets and peaks."""
    assert threshold is not None
    onsets = find_onsets(signal, threshold, settings.amplitude, settings.window)
    peaks = find_peaks(signal, settings.amplitude, settings.window)
    return onsets, peaks


def _layer_path(stored: dict[str, Any] | None) -> LayerPath | None:
    if stored is None:
        return None
    arrays = {n: np.asarray(v) for n, v in stored.items() if isinstance(v, list)}
    return LayerPath(**(stored | arrays))
