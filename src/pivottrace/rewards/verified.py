"""The verified reward: an answer is right or wrong by a label that was paid for."""

from collections.abc import Callable, Sequence

Check = Callable[[Sequence[str | None], Sequence[str]], list[bool]]
"""(N,) answers and (N,) truths to (N,) verdicts; `Verifier.check_many` is one."""


def verified_rewards(answers: Sequence[str | None], truth: str, check: Check) -> list[float]:
    """Reward each answer of one question by its label.

    Args:
        answers: (G,) extracted answers; None where a completion gave none.
        truth: The question's label.
        check: Decides whether answers are right.

    Returns:
        (G,) 1.0 for a right answer, else 0.0; higher is better.

    Source: the paper's reward on annotated rows (abstract; DE-Venus).
    """
    return [float(right) for right in check(answers, [truth] * len(answers))]
