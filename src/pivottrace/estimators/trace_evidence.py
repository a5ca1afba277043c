"""The evidence that an estimator gets: one question's greedy trace and its sampled answers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pivottrace.signals.layer_path import LayerPath


@dataclass(frozen=True)
class TraceEvidence:
    """The evidence on one question.

    Attributes:
        question_id: Id of the question.
        num_tokens: T, the number of tokens in the greedy response.
        text: Text of the greedy response.
        onsets: Positions of pivots by the first reading, in 0 … T-1.
        peaks: Positions of pivots by the second reading, in 0 … T-1.
        question_onsets: Positions of onsets of the mass on the question, in place of the far mass.
        entropy: (T,) entropy of the distributions that produced the tokens, nats, >= 0.
        log_prob: (T,) log-probability of the tokens, nats, <= 0.
        self_certainty: (T,) KL divergence from uniform to these distributions, nats, >= 0.
        layer_path: Path of the response's mean hidden state through the layers; None if the model's
            layers could not be followed.
        answer_classes: (G,) equivalence class of each sampled answer; -1 if it has no answer. Empty
            for an estimator that needs no samples. G may differ between questions.
        seed: Seed of the run, for the random control.
    """

    question_id: str
    num_tokens: int
    text: str
    onsets: np.ndarray
    peaks: np.ndarray
    question_onsets: np.ndarray
    entropy: np.ndarray
    log_prob: np.ndarray
    self_certainty: np.ndarray
    layer_path: LayerPath | None
    answer_classes: list[int]
    seed: int
