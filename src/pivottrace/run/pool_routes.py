"""Routes for pools of millions of scored rows: arrays through, row groups out.

Formulas run on blocks of rows, because their intermediate results would not fit for a whole pool.
Writing reads ids and answers a second time, part by part.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pivottrace.errors import DataError
from pivottrace.routing.agreement import Agreement, fit_agreement
from pivottrace.routing.auction import triage
from pivottrace.routing.curves import ProbeEvidence, RouteFloor
from pivottrace.routing.expectations import Expectations, expect, gain_of_label
from pivottrace.routing.probes import rank_fractions
from pivottrace.routing.routes import ROUTES, TriageOptions, TriageResult
from pivottrace.routing.vote_floor import vote_risk, weak_route
from pivottrace.routing.vote_model import VoteModel, answer_chances, vote_interval
from pivottrace.run.scored_pool import Scored
from pivottrace.run.storage import iter_parquet
from pivottrace.schemas import TRIAGE

EXPECTED_COLUMNS = ("mu", "vote", "vote_low", "vote_high", "label_gain", "vote_gain")
BATCH_ROWS = 1 << 19
BLOCK_ROWS = 1 << 17  # of the formulas: their arrays then stay in the processor's cache


@dataclass(frozen=True)
class Routed:
    """The decision on a pool of Q questions, and its grounds.

    Attributes:
        ranks: (Q,) places in the ranking.
        expected: The expectations of the questions; None without a calibration.
        floor: The weak route's floor; None if none is set.
        result: Routes, reasons, weights.
    """

    ranks: np.ndarray
    expected: Expectations | None
    floor: RouteFloor | None
    result: TriageResult


def agreement_of(scored: Scored) -> Agreement:
    """How the pool's traces foretell the agreement of its samples, learnt from all samples."""
    counts = scored.counts
    asked = (counts.greedy >= 0)[counts.pattern] & (scored.evidence.failure_code == 0)
    samples = np.where(asked, counts.num_samples[counts.pattern], 0)
    return fit_agreement(scored.features, counts.agreeing[counts.pattern], samples)


def expectations(
    scored: Scored, model: VoteModel, agreement: Agreement, values: np.ndarray | None = None
) -> Expectations:
    """The expectations of the questions of a pool.

    The gain of a labelled question's label is that of the answer that is known to be right. A
    failed question has NaN.

    Args:
        scored: The pool.
        model: The chances of its answers.
        agreement: Of its samples.
        values: Values of the model in place of its own, as `vote_model.drawn` gives them; intervals
            are then left out.

    Raises:
        DataError: The model was fitted on other features.
    """
    if model.names != scored.names:
        raise DataError(
            f"the vote model was fitted on {', '.join(model.names) or 'no estimator'}, and the "
            f"pool has {', '.join(scored.names) or 'none'}; calibrate again"
        )
    size = scored.scores.size
    columns = {name: np.full(size, np.nan) for name in (*EXPECTED_COLUMNS, "vote_weight")}
    for start in range(0, size, BLOCK_ROWS):
        block = slice(start, start + BLOCK_ROWS)
        features, counts = scored.features[block], scored.counts.rows(block)
        chances = answer_chances(model, counts, features, values)
        prior = agreement.prior(features)
        names = ("mu", "label_gain", "vote_gain", "vote_weight")
        found = {"vote": chances.vote, **dict(zip(names, expect(chances, prior), strict=True))}
        if values is None:
            found["vote_low"], found["vote_high"] = vote_interval(model, chances, features)
        sound = scored.evidence.failure_code[block] == 0
        for name, column in found.items():
            columns[name][block] = np.where(sound, column, np.nan)
    known = np.flatnonzero(scored.evidence.labelled & (scored.evidence.failure_code == 0))
    columns["label_gain"][known] = gain_of_label(
        scored.counts.rows(known), agreement.prior(scored.features[known]), scored.right[known]
    )
    return Expectations(**columns)


def route_pool(
    scored: Scored,
    *,
    budget: int,
    expected: Expectations | None,
    probes: ProbeEvidence | None,
    options: TriageOptions,
    ranks: np.ndarray | None = None,
) -> Routed:
    """Rank and route a pool. The same input gives the same routes.

    Args:
        scored: The pool.
        budget: Labels that may still be bought; labelled probes do not count again.
        expected: The expectations of its questions; None without labelled probes.
        probes: The labelled probes, for the floor; None without any.
        options: Thresholds.
        ranks: `rank_fractions(scored.scores)`, if the caller has it already.
    """
    ranks = rank_fractions(scored.scores) if ranks is None else ranks
    floor, holds = None, None
    if options.vote_floor is not None and probes is not None and expected is not None:
        floor = weak_route(probes, options.vote_floor, options.vote_alpha)
        holds = vote_risk(ranks, scored.evidence.vote_share) <= floor.end
    result = triage(
        ranks,
        budget=budget,
        expected=expected,
        vote_holds=holds,
        evidence=scored.evidence,
        options=options,
    )
    return Routed(ranks, expected, floor, result)


def triage_batches(
    votes: Sequence[Path], scored: Scored, routed: Routed
) -> Iterator[pa.RecordBatch]:
    """Yield the rows of the `triage` table in batches, in the order of the parts of `votes`."""
    result, start = routed.result, 0
    numbers: dict[str, np.ndarray] = {
        "rank": routed.ranks,
        "score": scored.scores,
        "weight": result.weight,
        "priority": result.priority,
    }
    if routed.expected is not None:
        numbers |= {name: getattr(routed.expected, name) for name in EXPECTED_COLUMNS}
    weak = ROUTES.index("weak")
    for batch in _text_batches(votes):
        rows = slice(start, start + batch.num_rows)
        start += batch.num_rows
        route = result.route[rows]
        columns: dict[str, Any] = {
            name: pa.nulls(batch.num_rows, pa.float64()) for name in EXPECTED_COLUMNS
        }
        # NaN means "not known": a null in the table.
        columns |= {name: pa.array(v[rows], from_pandas=True) for name, v in numbers.items()}
        columns |= {
            "question_id": batch["question_id"],
            "route": _named(route, ROUTES),
            "reason": _named(result.reason[rows], result.reason_names),
            "is_probe": pa.array(scored.probe[rows] >= 0),
            "pseudo_label": pc.if_else(pa.array(route == weak), batch["vote_answer"], None),
            "vote_share": batch["vote_share"],
        }
        yield pa.record_batch([columns[name] for name in TRIAGE.names], schema=TRIAGE)


def _text_batches(votes: Sequence[Path]) -> Iterator[pa.RecordBatch]:
    columns = ["question_id", "vote_answer", "vote_share"]
    for path in votes:
        yield from iter_parquet(path, columns, BATCH_ROWS, "sample")


def _named(codes: np.ndarray, names: Sequence[str]) -> pa.Array:
    return pa.array(names, pa.string()).take(pa.array(codes))
