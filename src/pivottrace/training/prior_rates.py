"""Expected pass rates before training: the share of a row's completions that are rewarded."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from pivottrace.run.directory import RunDir
from pivottrace.run.readings import earlier_labels


def prior_pass_rates(run: RunDir, routed: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The expected pass rate of each question, by id.

    Args:
        run: The run, after triage.
        routed: Rows of `triage` with `question_id`, `route`, `mu` and `vote_share`.
    """
    known = [*run.read_table("evidence", made_by="calibrate").to_pylist(), *earlier_labels(run)]
    own = {
        row["question_id"]: row["num_correct"] / row["num_samples"]
        for row in known
        if row["num_samples"]
    }
    return {row["question_id"]: prior_pass_rate(row, own.get(row["question_id"])) for row in routed}


def prior_pass_rate(row: Mapping[str, Any], own_correctness: float | None) -> float:
    """The share of a row's completions that its reward is expected to accept, in [0, 1].

    A label accepts right answers. So the rate of an `annotate` row is the correctness of its own
    samples if its label was known when they were checked. Otherwise it is the expected `mu`, or 1/2
    if nothing is known. It is at most the vote share, because no answer, and so no right answer, is
    more frequent than the winner.

    A vote accepts answers that agree with it, right or wrong, and training can measure nothing
    else. So the rate of a `weak` row is the vote share, and `mu` does not matter.

    Args:
        row: Row of `triage`.
        own_correctness: Share of right samples of the question, in [0, 1]; None if unknown.
    """
    share = _known(row["vote_share"])
    if row["route"] == "weak":
        return 0.5 if share is None else share
    if own_correctness is not None:
        return own_correctness
    mu = _known(row["mu"])
    expected = 0.5 if mu is None else mu
    return expected if share is None else min(expected, share)


def _known(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else value
