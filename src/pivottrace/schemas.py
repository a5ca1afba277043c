"""Table schemas and the axis glossary: the tables that the stages pass to each other.

Axes, as suffixes or in comments: B batch, T token (of the response unless noted), S position
(prompt and response), L layer, H head, G rollout of one question, Q question.

Every table is keyed by `question_id`. Texts written by a model are data, never markup.
"""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa

_MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
_SIGNAL = pa.list_(pa.float32())
# `signals.layer_path.LayerPath` documents each field.
_LAYER_PATH = pa.struct(
    [
        ("step_lengths", _SIGNAL),  # (L,)
        ("step_angles", _SIGNAL),  # (L,) radians
        ("turn_angles", _SIGNAL),  # (L-1,) radians
        ("span_length", pa.float32()),
        ("span_angle", pa.float32()),  # radians
    ]
)

QUESTIONS = pa.schema(
    [
        ("id", pa.string()),
        ("prompt", _MESSAGES),
        ("answer", pa.string()),  # null where unknown
        ("source", pa.string()),  # the file, folder or Hub id of its origin
        ("extra", pa.string()),  # every other column of the source, as one JSON object
    ]
)

HELD_OUT = pa.schema(  # held-out questions; runs of older versions have the columns of QUESTIONS
    [
        *QUESTIONS,
        ("set", pa.string()),  # name of the set; with several sets, `id` begins with it
        ("asked", _MESSAGES),  # a benchmark's own prompt; null where the run's settings ask
        ("num_samples", pa.int32()),  # k of the set; null: evaluate.num_samples
        ("verifier", pa.string()),  # the set's own rule; null: answers.verifier and its tolerance
    ]
)

ROLLOUTS = pa.schema(
    [
        ("question_id", pa.string()),
        ("sample", pa.int32()),  # 0 for the greedy trace; 0 … G-1 for sampled rollouts
        ("prompt_tokens", pa.list_(pa.int32())),  # null for samples: they share the greedy prompt
        ("tokens", pa.list_(pa.int32())),  # the response, without the end-of-sequence token
        ("text", pa.string()),
        ("answer", pa.string()),  # extracted; null if the response has none
        ("finish", pa.string()),  # stop | length | failed
        ("failure", pa.string()),  # null, or why there is no usable response
    ]
)

SIGNALS = pa.schema(
    [
        ("question_id", pa.string()),
        ("far_mass", _SIGNAL),  # (T,) mean over the chosen heads, share in [0, 1]
        ("far_mass_all", _SIGNAL),  # (T,) mean over all heads
        ("waad", _SIGNAL),  # (T,) windowed average attention distance, tokens
        ("entropy", _SIGNAL),  # (T,) nats
        ("log_prob", _SIGNAL),  # (T,) nats, <= 0
        ("self_certainty", _SIGNAL),  # (T,) nats, >= 0
        ("question_mass", _SIGNAL),  # (T,) mean over all heads, share in [0, 1]
        ("layer_path", _LAYER_PATH),  # null if the model's layers could not be followed
        ("top2_margin", pa.float32()),  # smallest gap between the two largest logits
        ("failure", pa.string()),
    ]
)


def scores_schema(estimators: Iterable[str]) -> pa.Schema:
    """Return the schema of scores: the estimators that need no samples; higher is less certain."""
    return pa.schema(
        [
            ("question_id", pa.string()),
            *((name, pa.float64()) for name in estimators),
            ("onsets", pa.list_(pa.int32())),  # response positions of the pivots, first reading
            ("peaks", pa.list_(pa.int32())),  # second reading
            ("failure", pa.string()),  # null, or why there is no trace to score
        ]
    )


def votes_schema(estimators: Iterable[str]) -> pa.Schema:
    """Return the schema of votes: the estimators that need samples; higher is less certain."""
    return pa.schema(
        [
            ("question_id", pa.string()),
            *((name, pa.float64()) for name in estimators),
            ("vote_answer", pa.string()),  # majority of the sampled answers; null on a tie or none
            ("vote_share", pa.float64()),  # its share of all samples, in [0, 1]
            ("vote_reason", pa.string()),  # ok | tie | empty
            ("num_samples", pa.int32()),  # may differ between questions
            # Sizes of the classes of equal answers, largest first, ties by first appearance.
            # Samples without an answer are not in it.
            ("class_counts", pa.list_(pa.int32())),
            # Place in `class_counts` of the greedy answer's class: their number if no sample gave
            # it, and -1 without a greedy answer.
            ("greedy_class", pa.int32()),
            ("failure", pa.string()),  # null, or why the question cannot be used
        ]
    )


PROBES = pa.schema(
    [
        ("question_id", pa.string()),
        ("rank", pa.float64()),  # place in the ranking, in (0, 1): low is certain; ties share one
        ("score", pa.float64()),
        ("stage", pa.int8()),  # 0; 1 for probes of a later adaptive draw
        ("chance", pa.float64()),  # of having been drawn, in (0, 1]; null for adaptive draws
    ]
)

EVIDENCE = pa.schema(
    [
        *PROBES,
        ("num_correct", pa.int32()),  # of the sampled rollouts
        ("num_samples", pa.int32()),
        ("vote_right", pa.bool_()),  # false on an abstention
        ("vote_abstained", pa.bool_()),
        ("vote_share", pa.float64()),  # null on an abstention
        ("greedy_right", pa.bool_()),
        # Place of the right class in `class_counts`, as in `greedy_class`; -1 if none is right.
        ("right_class", pa.int32()),
        ("predicted", pa.float64()),  # chance of a right vote by a fit without this probe
        ("predicted_by_votes", pa.float64()),  # the same by the samples alone, without the trace
    ]
)

LABELLED = pa.schema(  # labels that were there before the round's triage, without the probes
    [
        ("question_id", pa.string()),
        ("purpose", pa.string()),  # probe (without a score now) | annotation
        # Of this round's sampled rollouts; null where people say that it cannot be answered.
        ("num_correct", pa.int32()),
        ("num_samples", pa.int32()),
        ("right_class", pa.int32()),  # as in `evidence`
    ]
)

FLOWS = pa.schema(  # after the first round: changes of routes since the round before
    [
        ("from_route", pa.string()),
        ("from_reason", pa.string()),
        ("to_route", pa.string()),
        ("to_reason", pa.string()),
        ("move", pa.string()),  # meaning of the change, see routing/flows.py
        ("count", pa.int64()),  # questions
    ]
)

RANKING = pa.schema(  # only where a combination ranks the pool
    [
        ("question_id", pa.string()),
        ("score", pa.float64()),  # of the combination, higher is more uncertain
    ]
)

CALIBRATION = pa.schema(
    [
        ("rank", pa.float64()),
        ("window_size", pa.int64()),  # probes behind the point
        ("mu", pa.float64()),  # mean correctness of sampled rollouts, in [0, 1]
        ("mu_low", pa.float64()),
        ("mu_high", pa.float64()),
        ("vote", pa.float64()),  # chance that the majority vote is right, in [0, 1]
        ("vote_low", pa.float64()),
        ("vote_high", pa.float64()),
        ("learnability", pa.float64()),  # mean of p(1-p)G/(G-1) of single questions
        ("vote_share", pa.float64()),
    ]
)

TRIAGE = pa.schema(
    [
        ("question_id", pa.string()),
        ("rank", pa.float64()),  # in (0, 1); null for a question that could not be scored
        ("score", pa.float64()),
        ("route", pa.string()),  # annotate | weak | discard | defer
        ("reason", pa.string()),
        ("weight", pa.float64()),  # in [0, 1], multiplies the row's advantage in training
        ("mu", pa.float64()),  # expected share of right samples
        ("vote", pa.float64()),  # chance that the vote is right
        ("vote_low", pa.float64()),  # its 90 % interval
        ("vote_high", pa.float64()),
        ("label_gain", pa.float64()),  # what the true answer teaches, in units of p(1-p)
        ("vote_gain", pa.float64()),  # what the vote teaches; negative when it does harm
        ("priority", pa.float64()),  # label_gain over the best alternative without a label
        ("is_probe", pa.bool_()),
        ("pseudo_label", pa.string()),  # the vote, on weak rows only
        ("vote_share", pa.float64()),
    ]
)

EVALUATION = pa.schema(
    [
        ("question_id", pa.string()),
        ("sample", pa.int32()),
        ("answer", pa.string()),
        ("correct", pa.bool_()),
        ("num_tokens", pa.int32()),
        ("finish", pa.string()),
    ]
)

TRUTH = pa.schema(
    [
        ("question_id", pa.string()),
        ("num_correct", pa.int32()),  # of further samples, which no estimator has seen
        ("num_samples", pa.int32()),
        ("greedy_right", pa.bool_()),
        ("vote_right", pa.bool_()),  # of the estimators' samples; false on an abstention
    ]
)

# Files that training writes into its folder, one line per step, point or event.
METRICS, LEARNING_CURVE, ALARMS = "metrics.jsonl", "learning_curve.jsonl", "alarms.jsonl"
LOG_KEYS = {  # that every line has, among others
    METRICS: ("step",),
    LEARNING_CURVE: ("step", "accuracy"),
    ALARMS: ("step", "what", "value", "threshold", "action"),
}
# File that proves a checkpoint or a model complete, in its folder (`run.markers`).
WHOLE = "whole.json"
# File in which verl notes the step of its last checkpoint, once that is written.
NOTED_STEP = "latest_checkpointed_iteration.txt"

TRAINING_ROWS = pa.schema(
    [
        ("question_id", pa.string()),
        ("prompt", _MESSAGES),
        ("route", pa.string()),  # annotate | weak
        ("weight", pa.float64()),
        ("label", pa.string()),  # the true answer on annotate rows; null on weak rows
        ("pseudo_label", pa.string()),  # the stored vote, on weak rows of a frozen majority only
        ("rewrite", _MESSAGES),  # the same question in other words; null unless its answers vote
        # Expected share of rewarded completions, in [0, 1]; null unless the order needs it.
        ("prior_pass_rate", pa.float64()),
    ]
)
