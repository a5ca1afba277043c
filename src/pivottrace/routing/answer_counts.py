"""How often each answer of a question was given, for many questions at once.

Questions with the same counts are alike to every formula, and there are few different counts (a few
hundred for 16 samples). So the counts are stored once per pattern, and each question has the number
of its pattern. Ten million questions then need one integer each.

All of it is ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pivottrace.errors import DataError

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

# A pattern as a key: the sizes of the classes, the greedy answer's place, the number of samples.
Pattern = tuple[tuple[int, ...], int, int]


@dataclass(frozen=True)
class AnswerCounts:
    """The answers of Q questions as P patterns of at most K classes.

    A class holds the samples with equal answers. The greedy answer always has a class, with size 0
    if no sample gave it.

    Attributes:
        pattern: (Q,) position of each question's pattern.
        sizes: (P, K) sizes of the classes, largest first; NaN beyond the last class.
        greedy: (P,) place of the greedy answer's class among the sizes; -1 without a greedy answer.
        num_samples: (P,) number of samples, with or without an answer.
    """

    pattern: IntArray
    sizes: FloatArray
    greedy: IntArray
    num_samples: IntArray

    @property
    def is_class(self) -> BoolArray:
        """(P, K) whether a pattern has a class at this place."""
        return ~np.isnan(self.sizes)

    @property
    def is_greedy(self) -> BoolArray:
        """(P, K) whether the class has the greedy answer."""
        return np.arange(self.sizes.shape[1])[None, :] == self.greedy[:, None]

    @property
    def agreeing(self) -> FloatArray:
        """(P,) number of samples that gave the greedy answer; 0 without a greedy answer."""
        return np.where(self.is_greedy, self.sizes, 0.0).sum(axis=1)

    @property
    def is_unanimous(self) -> BoolArray:
        """(P,) whether every sample gave the greedy answer, and there is at least one sample."""
        return (self.num_samples > 0) & (self.agreeing == self.num_samples)

    @property
    def has_winner(self) -> BoolArray:
        """(P,) whether one class is larger than every other one, so that a vote exists."""
        top_two = np.sort(np.nan_to_num(self.sizes), axis=1)[:, -2:]
        return top_two[:, 1] > top_two[:, 0]

    @property
    def scaled_sizes(self) -> FloatArray:
        """(P, K) sizes of the classes if all questions had as many samples as the one with most.

        Sampling in steps stops early where little is in doubt. So few samples are no sign of a
        doubtful vote, as they would be if chance had decided their number.
        """
        most = self.num_samples[self._answered].max(initial=0)
        scale: FloatArray = most / np.maximum(self.num_samples, 1)
        return self.sizes * scale[:, None]

    @property
    def late_stop(self) -> FloatArray:
        """(P,) how late sampling stopped: log2(2 samples / most samples), 1 for the most.

        It is 0 without an answer among the samples (a failed question may have any number of
        them), and everywhere if all other questions have equally many.
        """
        answered = self._answered
        most = self.num_samples[answered].max(initial=0)
        if (self.num_samples[answered] == most).all():
            return np.zeros(self.num_samples.shape)
        return np.where(answered, np.log2(2.0 * np.maximum(self.num_samples, 1) / most), 0.0)

    @property
    def _answered(self) -> BoolArray:
        # (P,) whether a sample gave an answer.
        answered: BoolArray = np.nan_to_num(self.sizes).sum(axis=1) > 0
        return answered

    def rows(self, chosen: IntArray | slice) -> AnswerCounts:
        """The counts of some questions."""
        return AnswerCounts(self.pattern[chosen], self.sizes, self.greedy, self.num_samples)


def from_patterns(pattern: npt.ArrayLike, patterns: Sequence[Pattern]) -> AnswerCounts:
    """Return the counts of questions whose patterns are known.

    Args:
        pattern: (Q,) position of each question's pattern.
        patterns: P patterns: (sizes of the sampled classes, largest first; place of the greedy
            answer's class; samples). The place is len(sizes) if no sample gave the greedy answer,
            and -1 without a greedy answer.

    Raises:
        DataError: A pattern is impossible.
    """
    for sizes, greedy, samples in patterns:
        if list(sizes) != sorted(sizes, reverse=True) or sum(sizes) > samples or 0 in sizes:
            raise DataError(
                f"class_counts {list(sizes)} of {samples} samples are impossible: give sizes above "
                f"0, largest first, which add up to at most the samples"
            )
        if not -1 <= greedy <= len(sizes):
            raise DataError(
                f"greedy_class {greedy} is impossible with {len(sizes)} classes: give its place, "
                f"{len(sizes)} if no sample gave it, or -1 without a greedy answer"
            )
    # One column more than the sampled classes, for a greedy answer that no sample gave.
    width = max((len(sizes) for sizes, _, _ in patterns), default=0) + 1
    table = np.full((len(patterns), max(width, 2)), np.nan)
    for row, (sizes, greedy, _) in zip(table, patterns, strict=True):
        row[: len(sizes)] = sizes
        if greedy == len(sizes):
            row[greedy] = 0.0
    return AnswerCounts(
        np.asarray(pattern, dtype=np.int64),
        table,
        np.array([greedy for _, greedy, _ in patterns], dtype=np.int64),
        np.array([samples for _, _, samples in patterns], dtype=np.int64),
    )


def answer_counts(
    class_counts: Sequence[Sequence[int]],
    greedy_class: Sequence[int],
    num_samples: Sequence[int],
) -> AnswerCounts:
    """Return the counts of Q questions from lists, each (Q,). Raises as `from_patterns`."""
    places: dict[Pattern, int] = {}
    keys = zip(class_counts, greedy_class, num_samples, strict=True)
    pattern = [
        places.setdefault((tuple(sizes), int(greedy), int(samples)), len(places))
        for sizes, greedy, samples in keys
    ]
    return from_patterns(pattern, list(places))
