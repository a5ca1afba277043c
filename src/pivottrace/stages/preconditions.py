"""What is refused once the pool is read, before hours are spent on it. This module is no stage."""

from __future__ import annotations

from pivottrace.config import Config
from pivottrace.labels.budget import budget_labels, refuse_missing_answers
from pivottrace.routing.shares import round_steps
from pivottrace.run.choices import driving_estimator
from pivottrace.training.reward import check_training
from pivottrace.verifier import Verifier


def refuse_the_impossible(config: Config, num_questions: int, num_answered: int) -> int:
    """Refuse a configuration whose run would fail later.

    Args:
        config: The run's.
        num_questions: In the pool.
        num_answered: Those that have an answer there.

    Returns:
        The labels that the budget allows.

    Raises:
        PivotTraceError: The first thing that is wrong, with its cure.
    """
    allowed = budget_labels(config.labels.budget, num_questions)
    if config.train.enabled:
        round_steps(config.train.steps, config.rounds.num)
        check_training(config)
    refuse_missing_answers(config, num_answered, allowed)
    driving_estimator(config)
    with Verifier(config.answers.verifier, config.answers.timeout_s) as verifier:
        verifier.load()
    return allowed
