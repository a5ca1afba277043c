"""Sampling: several answers to each question, in steps, and their votes.

A question is sampled until its own answers and its trace tell enough (`rollouts.stopping`), at most
`rollouts.num_samples` times. No label is read. All questions take the first step before any takes
the second, because the first samples of the whole pool show what traces foretell. Each step can be
made again part by part, or elsewhere, with the same result.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from itertools import groupby, repeat
from typing import Any

import numpy as np
import pyarrow as pa

from pivottrace.estimators import Estimator
from pivottrace.rollouts.parts import Choose, PoolRollouts
from pivottrace.rollouts.sampled_answers import SampledAnswers, compare_answers
from pivottrace.rollouts.stopping import StoppingRule, goes_on, sampling_steps
from pivottrace.routing.agreement import fit_agreement
from pivottrace.run import readings
from pivottrace.run.choices import estimators_in
from pivottrace.run.directory import RunDir
from pivottrace.run.progress import progress
from pivottrace.run.storage import num_list_values, read_json, read_parquet
from pivottrace.schemas import votes_schema
from pivottrace.stages.evidence import (
    GREEDY_READ,
    SIGNALS_READ,
    THRESHOLDS,
    evidence_of,
    has_every_estimator,
    own_estimator_facts,
)
from pivottrace.stages.unanswered import refuse_unanswered_table
from pivottrace.verifier import Verifier

FIRST_ANSWERS = 8  # greedy answers that the verifier is tried on


def run(run: RunDir) -> None:
    """Write the parts of `rollouts_sampled`, then `votes`. Finished parts are kept.

    If the user adds an estimator that needs samples, `votes` is made again from the same samples.

    Raises:
        RunDirError: Scores are missing, or the finished parts came from another model.
        NoAnswersError: No question has a trace and an answer.
    """
    if not has_every_estimator(run, "sample", "votes"):
        with Verifier.of(run.config.answers) as verifier:
            if not run.is_done("sample"):
                _write_rollouts(run, verifier)
            with run.turn():
                if not has_every_estimator(run, "sample", "votes"):
                    vote(run, verifier)
    refuse_unanswered_table(run, "votes", "sample")


def _write_rollouts(run: RunDir, verifier: Verifier) -> None:
    greedy = run.read_parts("rollouts_greedy", "greedy", ["answer"])["answer"].to_pylist()
    # A verifier that fails does so here, before anything is sampled and fixes its setting.
    verifier.group([answer for answer in greedy if answer is not None][:FIRST_ANSWERS])
    most = run.config.rollouts.num_samples
    steps = (most,) if run.config.rollouts.sampling == "fixed" else sampling_steps(most)
    pool = PoolRollouts(run)

    def begin() -> None:
        run.begin("sample")

    with run.timed("sample", part="generation"):
        choose, first = None, None
        # The first samples are gone once all parts are there: a vote that was killed needs none.
        if len(steps) > 1 and not pool.is_sampled():
            pool.write_first(steps[0], begin)
            with run.turn():  # no worker removes them while we read
                if not pool.is_sampled():
                    first = _first_answers(run, pool.num_parts)
        if first is not None:
            choose = _chooser(run, greedy, verifier, first)
        pool.write_sampled(steps, begin, choose)
    begin()  # a pool without questions has no part
    with run.turn():
        shutil.rmtree(run.part_path("rollouts_first", 0).parent, ignore_errors=True)


def _chooser(
    run: RunDir,
    greedy: Sequence[str | None],
    verifier: Verifier,
    first: Sequence[Sequence[str | None]],
) -> Choose:
    """The stopping rule, with the forecast of its samples by this pool's traces.

    Args:
        run: The run, with its scores.
        greedy: The pool's greedy answers.
        verifier: It says which answers are equal.
        first: The answers of the first step's samples; [] for a question that was not asked.
    """
    features, rule = readings.trace_features(run), StoppingRule()
    num_first = max(map(len, first), default=0)
    found = [compare_answers(*each) for each in zip(first, repeat(verifier.group), greedy)]
    agreement = fit_agreement(
        features,
        [each.num_agreeing for each in found],
        [0 if own is None else len(each) for each, own in zip(first, greedy, strict=True)],
    )
    priors = agreement.prior(features)

    def choose(places: Sequence[int], answers: Sequence[Sequence[str | None]]) -> Sequence[bool]:
        found = [
            compare_answers(each, verifier.group, greedy[place])
            for place, each in zip(places, answers, strict=True)
        ]
        numbers = np.array([len(each) for each in answers], dtype=np.int64)
        return goes_on(
            np.array([[*each.class_counts, 0, 0][:2] for each in found]).reshape(-1, 2),
            np.array([each.greedy_class for each in found], dtype=np.int64),
            (priors[0][list(places)], priors[1][list(places)]),
            numbers,
            bool((numbers <= num_first).all()),
            rule,
        ).tolist()

    return choose


def _first_answers(run: RunDir, num_parts: int) -> list[list[str | None]]:
    """The answers of each question's first samples, in the pool's order; [] if it was not asked."""
    answers: list[list[str | None]] = []
    for index in range(num_parts):
        path = run.part_path("rollouts_first", index)
        part = read_parquet(path, ["question_id", "answer", "finish"])
        for _, rows in groupby(part.to_pylist(), key=lambda row: row["question_id"]):
            answers.append([row["answer"] for row in rows if row["finish"] != "failed"])
    return answers


def vote(run: RunDir, verifier: Verifier) -> None:
    """Write `votes` from the parts of `rollouts_sampled`, and record that sampling has finished."""
    reference = read_json(run.path / "reference.json")
    thresholds = {key: reference[key] for key in THRESHOLDS}
    estimators = estimators_in("votes", run.config)
    schema = votes_schema(estimators)
    tables: list[pa.Table] = []
    counts: Counter[int] = Counter()
    done = num_tokens = 0
    parts = zip(
        run.iter_parts("signals", "trace", SIGNALS_READ),
        run.iter_parts("rollouts_greedy", "greedy", GREEDY_READ),
        strict=True,
    )
    with progress("vote", run.stage_facts("greedy")["num_questions"]) as update:
        update(0)
        for index, (signals, traces) in enumerate(parts):
            path = run.part_path("rollouts_sampled", index)
            names = ["question_id", "answer", "finish", "tokens"]
            part = read_parquet(path, names, made_by="sample")
            num_tokens += num_list_values(part["tokens"])
            part = part.drop_columns("tokens")
            of_question = groupby(part.to_pylist(), key=lambda row: row["question_id"])
            samples = [list(rows) for _, rows in of_question]
            rows = [
                _vote(run, *each, thresholds, verifier, estimators)
                for each in zip(signals.to_pylist(), traces.to_pylist(), samples, strict=True)
            ]
            tables.append(pa.Table.from_pylist(rows, schema=schema))
            # A question that was not asked has one row, with the reason.
            counts.update(sum(row["finish"] != "failed" for row in each) for each in samples)
            done += len(rows)
            update(done)
    table = pa.concat_tables(tables)
    run.write_table("votes", table)
    asked = {number: num for number, num in sorted(counts.items()) if number}
    run.mark_done(
        "sample",
        num_parts=len(tables),
        num_failed=len(table) - table["failure"].null_count,
        questions_by_samples={str(number): num for number, num in asked.items()},
        samples_taken=sum(number * num for number, num in asked.items()),
        response_tokens=num_tokens,
        samples_possible=run.config.rollouts.num_samples * sum(asked.values()),
        **own_estimator_facts("votes", run.config),
        **verifier.facts(),
    )


def _vote(
    run: RunDir,
    signal: dict[str, Any],
    trace: dict[str, Any],
    samples: list[dict[str, Any]],
    thresholds: dict[str, float | None],
    verifier: Verifier,
    estimators: dict[str, Estimator],
) -> dict[str, Any]:
    """One row of `votes`. A missing key is null."""
    found = compare_answers([row["answer"] for row in samples], verifier.group, trace["answer"])
    row = {
        "question_id": signal["question_id"],
        "failure": signal["failure"] or _unanswered(trace, found),
        **found.columns(),
    }
    evidence = evidence_of(run, signal, trace["text"], thresholds, found.classes)
    if evidence is None:
        return row
    return row | {name: estimate(evidence) for name, estimate in estimators.items()}


def _unanswered(trace: dict[str, Any], samples: SampledAnswers) -> str | None:
    """The reason why neither the greedy trace nor any sample answers the question, else None."""
    if trace["answer"] is not None or not samples.is_unanswered:
        return None
    return "truncated" if trace["finish"] == "length" else "no_answer"
