"""A scored pool of millions of rows as a few arrays.

A pool of 10 million questions fits in memory as arrays of numbers but not as Python objects. So we
read numbers column by column, and decide on arrays (`run.pool_routes`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pivottrace.errors import RunDirError
from pivottrace.routing.answer_counts import AnswerCounts, Pattern, from_patterns
from pivottrace.routing.curves import ProbeEvidence
from pivottrace.routing.question_evidence import QuestionEvidence
from pivottrace.routing.vote_model import NONE
from pivottrace.run.storage import read_parquet

VOTES_READ = (
    "question_id",
    "vote_share",
    "vote_reason",
    "num_samples",
    "class_counts",
    "greedy_class",
    "failure",
)
# Standardised features are cut here, so that one odd trace does not decide alone.
MOST_SD = 3.0


@dataclass(frozen=True)
class Label:
    """The verdict of a label on a question's own samples.

    Attributes:
        correctness: Share of right samples, in [0, 1].
        right_class: Place of the right class among the question's answers; -1 if none is right.
    """

    correctness: float
    right_class: int


@dataclass(frozen=True)
class Scored:
    """A scored pool as arrays over its Q questions, in the order of their rows.

    Attributes:
        scores: (Q,) uncertainty; NaN for a question that failed.
        probe: (Q,) position among the labelled probes; -1 for every other question.
        evidence: Votes, failures, and the labelled questions' own correctness.
        counts: How often each answer was given.
        names: The k estimators that read the trace, the driving one first.
        features: (Q, k) float32, their scores, standardised over the pool; 0 without a score.
        right: (Q,) place of the right class of a labelled question; `NONE` if no class is right,
            and for every other question.
    """

    scores: np.ndarray
    probe: np.ndarray
    evidence: QuestionEvidence
    counts: AnswerCounts
    names: tuple[str, ...]
    features: np.ndarray
    right: np.ndarray


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
    scores: Sequence[Path],
    driving: str,
    features: Sequence[str],
    probes: Mapping[str, Label],
    earlier: Mapping[str, Label] | None = None,
) -> Scored:
    """Read the columns that decide on routes, part by part.

    Args:
        votes: The parts of `votes`, in order.
        scores: The parts of `scores`. Each has the rows of its part of `votes`, in the same order.
        driving: The estimator that ranks the pool, a column of either table.
        features: The estimators that tell how sure a vote is, columns of `scores`.
        probes: The label of each labelled probe, by question id, in the order of the probes.
        earlier: The labels that earlier rounds bought for questions that are not probes.

    Raises:
        RunDirError: A part is torn, lacks one of the columns, or has other rows than its votes.
    """
    known = {**probes, **(earlier or {})}
    ids = pa.array(list(known), pa.string())
    parts: dict[str, list[np.ndarray]] = {}
    failures: list[pa.ChunkedArray] = []
    patterns = _Patterns()
    for path, beside in zip(votes, scores, strict=True):
        # Estimators that need samples are columns of `votes`, all others of `scores`.
        own = [driving] if driving in pq.read_schema(path).names else []
        table = read_parquet(path, [*VOTES_READ, *own], made_by="sample")
        names = list(dict.fromkeys([*features, *([] if own else [driving])]))
        traced = read_parquet(beside, names, made_by="score")
        if len(traced) != len(table):
            raise RunDirError(
                f"{beside} has {len(traced)} rows, and {path} has {len(table)}. Put the old file "
                f"back, or start again in another directory (--output)."
            )
        found = {
            "share": table["vote_share"],
            "abstained": pc.not_equal(table["vote_reason"], "ok"),
            "samples": table["num_samples"],
            "label": pc.fill_null(pc.index_in(table["question_id"], value_set=ids), -1),
            "score": (table if own else traced)[driving],
            **{f"of {name}": traced[name].cast(pa.float32()) for name in features},
        }
        for name, column in found.items():
            parts.setdefault(name, []).append(column.to_numpy())
        parts.setdefault("pattern", []).append(patterns.of(table))
        failures.append(table["failure"])
    codes, failed = _failure_codes(failures)
    features_of_all = np.empty((codes.size, len(features)), np.float32, order="F")
    for place, name in enumerate(features):
        features_of_all[:, place] = standardised(_joined(parts, f"of {name}"), codes == 0)
    columns = {name: _joined(parts, name) for name in list(parts)}
    label = columns["label"]
    correctness = np.array([*(each.correctness for each in known.values()), np.nan])
    right = np.array([*(each.right_class for each in known.values()), NONE])
    return Scored(
        scores=np.where(codes > 0, np.nan, columns["score"].astype(np.float64, copy=False)),
        probe=np.where(label < len(probes), label, -1) if earlier else label,
        evidence=QuestionEvidence(
            vote_share=np.where(columns["abstained"], np.nan, columns["share"]),
            vote_abstained=columns["abstained"],
            num_samples=columns["samples"],
            labelled=label >= 0,
            earlier=label >= len(probes),
            correctness=correctness[label],
            failure_code=codes,
            failure_names=failed,
        ),
        counts=from_patterns(columns["pattern"], list(patterns.places)),
        names=tuple(features),
        features=features_of_all,
        right=right[label],
    )


class _Patterns:
    """Numbers for the different counts of answers, in order of first appearance."""

    def __init__(self) -> None:
        self.places: dict[Pattern, int] = {}

    def of(self, table: pa.Table) -> np.ndarray:
        """The number of each row's pattern, (rows,) int32.

        Rows are compared by a hash of 64 bits, so that Python sees each pattern once per part.
        """
        counts = table["class_counts"].combine_chunks()
        greedy, samples = (
            table[name].to_numpy().astype(np.uint64) for name in ("greedy_class", "num_samples")
        )
        ends = np.concatenate([[0], np.cumsum(pc.list_value_length(counts).to_numpy())])
        sizes = pc.list_flatten(counts).to_numpy()
        place = np.arange(sizes.size) - np.repeat(ends[:-1], np.diff(ends))
        # An odd multiplier per place; sums wrap around, which a hash may.
        multipliers = np.random.default_rng(0).integers(1, 1 << 63, place.max(initial=0) + 3)
        multipliers = multipliers.astype(np.uint64) * np.uint64(2) + np.uint64(1)
        sums = np.concatenate(
            [[np.uint64(0)], np.cumsum(sizes.astype(np.uint64) * multipliers[place + 2])]
        )
        keys = sums[ends[1:]] - sums[ends[:-1]] + greedy * multipliers[0] + samples * multipliers[1]
        coded = pa.array(keys).dictionary_encode()
        code = coded.indices.to_numpy()
        _, first = np.unique(code, return_index=True)
        numbers = [
            self.places.setdefault(
                (
                    tuple(sizes[ends[row] : ends[row + 1]].tolist()),
                    int(np.int64(greedy[row])),
                    int(samples[row]),
                ),
                len(self.places),
            )
            for row in first.tolist()
        ]
        return np.array(numbers, dtype=np.int32)[code]


def standardised(values: np.ndarray, sound: np.ndarray) -> np.ndarray:
    """Values (Q,) less their mean, in standard deviations, cut at `MOST_SD`; 0 if not finite."""
    known = np.isfinite(values) & sound
    if not known.any():
        return np.zeros(values.size, np.float32)
    of_known = values[known]
    mean, spread = float(of_known.mean(dtype=np.float64)), float(of_known.std(dtype=np.float64))
    if not spread > 0:
        return np.zeros(values.size, np.float32)
    scaled = np.clip((values - np.float32(mean)) / np.float32(spread), -MOST_SD, MOST_SD)
    return np.where(known, scaled, np.float32(0))


def _joined(parts: dict[str, list[np.ndarray]], name: str) -> np.ndarray:
    """Join the parts of one column and drop them, since both at once need too much memory."""
    return np.concatenate(parts.pop(name))


def _failure_codes(columns: list[pa.ChunkedArray]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Codes (Q,) and names of the failures, as `question_evidence.failure_codes` gives them."""
    failures = pa.chunked_array([chunk for column in columns for chunk in column.chunks])
    names = pc.unique(failures).drop_null().sort()
    codes = pc.add(pc.fill_null(pc.index_in(failures, value_set=names), -1), 1)
    return codes.to_numpy(), tuple(names.to_pylist())
