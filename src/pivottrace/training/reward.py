"""The reward that a configuration asks for, over a model, a verifier and the run's rules."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from pivottrace.config import Config
from pivottrace.errors import ConfigError
from pivottrace.rewards.entropy import sequence_entropy_rewards, token_entropy_rewards
from pivottrace.rewards.groups import Rule
from pivottrace.rewards.mix import MixedReward, Observe, mixed_reward
from pivottrace.rewards.self_certainty import self_certainty_rewards
from pivottrace.rewards.sequence_confidence import sequence_confidence_rewards
from pivottrace.rewards.token_statistics import TokenStatistics
from pivottrace.rewards.weak import (
    Ask,
    Equal,
    Prompt,
    Sampled,
    WeakReward,
    confidence,
    frozen_majority,
    live_majority,
    others_vote,
)
from pivottrace.verifier import Verifier
from pivottrace.verifier.answers import extract_answer

if TYPE_CHECKING:
    from pivottrace.models.policy import Policy

CONFIDENCE: dict[str, Callable[[Sequence[TokenStatistics]], list[float]]] = {
    "token_entropy": token_entropy_rewards,
    "sequence_entropy": sequence_entropy_rewards,
    "self_certainty": self_certainty_rewards,
    "sequence_confidence": sequence_confidence_rewards,
}


def training_policy(
    config: Config, model: Any, tokenizer: Any, *, num_steps: int, seed: int
) -> Policy:
    """The live model, as rewards ask it; with a slow teacher where the reward has one.

    `policy.teacher`, if there is one, is among the `stateful` parts of the training.

    Args:
        config: The run's.
        model: The model that is trained.
        tokenizer: Its tokenizer.
        num_steps: Of this training, which may be one round's.
        seed: The round's.
    """
    from pivottrace.models.policy import Policy  # heavy, as is the next
    from pivottrace.models.teacher import SlowTeacher

    teacher = None
    if config.weak.reward == "co_rewarding_teacher":
        teacher = SlowTeacher(
            model,
            decay=config.weak.teacher_decay,
            decay_end=config.weak.teacher_decay_end,
            num_steps=num_steps,
        )
    return Policy(
        model,
        tokenizer,
        extract=partial(extract_answer, pattern=config.answers.pattern),
        pool=config.pool,
        temperature=config.train.temperature,
        max_new_tokens=config.train.max_new_tokens,
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
        config: `[weak]` says what weak rows are rewarded by.
        verifier: Decides what is right, and what is the same.
        policy: What `training_policy` gives.
        rules: See `mixed_reward`.
        observe: See `mixed_reward`.
        with_directions: Fill `Group.hidden`, for a rule that looks at it.

    Raises:
        ConfigError: Settings of training do not go together.
    """
    check_training(config)
    return mixed_reward(
        extract=partial(extract_answer, pattern=config.answers.pattern),
        check=verifier.check_many,
        equal=verifier.equal,
        num_generations=config.train.num_generations,
        weak=weak_reward(config, verifier.equal, policy),
        rules=rules,
        observe=observe,
        directions=policy.directions if with_directions else None,
    )


def check_training(config: Config) -> None:
    """Refuse settings that make no sense together, before anything is spent. Raises ConfigError."""
    weak, group, rule = config.weak, config.train.num_generations, config.refine.rule
    if rule in ("trapo", "geomin") and weak.reward in CONFIDENCE:
        raise ConfigError(
            f"refine.rule = {rule} weighs weak rows by how their answers vote, and weak.reward = "
            f"{weak.reward} takes no vote. Choose a majority or Co-rewarding, or refine.rule = none"
        )
    if rule != "none" and config.rounds.num > 1:
        raise ConfigError(
            f"refine.rule = {rule} learns over the passes of one training, and rounds.num = "
            f"{config.rounds.num} begins a training anew each round: set one of the two back"
        )
    if weak.reward == "majority" and weak.vote_size is not None and weak.vote_size < group:
        raise ConfigError(
            f"weak.vote_size = {weak.vote_size} is less than train.num_generations = {group}: all "
            f"answers that are trained on vote, so give at least {group}, or leave it out"
        )
    for name, given in (("vote_size", weak.vote_size), ("vote_margin", weak.vote_margin)):
        if given and (weak.reward == "frozen_majority" or weak.reward in CONFIDENCE):
            raise ConfigError(
                f"weak.{name} = {given} is of votes that are taken while it trains, and "
                f"weak.reward = {weak.reward} takes none: leave it out, or choose majority"
            )
    if "{question}" not in weak.rewrite_prompt:
        raise ConfigError(
            "weak.rewrite_prompt has no {question}: put it where the question belongs"
        )


def weak_reward(config: Config, equal: Equal, policy: Policy) -> WeakReward:
    """What weak rows are rewarded by."""
    weak, group = config.weak, config.train.num_generations
    votes = weak.vote_size or group
    match weak.reward:
        case "majority":
            more = _ask(policy.ask, votes - group) if votes > group else None
            return live_majority(equal, least_margin=weak.vote_margin, ask_more=more)
        case "frozen_majority":
            return frozen_majority(equal)
        case "co_rewarding_rewrite":
            ask = _ask(policy.ask, votes)
            return others_vote(equal, ask, least_margin=weak.vote_margin, rewritten=True)
        case "co_rewarding_teacher":
            ask = _ask(policy.ask_teacher, votes)
            return others_vote(equal, ask, least_margin=weak.vote_margin)
        case _:
            return confidence(CONFIDENCE[weak.reward], policy.token_statistics)


def _ask(ask: Callable[[int, Sequence[tuple[str, Prompt]], int], list[Sampled]], count: int) -> Ask:
    return lambda step, questions: ask(step, questions, count)
