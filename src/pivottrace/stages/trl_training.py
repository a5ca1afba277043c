"""The training of the train stage by TRL, in this process. This module is not a stage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from pivottrace.refine import make_alarms, make_rule, needs_hidden
from pivottrace.rollouts.held_out import (
    by_set,
    counts_of,
    held_out_questions,
    sample_and_check,
    set_verifiers,
)
from pivottrace.run.directory import RunDir
from pivottrace.run.progress import progress
from pivottrace.run.rounds import name_for_trackers, round_seed, steps_before, train_settings
from pivottrace.stats.accuracy import average_accuracy, mean_over_sets
from pivottrace.training.learnable_order import make_order
from pivottrace.training.reward import training_policy, training_reward
from pivottrace.verifier import Verifier


def train_by_trl(run: RunDir, rows: pa.Table, model: Any, tokenizer: Any) -> dict[str, int]:
    """Train, and return the verifier's counts. They cover this process only, not earlier ones."""
    from pivottrace.training.trl import train_grpo  # heavy, like the next import
    from pivottrace.training.trl_rules import observe_together

    config, settings = run.config, train_settings(run)
    curve_sets = _curve_sets(run)
    with (
        Verifier.of(config.answers) as verifier,
        set_verifiers(curve_sets, config) as set_verifier,
        progress("train", settings.steps, "steps") as update,
    ):
        policy = training_policy(
            config, model, tokenizer, num_steps=settings.steps, seed=round_seed(run)
        )
        rule, alarms = make_rule(config.refine, verifier.equal), make_alarms(config.alarms)
        order = make_order(rows, settings, round_seed(run))
        rules = [rule for rule in (rule, alarms, order) if rule is not None]
        reward = training_reward(
            config,
            verifier,
            policy,
            rules=rules,
            observe=observe_together(*rules) if rules else None,
            with_directions=needs_hidden(config.refine),
        )
        train_grpo(
            model,
            tokenizer,
            rows,
            reward,
            settings,
            run.round_path / "train",
            seed=round_seed(run),
            name=name_for_trackers(run),
            schedule=(steps_before(run), config.train.steps),
            chat_template_args=config.pool.chat_template_args,
            stop=tuple(config.rollouts.stop),
            evaluate=_learning_curve(run, tokenizer, curve_sets, set_verifier),
            on_log=lambda step, metrics: update(step),
            rule=rule,
            alarms=alarms,
            order=order,
            stateful=() if policy.teacher is None else (policy.teacher,),
        )
    return verifier.facts()


def _curve_sets(run: RunDir) -> dict[str, list[dict[str, Any]]]:
    """The questions of the learning curve, set by set."""
    sets = by_set(held_out_questions(run))
    return {name: questions[: run.config.train.evaluate_limit] for name, questions in sets.items()}


def _learning_curve(
    run: RunDir,
    tokenizer: Any,
    sets: Mapping[str, list[dict[str, Any]]],
    verifiers: Mapping[str, Verifier],
) -> Any:
    """A function from the model to a point of the learning curve; None without questions.

    With several sets, a point is their unweighted mean, as the figures of the evaluations.
    """
    from pivottrace.models.generate import TransformersSampler  # heavy

    if not sets:
        return None

    def evaluate(model: Any) -> dict[str, float]:
        # Every point takes the same seed, so that only the model differs between points.
        sampler, seed = TransformersSampler(model, tokenizer), run.config.seed
        tables = [
            sample_and_check(sampler, questions, run.config, verifiers[name], seed)
            for name, questions in sets.items()
        ]
        accuracy = mean_over_sets([average_accuracy(counts_of(table)) for table in tables])
        return {"accuracy": accuracy.mean, "low": accuracy.low, "high": accuracy.high}

    return evaluate
