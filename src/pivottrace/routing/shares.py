"""What rounds share: training steps, and labels of the one budget.

Ours throughout: the paper's fragments say nothing of rounds.
"""

from __future__ import annotations

from pivottrace.errors import BudgetError, ConfigError


def round_steps(total: int, num_rounds: int) -> list[int]:
    """Share training steps among rounds: total // num each, the remainder to the first.

    Args:
        total: Steps of the whole training.
        num_rounds: At least 1.

    Returns:
        (num_rounds,) steps of each round, each at least 1; they add up to `total`.

    Raises:
        ConfigError: A round would be left without a step.
    """
    each, rest = divmod(total, num_rounds)
    if each < 1:
        raise ConfigError(
            f"rounds.num = {num_rounds} rounds cannot share train.steps = {total}: a round needs a "
            f"step at least. Lower rounds.num, or raise train.steps."
        )
    return [each + rest] + [each] * (num_rounds - 1)


def label_cap(allowed: int, num_probes: int, round_index: int, num_rounds: int) -> int:
    """Labels that a run may hold by the end of a round if each round may buy an equal share.

    What is beyond the probes is shared evenly, rounded down; what a round leaves unspent stays for
    the next ones, and the last may spend all that is left.

    Args:
        allowed: The whole budget.
        num_probes: Labelled probes, bought before.
        round_index: From 0.
        num_rounds: At least 1.

    Returns:
        Num_probes … allowed; `allowed` in the last round.

    Raises:
        BudgetError: More probes than labels are allowed.
    """
    if num_probes > allowed:
        raise BudgetError(f"{num_probes} probes are labelled and {allowed} labels are allowed")
    return num_probes + (allowed - num_probes) * (round_index + 1) // num_rounds
