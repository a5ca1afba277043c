"""The reward of a configuration, over a model, a verifier and the run's rules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pivottrace.config import Config
from pivottrace.errors import ConfigError
from pivottrace.rewards import reward_named
from pivottrace.rewards.groups import Rule
from pivottrace.rewards.mix import MixedReward, Observe, mixed_reward
from pivottrace.rewards.weak import Tools, WeakReward
from pivottrace.rollouts.answer_reader import AnswerReader
from pivottrace.training.verl_settings import check_verl
from pivottrace.verifier import Verifier

if TYPE_CHECKING:
    from pivottrace.models.policy import Policy


def training_policy(
    config: Config, model: Any, tokenizer: Any, *, num_steps: int, seed: int
) -> Policy:
    """The live model, as rewards ask it; with a slow teacher where the reward has one.

    A slow teacher, `policy.teacher`, is one of the `stateful` parts of the training.

    Args:
        config: The run's.
        model: The model that is trained.
        tokenizer: Its tokenizer.
        num_steps: Steps of this training, which may be one round.
        seed: Seed of the round.
    """
    from pivottrace.models.policy import Policy  # heavy, as is the next
    from pivottrace.models.teacher import SlowTeacher

    teacher = None
    if reward_named(config.weak.reward).needs == "teacher":
        teacher = SlowTeacher(
            model,
            decay=config.weak.teacher_decay,
            decay_end=config.weak.teacher_decay_end,
            num_steps=num_steps,
        )
    return Policy(
        model,
        tokenizer,
        extract=AnswerReader.of(config).read,
        pool=config.pool,
        temperature=config.train.temperature,
        max_new_tokens=config.longest_in_training,
        stop=config.rollouts.stop,
        batch_size=config.rollouts.batch_size,
        seed=seed,
        teacher=teacher,
    )


def training_reward(
    config: Config,
    verifier: Verifier,
    policy: Policy,
    *,
    rules: Sequence[Rule] = (),
    observe: Observe | None = None,
    with_directions: bool = False,
) -> MixedReward:
    """The reward function of a training run.

    Args:
        config: Its section `[weak]` has the reward of weak rows.
        verifier: Decides whether answers are right, and whether two are the same.
        policy: The result of `training_policy`.
        rules: See `mixed_reward`.
        observe: See `mixed_reward`.
        with_directions: Fill `Group.hidden`, for a rule that looks at it.

    Raises:
        ConfigError: Settings of training do not go together.
    """
    check_training(config)
    return mixed_reward(
        extract=AnswerReader.of(config).read,
        check=verifier.check_many,
        group=verifier.group,
        num_generations=config.train.num_generations,
        weak=weak_reward(config, verifier, policy),
        rules=rules,
        observe=observe,
        directions=policy.directions if with_directions else None,
    )


def check_training(config: Config) -> None:
    """Refuse settings that make no sense together, before anything is spent. Raises ConfigError."""
    weak, group, rule = config.weak, config.train.num_generations, config.refine.rule
    reward = reward_named(weak.reward)
    if rule in ("trapo", "geomin") and reward.needs == "tokens":
        raise ConfigError(
            f"refine.rule = {rule} weighs weak rows by how their answers vote, and weak.reward = "
            f"{weak.reward} takes no vote. Choose a majority or Co-rewarding, or refine.rule = none"
        )
    if rule != "none" and config.rounds.num > 1:
        raise ConfigError(
            f"refine.rule = {rule} learns over the passes of one training, and rounds.num = "
            f"{config.rounds.num} begins a training anew each round: set one of the two back"
        )
    if config.train.order == "learnable" and reward.needs == "tokens":
        raise ConfigError(
            f"train.order = learnable counts the completions that a reward accepts, and "
            f"weak.reward = {weak.reward} grades them all. Choose a majority or Co-rewarding, or "
            f"train.order = shuffled"
        )
    if reward.votes == "group" and weak.vote_size is not None and weak.vote_size < group:
        raise ConfigError(
            f"weak.vote_size = {weak.vote_size} is less than train.num_generations = {group}: all "
            f"answers that are trained on vote, so give at least {group}, or leave it out"
        )
    for name, given in (("vote_size", weak.vote_size), ("vote_margin", weak.vote_margin)):
        if given and reward.votes == "none":
            raise ConfigError(
                f"weak.{name} = {given} is of votes that are taken while it trains, and "
                f"weak.reward = {weak.reward} takes none: leave it out, or choose majority"
            )
    if "{question}" not in weak.rewrite_prompt:
        raise ConfigError(
            "weak.rewrite_prompt has no {question}: put it where the question belongs"
        )
    if config.train.backend == "verl":
        check_verl(config)


def weak_reward(config: Config, verifier: Verifier, policy: Policy) -> WeakReward:
    """The reward of weak rows, over the live model. Raises as `reward_named`."""
    group = config.train.num_generations
    return reward_named(config.weak.reward).make(
        Tools(
            equal=verifier.equal,
            group=verifier.group,
            ask=policy.ask,
            ask_teacher=policy.ask_teacher,
            read_tokens=policy.token_statistics,
            num_generations=group,
            num_votes=config.weak.vote_size or group,
            least_margin=config.weak.vote_margin,
        )
    )
