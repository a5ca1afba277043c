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

from pivottrace.errors import RunDirError
from pivottrace.routing.answer_counts import AnswerCounts, Pattern, from_patterns
from pivottrace.routing.curves import ProbeEvidence
from pivottrace.routing.question_evidence import QuestionEvidence
from pivottrace.routing.vote_model import NONE
from pivottrace.run.storage import column_names, iter_parquet, num_rows

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
BATCH_ROWS = 1 << 16  # read at once: they then stay in the processor's cache


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
    unanswerable: Sequence[str] = (),
) -> Scored:
    """Read the columns that decide on routes, part by part.

    Args:
        votes: The parts of `votes`, in order.
        scores: The parts of `scores`. Each has the rows of its part of `votes`, in the same order.
        driving: The estimator that ranks the pool, a column of either table.
        features: The estimators that tell how sure a vote is, columns of `scores`.
        probes: The label of each labelled probe, by question id, in the order of the probes.
        earlier: The labels that were there before, of questions that are not probes.
        unanswerable: Ids of questions that cannot be answered, as people say.

    Raises:
        RunDirError: A part is torn, lacks one of the columns, or has other rows than its votes.
    """
    known = {**probes, **(earlier or {})}
    size = _same_size(votes, scores)
    read = _read_votes(votes, size, [*known, *unanswerable])
    no_answer = read.label >= len(known)
    read.label[no_answer] = -1
    traces = np.empty((size, len(features)), np.float32, order="F")
    score = np.empty(size)
    start = 0
    for path, beside in zip(votes, scores, strict=True):
        # Estimators that need samples are columns of `votes`, all others of `scores`.
        if driving in column_names(path):
            _fill(path, "sample", start, {driving: score})
            own: dict[str, np.ndarray] = {}
        else:
            own = {driving: score}
        by_name = {name: traces[:, place] for place, name in enumerate(features)}
        start = _fill(beside, "score", start, by_name, own)
    failed = read.code > 0
    for place in range(len(features)):
        traces[:, place] = standardised(traces[:, place], ~failed)
    score[failed] = np.nan
    read.share[read.abstained] = np.nan
    correctness = np.array([*(each.correctness for each in known.values()), np.nan])
    right = np.array([*(each.right_class for each in known.values()), NONE], np.int32)
    return Scored(
        scores=score,
        probe=np.where(read.label < len(probes), read.label, -1) if earlier else read.label,
        evidence=QuestionEvidence(
            vote_share=read.share,
            vote_abstained=read.abstained,
            num_samples=read.samples,
            labelled=read.label >= 0,
            earlier=read.label >= len(probes),
            unanswerable=no_answer,
            correctness=correctness[read.label],
            failure_code=read.code,
            failure_names=read.failures,
        ),
        counts=from_patterns(read.pattern, read.patterns),
        names=tuple(features),
        features=traces,
        right=right[read.label],
    )


@dataclass(frozen=True)
class _Votes:
    """The columns of `votes` as arrays (Q,), each as small as its numbers allow."""

    share: np.ndarray
    abstained: np.ndarray
    samples: np.ndarray
    label: np.ndarray  # position among the known labels; -1 without one
    code: np.ndarray  # as `question_evidence.failure_codes` gives them
    failures: tuple[str, ...]
    pattern: np.ndarray
    patterns: list[Pattern]


def _read_votes(votes: Sequence[Path], size: int, known: list[str]) -> _Votes:
    share, abstained = np.empty(size), np.empty(size, np.bool_)
    samples, label, pattern = (np.empty(size, np.int32) for _ in range(3))
    code = np.empty(size, np.int16)
    ids, patterns, start = pa.array(known, pa.string()), _Patterns(), 0
    names: dict[str, int] = {}  # in order of first appearance
    for path in votes:
        for batch in iter_parquet(path, VOTES_READ, BATCH_ROWS, "sample"):
            rows = slice(start, start + batch.num_rows)
            start = rows.stop
            share[rows] = batch["vote_share"].to_numpy(zero_copy_only=False)
            is_vote = pc.equal(batch["vote_reason"], "ok")
            abstained[rows] = ~is_vote.to_numpy(zero_copy_only=False)
            samples[rows] = batch["num_samples"].to_numpy()
            place = pc.fill_null(pc.index_in(batch["question_id"], value_set=ids), -1)
            label[rows] = place.to_numpy()
            pattern[rows] = patterns.of(batch)
            code[rows] = _codes(batch["failure"], names)
    # The codes follow the names' alphabet.
    order = sorted(names)
    renamed = np.array([0, *(order.index(name) + 1 for name in names)], np.int16)
    return _Votes(
        share,
        abstained,
        samples,
        label,
        renamed[code],
        tuple(order),
        pattern,
        list(patterns.places),
    )


def _codes(failures: pa.Array, names: dict[str, int]) -> np.ndarray:
    """Codes (rows,) of failures, 0 for none; new names are added to `names`."""
    encoded = failures.dictionary_encode()
    own = [names.setdefault(name, len(names) + 1) for name in encoded.dictionary.to_pylist()]
    places = pc.fill_null(encoded.indices, -1).to_numpy()
    return np.array([*own, 0], np.int16)[places]


def _fill(
    path: Path, made_by: str, start: int, columns: dict[str, np.ndarray], more: Any = None
) -> int:
    """Read columns of one part into arrays over the pool, from row `start`; return its end."""
    targets = [*columns.items(), *(more or {}).items()]
    if not targets:
        return start + num_rows(path)
    names = list(dict.fromkeys(name for name, _ in targets))
    for batch in iter_parquet(path, names, BATCH_ROWS, made_by):
        rows = slice(start, start + batch.num_rows)
        start = rows.stop
        for name, target in targets:
            target[rows] = batch[name].to_numpy(zero_copy_only=False)
    return start


def _same_size(votes: Sequence[Path], scores: Sequence[Path]) -> int:
    """The number of rows of all parts. Raises RunDirError if two parts don't match."""
    for path, beside in zip(votes, scores, strict=True):
        if num_rows(beside) != num_rows(path):
            raise RunDirError(
                f"{beside} has {num_rows(beside)} rows, and {path} has {num_rows(path)}. Put the "
                f"old file back, or start again in another directory (--output)."
            )
    return sum(map(num_rows, votes))


class _Patterns:
    """Numbers for the different counts of answers, in order of first appearance."""

    def __init__(self) -> None:
        self.places: dict[Pattern, int] = {}
        self._numbers: dict[int, int] = {}  # by hash

    def of(self, batch: pa.RecordBatch) -> np.ndarray:
        """The number of each row's pattern, (rows,) int32.

        Rows are compared by a hash of 64 bits, so that Python reads each pattern once.
        """
        counts = batch["class_counts"]
        greedy, samples = (
            batch[name].to_numpy().astype(np.uint64) for name in ("greedy_class", "num_samples")
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
        # The first row of each code: of several values, numpy keeps the last.
        first = np.empty(len(coded.dictionary), np.int64)
        first[code[::-1]] = np.arange(code.size)[::-1]
        numbers = []
        for key, row in zip(coded.dictionary.to_pylist(), first.tolist(), strict=True):
            if key not in self._numbers:
                of_row = tuple(sizes[ends[row] : ends[row + 1]].tolist())
                pattern = (of_row, int(np.int64(greedy[row])), int(samples[row]))
                self._numbers[key] = self.places.setdefault(pattern, len(self.places))
            numbers.append(self._numbers[key])
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
