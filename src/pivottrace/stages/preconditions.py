"""Checks after the pool is read and before hours are spent on it. This module is not a stage."""

from __future__ import annotations

from pivottrace.config import Config
from pivottrace.errors import ConfigError
from pivottrace.ingest.sources import split_options
from pivottrace.label_sources import source_for
from pivottrace.labels.budget import budget_labels, refuse_missing_answers
from pivottrace.routing.shares import round_steps
from pivottrace.run.choices import driving_estimator
from pivottrace.training.reward import check_training
from pivottrace.training.verl_environment import verl_environment
from pivottrace.verifier import Verifier
from pivottrace.verifier.gym_names import is_gym

WITHOUT_GPU = (
    "The run goes up to its training, and stops there with the command for a machine that can train"
)


def refuse_the_impossible(config: Config, num_questions: int, num_answered: int) -> int:
    """Refuse a configuration whose run would fail later.

    Args:
        config: The configuration of the run.
        num_questions: Number of questions in the pool.
        num_answered: Number of pool questions with an answer in the pool.

    Returns:
        The number of labels that the budget allows.

    Raises:
        PivotTraceError: A check has failed. The message names the first fault and its cure.
    """
    allowed = budget_labels(config.labels.budget, num_questions)
    if config.train.enabled:
        round_steps(config.train.steps, config.rounds.num)
        check_training(config)
    source = source_for(config.labels.source, num_questions, num_answered)
    refuse_missing_answers(config, source, num_answered, allowed)
    driving_estimator(config)
    refuse_unprovable_floor(config)
    refuse_strange_questions(config)
    with Verifier.of(config.answers) as verifier:
        verifier.load()
    return allowed


def refuse_strange_questions(config: Config) -> None:
    """Refuse questions that the scorers of reasoning-gym do not know. Raises ConfigError."""
    source = config.pool.questions
    if config.answers.verifier == "reasoning-gym" and not is_gym(split_options(source)[0]):
        raise ConfigError(
            f"answers.verifier = 'reasoning-gym' judges questions of reasoning-gym, and "
            f"pool.questions is {source!r}. Set answers.verifier to math, exact or choice"
        )


def refuse_unprovable_floor(config: Config) -> None:
    """Refuse a promise that probes drawn by value cannot keep. Raises ConfigError."""
    floor, draw = config.triage.vote_floor, config.calibrate.draw
    calibrated = config.triage.mode == "calibrated"
    if floor is not None and draw == "by_value" and calibrated:
        raise ConfigError(
            f"triage.vote_floor = {floor:g} is proved on probes that are drawn evenly, and "
            f'calibrate.draw is {draw!r}. Set calibrate.draw = "systematic", or leave the floor out'
        )


def trainer_of(config: Config) -> tuple[str, str | None]:
    """The trainer in words, and the part that it lacks on this machine; None if it lacks nothing.

    Raises:
        ConfigError: The environment of verl does not fit (`training.verl_environment`).
    """
    if config.train.backend == "trl":
        return "TRL, here", None
    environment = verl_environment(config.train)
    return environment.in_words(), environment.lacks()
