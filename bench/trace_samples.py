"""Candidates from the sampled traces, group `g`: they tell the classes of one question apart.

A sampler knows the log-probabilities of its samples, but a run does not keep them. So they are
computed again here, by one more pass over all samples of a question. By class, the mean over the
class's samples less the question's mean; by question, the mean and the spread over all samples.

Axes: Q questions, V samples, K classes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from pivottrace.run.directory import RunDir
from trace_features import DOUBT
from trace_model import normal_scores

BATCH = 64
NAMES = ("log_prob_mean", "log_prob_least", "entropy_mean", "length", "rechecks")


@torch.inference_mode()
def sampled_traces(run: RunDir, model: Any, tokenizer: Any) -> dict[str, np.ndarray]:
    """The numbers that are read off each sample, name to (Q, V)."""
    columns = ["question_id", "sample", "tokens"]
    prompts = run.read_parts("rollouts_greedy", "greedy", ["question_id", "prompt_tokens"])
    asked = dict(zip(*(column.to_pylist() for column in prompts.columns), strict=True))
    place = {question_id: i for i, question_id in enumerate(asked)}
    samples = run.read_parts("rollouts_sampled", "sample", columns).to_pylist()
    doubt = tokenizer.encode(DOUBT, add_special_tokens=False)[0]
    shape = (len(asked), 1 + max(sample["sample"] for sample in samples))
    table = {name: np.full(shape, np.nan) for name in NAMES}
    rows = [
        (place[s["question_id"]], s["sample"], asked[s["question_id"]], s["tokens"])
        for s in samples
        if s["tokens"]
    ]
    rows.sort(key=lambda row: len(row[2]) + len(row[3]))
    for start in range(0, len(rows), BATCH):
        batch = rows[start : start + BATCH]
        longest = max(len(prompt) + len(tokens) for *_, prompt, tokens in batch)
        # Padding on the right is seen by no real token, so no mask is needed.
        ids = torch.zeros(len(batch), longest, dtype=torch.long)
        for row, (*_, prompt, tokens) in enumerate(batch):
            ids[row, : len(prompt) + len(tokens)] = torch.tensor(prompt + tokens)
        log_probs = model(ids).logits.log_softmax(-1)  # (B, S, vocabulary)
        entropy = torch.special.entr(log_probs.exp()).sum(-1)
        for row, (question, sample, prompt, tokens) in enumerate(batch):
            at = slice(len(prompt) - 1, len(prompt) + len(tokens) - 1)
            own = log_probs[row, at].gather(-1, torch.tensor(tokens)[:, None])
            read = (own.mean(), own.min(), entropy[row, at].mean(), len(tokens))
            for name, value in zip(NAMES, (*read, tokens.count(doubt)), strict=True):
                table[name][question, sample] = float(value)
    return table


def by_class(sampled: dict[str, np.ndarray], member: np.ndarray) -> dict[str, np.ndarray]:
    """Candidates that differ between classes, name to (Q, K); `member` is (Q, K, V)."""
    size = member.sum(axis=-1)
    found = {}
    for name, values in sampled.items():
        scores = normal_scores(values.ravel()).reshape(values.shape)
        means = np.einsum("qkv,qv->qk", member, scores) / np.maximum(size, 1)
        found[f"g_class_{name}"] = np.where(size > 0, means - scores.mean(1, keepdims=True), 0.0)
    return found


def by_question(sampled: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Candidates of the question as a whole, name to (Q,)."""
    return {
        f"g_question_{name}_{kind}": reduce(values, axis=1)
        for name, values in sampled.items()
        for kind, reduce in (("mean", np.nanmean), ("spread", np.nanstd))
    }
