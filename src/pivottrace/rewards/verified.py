"""The verified reward: a label that was paid for decides whether an answer is right."""

from collections.abc import Callable, Sequence

Check = Callable[[Sequence[str | None], Sequence[str]], list[bool]]
"""A function of (N,) answers and (N,) truths that returns (N,) verdicts: `Verifier.check_many`."""


def verified_rewards(answers: Sequence[str | None], truth: str, check: Check) -> list[float]:
    """Reward each answer of one question by its label.

    Args:
        answers: (G,) extracted answers; None for a completion without an answer.
        truth: The question's label.
        check: Decides whether answers are right.

    Returns:
        (G,) 1.0 for a right answer, else 0.0; higher is better.

    Source: the paper's reward on annotated rows (abstract; DE-Venus).
    """
    return [float(right) for right in check(answers, [truth] * len(answers))]
