"""Routes for pools of millions of scored rows: columns in, arrays through, row groups out.

A pool of 10 million questions fits in memory as a few arrays of numbers but not as Python objects.
So we read numbers column by column and decide on arrays. We write row groups, and for these we read
ids and answers a second time, part by part.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pivottrace.errors import RunDirError
from pivottrace.routing.auction import QuestionEvidence, triage
from pivottrace.routing.curves import CalibrationCurve, CurveValues, ProbeEvidence, RouteFloor
from pivottrace.routing.probes import rank_fractions
from pivottrace.routing.routes import ROUTES, TriageOptions, TriageResult
from pivottrace.routing.vote_floor import vote_risk, weak_route, with_own_votes
from pivottrace.run.storage import read_parquet
from pivottrace.schemas import TRIAGE

CURVE_COLUMNS = ("mu", "mu_low", "mu_high", "vote", "vote_low", "vote_high", "learnability")
BATCH_ROWS = 1 << 19


@dataclass(frozen=True)
class Scored:
    """A scored pool as arrays over its Q questions, in the order of their rows.

    Attributes:
        scores: (Q,) uncertainty; NaN for a question that failed.
        probe: (Q,) position among the labelled probes; -1 for every other question.
        evidence: Votes, failures, and the probes' own correctness.
    """

    scores: np.ndarray
    probe: np.ndarray
    evidence: QuestionEvidence


@dataclass(frozen=True)
class Routed:
    """The decision on a pool of Q questions, and its grounds.

    Attributes:
        ranks: (Q,) places in the ranking.
        values: The curves at each question; None without a calibration.
        floor: The weak route's floor; None without a calibration.
        result: Routes, reasons, weights.
    """

    ranks: np.ndarray
    values: CurveValues | None
    floor: RouteFloor | None
    result: TriageResult


def probe_evidence(rows: list[dict[str, Any]]) -> ProbeEvidence:
    """Rows of `evidence`, one per labelled probe, as arrays."""

    def column(name: str, dtype: Any) -> np.ndarray:
        return np.array([row[name] for row in rows], dtype=dtype)

    return ProbeEvidence(
        ranks=column("rank", np.float64),
        num_correct=column("num_correct", np.int64),
        num_samples=column("num_samples", np.int64),
        vote_right=column("vote_right", bool),
        vote_abstained=column("vote_abstained", bool),
        vote_share=column("vote_share", np.float64),
    )


def read_scored(
    votes: Sequence[Path],
    ranking: Sequence[Path],
    estimator: str,
    correctness: Mapping[str, float],
    earlier: Mapping[str, float] | None = None,
) -> Scored:
    """Read the columns that decide on routes, part by part.

    Args:
        votes: The parts of `votes`, in order.
        ranking: The parts of the table with the driving score, `scores` or `votes`. Each has the
            rows of its part of `votes`, in the same order.
        estimator: Column of the driving score.
        correctness: Share of right rollouts of each labelled probe, by question id, in the
            order of the probes.
        earlier: The same for questions that earlier rounds labelled and that are not probes.

    Raises:
        RunDirError: A part is torn, lacks one of the columns, or has other rows than its votes.
    """
    known = {**correctness, **(earlier or {})}
    ids = pa.array(list(known), pa.string())
    parts: dict[str, list[np.ndarray]] = {}
    failures: list[pa.ChunkedArray] = []
    names = ["question_id", "vote_share", "vote_reason", "num_samples", "failure"]
    for path, beside in zip(votes, ranking, strict=True):
        table = read_parquet(path, names, made_by="sample")
        found = {
            "score": _score_column(beside, estimator, path, len(table)),
            "share": table["vote_share"],
            "abstained": pc.not_equal(table["vote_reason"], "ok"),
            "samples": table["num_samples"],
            "label": pc.fill_null(pc.index_in(table["question_id"], value_set=ids), -1),
        }
        for name, column in found.items():
            parts.setdefault(name, []).append(column.to_numpy())
        failures.append(table["failure"])
    columns = {name: _joined(parts, name) for name in list(parts)}
    codes, failed = _failure_codes(failures)
    own, label = np.array([*known.values(), np.nan]), columns["label"]
    return Scored(
        scores=np.where(codes > 0, np.nan, columns["score"].astype(np.float64, copy=False)),
        probe=np.where(label < len(correctness), label, -1) if earlier else label,
        evidence=QuestionEvidence(
            vote_share=np.where(columns["abstained"], np.nan, columns["share"]),
            vote_abstained=columns["abstained"],
            num_samples=columns["samples"],
            labelled=label >= 0,
            earlier=label >= len(correctness),
            correctness=own[label],
            failure_code=codes,
            failure_names=failed,
        ),
    )


def _score_column(path: Path, estimator: str, votes: Path, num_rows: int) -> pa.ChunkedArray:
    table = read_parquet(path, [estimator], made_by="score" if path != votes else "sample")
    if len(table) != num_rows:
        raise RunDirError(
            f"{path} has {len(table)} rows, and {votes} has {num_rows}. Put the old file back, or "
            f"start again in another directory (--output)."
        )
    return table[estimator]


def _joined(parts: dict[str, list[np.ndarray]], name: str) -> np.ndarray:
    """Join the parts of one column and drop them, since both at once need too much memory."""
    return np.concatenate(parts.pop(name))


def _failure_codes(columns: list[pa.ChunkedArray]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Codes (Q,) and names of the failures, as `question_evidence.failure_codes` gives them."""
    failures = pa.chunked_array([chunk for column in columns for chunk in column.chunks])
    names = pc.unique(failures).drop_null().sort()
    codes = pc.add(pc.fill_null(pc.index_in(failures, value_set=names), -1), 1)
    return codes.to_numpy(), tuple(names.to_pylist())


def route_pool(
    scored: Scored,
    *,
    budget: int,
    probes: ProbeEvidence | None,
    curve: CalibrationCurve | None,
    options: TriageOptions,
    window: int | None = None,
    level: float = 0.9,
    ranks: np.ndarray | None = None,
) -> Routed:
    """Rank, calibrate and route a pool. The same input gives the same routes.

    Args:
        scored: The pool.
        budget: Labels that may still be bought; labelled probes do not count again.
        probes: The labelled probes; None without any.
        curve: The calibration curve of these probes; None without any.
        options: Thresholds.
        window: Probes in a sliding window, as in the calibration.
        level: Confidence level of the intervals.
        ranks: `rank_fractions(scored.scores)`, if the caller has it already.
    """
    ranks = rank_fractions(scored.scores) if ranks is None else ranks
    values, floor, holds = None, None, None
    if curve is not None and probes is not None:
        shares = scored.evidence.vote_share
        values = with_own_votes(curve.at(ranks), probes, ranks, shares, window=window, level=level)
        floor = weak_route(probes, curve, options)
        holds = vote_risk(ranks, shares) <= floor.end
    result = triage(
        ranks,
        budget=budget,
        curve=values,
        vote_holds=holds,
        evidence=scored.evidence,
        options=options,
    )
    return Routed(ranks, values, floor, result)


def triage_batches(
    votes: Sequence[Path], scored: Scored, routed: Routed
) -> Iterator[pa.RecordBatch]:
    """Yield the rows of the `triage` table in batches, in the order of the parts of `votes`."""
    result, start = routed.result, 0
    numbers: dict[str, np.ndarray] = {
        "rank": routed.ranks,
        "score": scored.scores,
        "weight": result.weight,
        "label_gain": result.label_gain,
        "pseudo_gain": result.pseudo_gain,
        "priority": result.priority,
    }
    if routed.values is not None:
        numbers |= {name: getattr(routed.values, name) for name in CURVE_COLUMNS}
    weak = ROUTES.index("weak")
    for batch in _text_batches(votes):
        rows = slice(start, start + batch.num_rows)
        start += batch.num_rows
        route = result.route[rows]
        columns: dict[str, Any] = {
            name: pa.nulls(batch.num_rows, pa.float64()) for name in CURVE_COLUMNS
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
    for path in votes:
        with pq.ParquetFile(path) as file:
            yield from file.iter_batches(
                BATCH_ROWS, columns=["question_id", "vote_answer", "vote_share"]
            )


def _named(codes: np.ndarray, names: Sequence[str]) -> pa.Array:
    return pa.array(names, pa.string()).take(pa.array(codes))
