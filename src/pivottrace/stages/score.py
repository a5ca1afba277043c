"""Scoring: pivots from signals, every estimator's score per question, and votes on the answers.

The thresholds of onsets are percentiles over the reference traces, one for each signal that has
onsets. They are stored in `reference.json` by the first round and frozen for later ones.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pivottrace.config import PivotsConfig
from pivottrace.estimators import Estimator
from pivottrace.estimators.trace_evidence import TraceEvidence
from pivottrace.rollouts.sampled_answers import SampledAnswers, compare_answers
from pivottrace.run import readings
from pivottrace.run.choices import estimators_of, own_reference
from pivottrace.run.directory import RunDir
from pivottrace.run.progress import progress
from pivottrace.run.storage import read_json, write_text
from pivottrace.schemas import scores_schema
from pivottrace.signals.layer_path import LayerPath
from pivottrace.signals.pivot_detection import find_onsets, find_peaks, reference_threshold
from pivottrace.verifier import Verifier

TRACED = ("far_mass", "question_mass", "entropy", "log_prob", "self_certainty")
SIGNALS_READ = ("question_id", "failure", "top2_margin", "layer_path", *TRACED)
GREEDY_READ = ("question_id", "text", "answer", "finish")
# Each signal's threshold, by its key in `reference.json`.
THRESHOLDS = {"threshold": "far_mass", "question_threshold": "question_mass"}


def run(run: RunDir) -> None:
    """Write `scores`: every estimator, the pivots and the vote of each question.

    If the user adds an estimator after scoring, the table is made again. The setting may change
    until calibration begins, and the other columns stay the same.
    """
    estimators = estimators_of(run.config)
    schema = scores_schema(estimators)
    own = own_reference(run.config)
    if _is_scored(run, estimators, own):
        return
    answers = readings.sampled_answers(run)
    path = run.path / "reference.json"
    reference = read_json(path)
    columns = ["question_id", "failure", *THRESHOLDS.values()]
    signals_parts = run.iter_parts("signals", "trace", columns)
    thresholds = _thresholds(reference, signals_parts, run.config.pivots.percentile)

    # We take one part at a time: as Python numbers, each signal needs about 30 bytes per token.
    scores: list[pa.Table] = []
    margins: list[float | None] = []
    with (
        Verifier.of(run.config.answers) as verifier,
        progress("score", run.stage_facts("rollout")["num_questions"]) as update,
    ):
        for signals, traces in zip(
            run.iter_parts("signals", "trace", SIGNALS_READ),
            run.iter_parts("rollouts_greedy", "rollout", GREEDY_READ),
            strict=True,
        ):
            rows: list[dict[str, Any]] = []
            for signal, trace in zip(signals.to_pylist(), traces.to_pylist(), strict=True):
                update(len(margins))
                samples = compare_answers(answers[signal["question_id"]], verifier.group)
                rows.append(_score(run, signal, trace, samples, thresholds, estimators))
                margins.append(signal["top2_margin"])
            scores.append(pa.Table.from_pylist(rows, schema=schema))
        update(len(margins))
    # We begin only now, so that a failed attempt (a wrong verifier, for example) fixes no setting.
    run.begin("score")
    write_text(path, json.dumps(reference | thresholds, indent=2) + "\n")
    table = pa.concat_tables(scores)
    run.write_table("scores", table)
    run.mark_done(
        "score",
        **thresholds,
        num_unscored=len(table) - table["failure"].null_count,
        smallest_top2_margin=_smallest(margins),
        **({"own_estimator": own} if own else {}),
        **verifier.facts(),
    )


def _is_scored(run: RunDir, estimators: dict[str, Estimator], own: str | None) -> bool:
    """Whether `scores` has every estimator, and the user's one from the same reference.

    Two modules may each have a function of one name, so the column's name alone does not tell.
    """
    if not run.is_done("score"):
        return False
    has_columns = estimators.keys() <= set(run.table_schema("scores").names)
    return has_columns and own in (None, run.stage_facts("score").get("own_estimator"))


def _thresholds(
    reference: dict[str, Any], parts: Iterable[pa.Table], percentile: float
) -> dict[str, float | None]:
    """The frozen thresholds. A threshold that is not frozen yet is computed from the signals."""
    chosen = pa.array(reference["question_ids"], pa.string())  # typed, since it may be empty
    is_usable = pc.field("question_id").isin(chosen) & pc.field("failure").is_null()
    usable = pa.concat_tables(part.filter(is_usable) for part in parts)

    def made(name: str) -> float | None:
        traces = [np.asarray(signal, np.float32) for signal in usable[name].to_pylist()]
        return reference_threshold(traces, percentile) if traces else None

    return {
        key: reference[key] if key in reference else made(name) for key, name in THRESHOLDS.items()
    }


def find_pivots(
    signal: np.ndarray, threshold: float, settings: PivotsConfig
) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the pivots of one signal (T,): onsets and peaks."""
    onsets = find_onsets(signal, threshold, settings.amplitude, settings.window)
    peaks = find_peaks(signal, settings.amplitude, settings.window)
    return onsets, peaks


def _score(
    run: RunDir,
    signal: dict[str, Any],
    trace: dict[str, Any],
    samples: SampledAnswers,
    thresholds: dict[str, float | None],
    estimators: dict[str, Estimator],
) -> dict[str, Any]:
    """One row of `scores`: the columns of the samples and of the trace. A missing key is null."""
    row: dict[str, Any] = {
        "question_id": signal["question_id"],
        "failure": signal["failure"] or _unanswered(trace, samples),
        **samples.columns(),
    }
    if signal["failure"] is not None or None in thresholds.values():
        return row
    evidence = _evidence(run, signal, trace["text"], samples.classes, thresholds)
    return row | _trace_columns(evidence, estimators)


def _trace_columns(evidence: TraceEvidence, estimators: dict[str, Estimator]) -> dict[str, Any]:
    """The pivots and every estimator's score. The score is NaN if the estimator has no samples."""
    scores = {name: estimate(evidence) for name, estimate in estimators.items()}
    return {**scores, "onsets": evidence.onsets, "peaks": evidence.peaks}


def _evidence(
    run: RunDir,
    signal: dict[str, Any],
    text: str,
    classes: list[int],
    thresholds: dict[str, Any],
) -> TraceEvidence:
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
        answer_classes=classes,
        seed=run.config.seed,
        **traced,
    )


def _layer_path(stored: dict[str, Any] | None) -> LayerPath | None:
    if stored is None:
        return None
    arrays = {n: np.asarray(v) for n, v in stored.items() if isinstance(v, list)}
    return LayerPath(**(stored | arrays))


def _unanswered(trace: dict[str, Any], samples: SampledAnswers) -> str | None:
    """The reason why neither the greedy trace nor any sample answers the question, else None."""
    if trace["answer"] is not None or not samples.is_unanswered:
        return None
    return "truncated" if trace["finish"] == "length" else "no_answer"


def _smallest(margins: list[float | None]) -> float | None:
    finite = [m for m in margins if m is not None and np.isfinite(m)]
    return min(finite, default=None)
