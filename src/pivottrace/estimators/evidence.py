"""What an estimator may look at: one question's greedy trace, and its sampled answers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class TraceEvidence:
    """One question.

    Attributes:
        question_id: its id.
        num_tokens: T, the greedy response's length.
        onsets: positions of pivots by the first reading, in 0 … T-1.
        peaks: positions of pivots by the second reading.
        entropy: (T,) nats, of the distributions that produced the tokens.
        answer_classes: (G,) equivalence class of each sampled answer, -1 for none.
        seed: the run's seed, for the random control.
    """

    question_id: str
    num_tokens: int
    onsets: np.ndarray
    peaks: np.ndarray
    entropy: np.ndarray
    answer_classes: list[int]
    seed: int
