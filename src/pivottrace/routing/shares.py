"""The shares of the rounds in the training steps and in the label budget.

All of it is ours; the paper's fragments say nothing about rounds.
"""

from __future__ import annotations

from pivottrace.errors import BudgetError, ConfigError


def round_steps(total: int, num_rounds: int) -> list[int]:
    """Share training steps among rounds: total // num each, and the remainder to the first.

    Args:
        total: Number of steps of the whole training.
        num_rounds: Number of rounds, at least 1.

    Returns:
        (num_rounds,) steps of each round, each at least 1; they add up to `total`.

    Raises:
        ConfigError: A round would be left without a step.
    """
    each, rest = divmod(total, num_rounds)
    if each < 1:
        raise ConfigError(
            f"rounds.num = {num_rounds} rounds cannot share train.steps = {total}: each round "
            f"needs at least one step. Lower rounds.num, or raise train.steps."
        )
    return [each + rest] + [each] * (num_rounds - 1)


def label_cap(allowed: int, num_probes: int, round_index: int, num_rounds: int) -> int:
    """Return the labels that a run may hold by the end of a round, if rounds share them equally.

    The labels beyond the probes are shared evenly, rounded down. A round leaves its unspent labels
    to the next ones, and the last round may spend all remaining ones.

    Args:
        allowed: The whole budget, in labels.
        num_probes: Number of labelled probes, bought before.
        round_index: Index of the round, from 0.
        num_rounds: Number of rounds, at least 1.

    Returns:
        A number from `num_probes` to `allowed`; it is `allowed` in the last round.

    Raises:
        BudgetError: There are more probes than allowed labels.
    """
    if num_probes > allowed:
        raise BudgetError(f"{num_probes} probes are labelled and {allowed} labels are allowed")
    return num_probes + (allowed - num_probes) * (round_index + 1) // num_rounds
