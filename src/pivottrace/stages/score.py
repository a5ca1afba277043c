"""Scoring: pivots from signals, and the score of every estimator that needs no samples.

The thresholds of onsets are percentiles over the reference traces, one for each signal that has
onsets. They are stored in `reference.json` by the first round and frozen for later ones.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pivottrace.estimators import Estimator
from pivottrace.run.choices import estimators_in
from pivottrace.run.directory import RunDir
from pivottrace.run.progress import progress
from pivottrace.run.storage import read_json, write_json
from pivottrace.schemas import scores_schema
from pivottrace.signals.pivot_detection import reference_threshold
from pivottrace.stages.evidence import (
    GREEDY_READ,
    SIGNALS_READ,
    THRESHOLDS,
    evidence_of,
    has_every_estimator,
    own_estimator_facts,
)
from pivottrace.stages.unanswered import refuse_unanswered_table


def run(run: RunDir) -> None:
    """Write `scores`: the pivots of each question, and every estimator that needs no samples.

    If the user adds an estimator after scoring, the table is made again. The setting may change
    until a later stage uses the estimator, and the other columns stay the same.

    Raises:
        NoAnswersError: No trace can be scored.
    """
    if not has_every_estimator(run, "score", "scores"):
        _write(run)
    refuse_unanswered_table(run, "scores", "score")


def _write(run: RunDir) -> None:
    estimators = estimators_in("scores", run.config)
    schema = scores_schema(estimators)
    path = run.path / "reference.json"
    reference = read_json(path)
    columns = ["question_id", "failure", *THRESHOLDS.values()]
    signals_parts = run.iter_parts("signals", "trace", columns)
    thresholds = _thresholds(reference, signals_parts, run.config.pivots.percentile)

    # We take one part at a time: as Python numbers, each signal needs about 30 bytes per token.
    scores: list[pa.Table] = []
    margins: list[float | None] = []
    with progress("score", run.stage_facts("greedy")["num_questions"]) as update:
        for signals, traces in zip(
            run.iter_parts("signals", "trace", SIGNALS_READ),
            run.iter_parts("rollouts_greedy", "greedy", GREEDY_READ),
            strict=True,
        ):
            rows: list[dict[str, Any]] = []
            for signal, trace in zip(signals.to_pylist(), traces.to_pylist(), strict=True):
                update(len(margins))
                rows.append(_score(run, signal, trace["text"], thresholds, estimators))
                margins.append(signal["top2_margin"])
            scores.append(pa.Table.from_pylist(rows, schema=schema))
        update(len(margins))
    run.begin("score")
    write_json(path, reference | thresholds)
    run.write_table("scores", pa.concat_tables(scores))
    run.mark_done(
        "score",
        **thresholds,
        smallest_top2_margin=_smallest(margins),
        **own_estimator_facts("scores", run.config),
    )


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


def _score(
    run: RunDir,
    signal: dict[str, Any],
    text: str,
    thresholds: dict[str, float | None],
    estimators: dict[str, Estimator],
) -> dict[str, Any]:
    """One row of `scores`. A missing key is null."""
    row = {"question_id": signal["question_id"], "failure": signal["failure"]}
    evidence = evidence_of(run, signal, text, thresholds)
    if evidence is None:
        return row
    scores = {name: estimate(evidence) for name, estimate in estimators.items()}
    return {**row, **scores, "onsets": evidence.onsets, "peaks": evidence.peaks}


def _smallest(margins: list[float | None]) -> float | None:
    finite = [m for m in margins if m is not None and np.isfinite(m)]
    return min(finite, default=None)
