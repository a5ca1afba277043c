"""The report's fixed sentences: what routes, reasons and estimators mean, whose idea is whose."""

from __future__ import annotations

from collections.abc import Mapping

from pivottrace.estimators import ESTIMATORS, Estimator

ROUTE_MEANING = {
    "annotate": "Buy the true answer and train on a verified reward.",
    "weak": "Train without a label, rewarded by the majority of the model's own answers.",
    "discard": "Leave out of training: mastered already, or nothing to gain.",
    "defer": "Not trained on: worth a label that the budget does not cover, or it failed.",
}

REASON_MEANING = {
    "mastered": "at this rank the model is right nearly always",
    "hopeless": "at this rank the model is right almost never, so a label buys no gradient",
    "nothing_to_learn": "the sampled answers agree so far that no label could teach",
    "probe_mastered": "a probe that all rollouts got right",
    "probe_hopeless": "a probe that no rollout got right",
    "labelled_mastered": "labelled in an earlier round, and all rollouts get it right by now",
    "labelled_hopeless": "labelled in an earlier round, and no rollout gets it right",
    "fraction_lowest": "in the lowest fraction of the ranking",
    "weak_vote_reliable": "votes as safe as this one are proven reliable",
    "weak_fraction_middle": "in the middle fraction of the ranking",
    "annotate_gain": "a true answer teaches more here than elsewhere",
    "annotate_hopeless": "labels were left over for questions that are almost never right",
    "annotate_fraction_highest": "in the highest fraction of the ranking",
    "annotate_probe": "a probe with right and wrong rollouts; its label is paid for",
    "annotate_labelled": "labelled in an earlier round, with right and wrong rollouts still",
    "defer_budget": "worth a label, but the budget is spent",
    "defer_vote_unreliable": (
        "votes as risky as this one are not proven reliable, and no label is left"
    ),
    "defer_vote_harmful": "the vote would be expected to unteach more than it teaches",
    "defer_no_vote": "no answer won the vote, and no label is left",
    "defer_no_curve": "no probe was labelled, so nothing is known of this rank",
    "failed_no_score": "the question has no score",
}

MOVE_MEANING = {
    "forgotten": "dropped with nothing left to learn, and back among what is worth training on",
    "in_reach": "dropped as hopeless, and the model has begun to get such questions right",
    "promoted": "trained on its own vote, and given a true answer now",
    "vote_lost": "trained on its own vote, which is no longer safe, and no label was left",
    "taken_up": "put off, and trained on now",
    "learned": "trained on or put off, and nothing is left to learn",
    "given_up": "trained on or put off, and the model is almost never right",
    "out_of_use": "trained on or dropped, and put off now for another reason",
    "stayed": "on the same route as before",
}

FAILURE_MEANING = {
    "empty_prompt": "the prompt has no tokens, so there was nothing to answer",
    "prompt_too_long_for_the_model": "prompt and response do not fit the model's context",
    "empty_response": "the model ended at once",
    "truncated": "cut at the token limit before an answer",
    "no_answer": "no answer could be read from the response",
    "nan_logits": "the model's numbers were not finite",
}

PAPER = (
    "an unlabelled pool is sorted by one inference a question",
    "uncertainty is read off metacognitive pivots, pivotal changes of long-range attention "
    "along the trace (their density, or their number)",
    "percentile ζ, amplitude ψ and window Δ of a pivot (95, 5 %, 10 tokens)",
    "a few probes spread over the ranking, and thresholds from sliding-window correctness",
    "three routes: discard, weak, annotate; training on both kinds of reward at once",
)
OURS = (
    "the signal itself (far mass of chosen heads) and what exactly counts as a pivot",
    "every interval, the curve of vote reliability, and the floor held over the whole weak route",
    "the expected gain of a label against a pseudo-label, reasons and weights",
    "the route defer, and discarding hopeless questions",
    "default settings other than the preset “paper”",
)
EMBEDDED_NOTE = (
    "This run is in the embedded world. Re-checking was built into this world: its demonstrations "
    "go back to the question more often where a fact is unfamiliar, so that pivots carry "
    "information here by construction. What holds here is no evidence about other models."
)


def reason_meaning(reason: str) -> str:
    """What a reason code says, in a phrase; a failure's own code is explained as a failure."""
    failure = reason.removeprefix("failed_")
    return REASON_MEANING.get(reason) or FAILURE_MEANING.get(failure, failure.replace("_", " "))


def estimator_title(name: str, estimators: Mapping[str, Estimator] = ESTIMATORS) -> str:
    """The title of an estimator; the combination and unknown ones have their name in words."""
    return estimators[name].title if name in estimators else name.replace("_", " ")


def marked_titles(estimators: Mapping[str, Estimator]) -> dict[str, str]:
    """Titles by name. A star marks the estimators that share their rollouts with correctness."""
    return {
        name: f"{estimator.title} *" if estimator.shares_rollouts else estimator.title
        for name, estimator in estimators.items()
    }
