"""Prompts that leave too little room for a response are found before anything is sampled.

Training and evaluation have limits of their own, which may be raised until they begin. So each
compares its own prompts once more.

When a sampler is asked, such a question is left out (`models.asking`). That is the last guard: by
then hours may have gone by, and a pool without its longest questions is another pool.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pivottrace.config import Config
from pivottrace.errors import ConfigError

LEAST_ROOM = 16
"""Fewest tokens that we advise for a response: a bare answer (ours)."""
SHOWN = 3  # questions named in a message

Prompts = Mapping[str, Sequence[int]]
"""Question id → token ids of its prompt."""


def refuse_long_prompts(
    config: Config, context: int | None, pool: Prompts, held_out: Prompts
) -> None:
    """Refuse limits of a response that leave a prompt no room for it in the model's context.

    Args:
        config: Its sections `rollouts`, `train` and `evaluate` limit responses.
        context: The longest sequence that the model takes, in tokens; None if it is not known.
        pool: The prompts of the pool.
        held_out: The prompts of the held-out questions.

    Raises:
        ConfigError: A prompt does not fit together with the longest response to it. The message has
            a limit that fits every question.
    """
    if context is None:
        return
    limits = {"rollouts.max_new_tokens": config.rollouts.max_new_tokens}
    if config.train.enabled and config.train.max_new_tokens is not None:
        limits["train.max_new_tokens"] = config.longest_in_training
    _refuse(pool, limits, context, "questions")
    own = config.evaluate.max_new_tokens or config.rollouts.max_new_tokens
    _refuse(held_out, {"evaluate.max_new_tokens": own}, context, "held-out questions")


def _refuse(prompts: Prompts, limits: Mapping[str, int], context: int, what: str) -> None:
    if not prompts:
        return
    ids = sorted(prompts, key=lambda i: -len(prompts[i]))  # the longest first
    room = context - len(prompts[ids[0]])
    over = {name: limit for name, limit in limits.items() if limit > room}
    if not over:
        return
    # If the longest prompt leaves next to no room, another limit is no cure.
    needed = max(over.values()) if room >= LEAST_ROOM else LEAST_ROOM
    unfit = [i for i in ids if len(prompts[i]) + needed > context]
    named = ", ".join(map(repr, unfit[:SHOWN])) + (", ..." if len(unfit) > SHOWN else "")
    facts = (
        f"the longest prompt ({ids[0]!r}) has {len(prompts[ids[0]])} tokens, and the model reads "
        f"{context}"
    )
    if room < LEAST_ROOM:
        raise ConfigError(
            f"{len(unfit)} of {len(ids)} {what} leave less than {LEAST_ROOM} tokens for a "
            f"response: {facts}. Take them out ({named}), or take a model that reads more."
        )
    settings = " and ".join(f"{name} (now {limit})" for name, limit in over.items())
    others = "" if len(unfit) == len(ids) else f", or take the long questions out ({named})"
    raise ConfigError(
        f"{len(unfit)} of {len(ids)} {what} do not fit the model together with a response: "
        f"{facts}. Set {settings} to at most {room}{others}."
    )
