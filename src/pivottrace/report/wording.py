"""The report's fixed sentences: meanings of routes, reasons and moves, and the origin of ideas."""

from __future__ import annotations

from collections.abc import Mapping

from pivottrace.estimators import ESTIMATORS, Estimator

ROUTE_MEANING = {
    "annotate": "We buy the true answer, and the verifier rewards training.",
    "weak": "No label is bought, and the majority of the model's own answers rewards training.",
    "discard": "We leave the question out of training: it is mastered, or nothing can be gained.",
    "defer": (
        "We do not train on the question: the budget does not cover its label, and its vote is not "
        "sure or finds no place; or it failed."
    ),
}

REASON_MEANING = {
    "mastered": "its answers agree and are probably right, so nothing is left to teach",
    "hopeless": "the right answer is hardly ever among its answers, so a label gives no gradient",
    "cannot_be_answered": "people say that it cannot be answered",
    "probe_mastered": "it is a probe whose rollouts are all right, and little is left to learn",
    "probe_hopeless": "it is a probe, and no rollout is right",
    "labelled_mastered": "it had a label before, and its rollouts are all right now",
    "labelled_hopeless": "it had a label before, and no rollout is right",
    "fraction_lowest": "it is in the lowest fraction of the ranking",
    "weak_vote": "its vote is expected to teach more than it harms",
    "weak_fraction_middle": "it is in the middle fraction of the ranking",
    "annotate_gain": "a true answer teaches more here than elsewhere",
    "annotate_hopeless": "labels were left over for questions that are almost never right",
    "annotate_fraction_highest": "it is in the highest fraction of the ranking",
    "annotate_probe": "it is a probe that still teaches, and its label is paid for",
    "annotate_labelled": "it had a label before, and it teaches",
    "defer_budget": "a label would teach, but the labels were planned for other questions",
    "defer_vote_unreliable": (
        "votes as risky as this one are not proven reliable, and no label was planned for it"
    ),
    "defer_vote_harmful": "we expect that training on the vote would do more harm than good",
    "defer_no_vote": "no answer won the vote, and no label was planned for it",
    "defer_vote_little": (
        "its vote is not sure enough to teach much, and no label was planned for it"
    ),
    "defer_no_place": (
        "its vote would teach, but labelled rows, and votes that are expected to teach more, have "
        "all places (triage.most_rows)"
    ),
    "defer_unknown": "no probe was labelled, so nothing is known of its vote",
    "failed_no_score": "the question has no score",
}

MOVE_MEANING = {
    "forgotten": "it was dropped with nothing left to learn, and it is worth training on now",
    "in_reach": "it was dropped as hopeless, and the model now gets such questions right",
    "promoted": "it was trained on its own vote, and it has a true answer now",
    "vote_lost": "it was trained on its own vote, the vote is no longer safe, and no label is left",
    "taken_up": "it was put off, and it is trained on now",
    "learned": "it was trained on or put off, and nothing is left to learn",
    "given_up": "it was trained on or put off, and the model is almost never right",
    "out_of_use": "it was trained on or dropped, and it is put off now for another reason",
    "stayed": "it is on the same route as before",
}

FAILURE_MEANING = {
    "empty_prompt": "the prompt has no tokens, so the model could not answer",
    "prompt_too_long_for_the_model": "prompt and response do not fit the model's context",
    "empty_response": "the model ended at once",
    "truncated": "the response was cut at the token limit before an answer",
    "no_answer": "no answer could be read from the response",
    "nan_logits": "the model's numbers were not finite",
}

PAPER = (
    "an unlabelled pool is sorted by one inference per question",
    "uncertainty is read off metacognitive pivots, which are pivotal changes of long-range "
    "attention along the trace (their density, or their number)",
    "percentile ζ, amplitude ψ and window Δ of a pivot (95, 5 %, 10 tokens)",
    "a few probes spread over the ranking, and thresholds from sliding-window correctness",
    "three routes (discard, weak, annotate), and training on both kinds of reward at once",
)
OURS = (
    "the signal itself (far mass of chosen heads), and the exact definition of a pivot",
    "the chance that each vote is right, with every interval, and the optional floor",
    "the expected gain of a label against a pseudo-label, the reasons and the weights",
    "the route defer, and the rule that discards hopeless questions",
    "sampling in steps, which stops per question",
    "all default settings that differ from the preset “paper”",
)
EMBEDDED_NOTE = (
    "This run uses the embedded model. Re-checking was built into the world that it learned from: "
    "if a fact is unfamiliar, the demonstrations go back to the question more often. So pivots "
    "carry information here by construction, and these results are no evidence about other models."
)


def reason_meaning(reason: str) -> str:
    """The meaning of a reason code, in a phrase. It may also be the code of a failure."""
    failure = reason.removeprefix("failed_")
    return REASON_MEANING.get(reason) or FAILURE_MEANING.get(failure, failure.replace("_", " "))


def estimator_title(name: str, estimators: Mapping[str, Estimator] = ESTIMATORS) -> str:
    """The title of an estimator. The combination or an unknown estimator has its name in words."""
    return estimators[name].title if name in estimators else name.replace("_", " ")


def marked_titles(estimators: Mapping[str, Estimator]) -> dict[str, str]:
    """Titles by name. A star marks the estimators that share their rollouts with correctness."""
    return {
        name: f"{estimator.title} *" if estimator.shares_rollouts else estimator.title
        for name, estimator in estimators.items()
    }
