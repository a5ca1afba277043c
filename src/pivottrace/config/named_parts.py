"""Settings that name a part: their help, made from the records, and their check."""

from __future__ import annotations

import textwrap
from collections.abc import Callable

from pydantic_core import PydanticCustomError

from pivottrace.errors import ConfigError
from pivottrace.estimators import ESTIMATORS, load_estimator
from pivottrace.label_sources import label_sources
from pivottrace.plugins import refuse_unknown
from pivottrace.rewards import REWARDS
from pivottrace.verifier.formats import FORMATS

# Values of `score.estimator` that name no single estimator.
RANKINGS = ("pivots", "combination")

_HELP_WIDTH = 96  # characters per line
_OWN = "or your own, as `package.module:name`"
ESTIMATOR_HELP = textwrap.fill(
    f"The ranking of the pool. `pivots` is the reading and statistic of `[pivots]`. `combination` "
    f"is fitted on the probes, and used only if it is better beyond chance. Or one estimator: "
    f"{', '.join(ESTIMATORS)}; {_OWN}.",
    _HELP_WIDTH,
)
REWARD_HELP = textwrap.fill(f"The reward of weak rows: {', '.join(REWARDS)}; {_OWN}.", _HELP_WIDTH)
SOURCE_HELP = textwrap.fill(
    "; ".join(f"`{s.name}`: {s.title}" for s in label_sources().values())
    + f"; {_OWN}. Unset, it follows the pool: `column` if every question has an answer, "
    "`column+file` if some have, `file` if none has.",
    _HELP_WIDTH,
)
FORMATS_HELP = textwrap.fill(
    "Formats in which a response states its answer; the first format with an answer counts. "
    + "; ".join(f"`{each.name}`: {each.reads}" for each in FORMATS.values())
    + ".",
    _HELP_WIDTH,
)


def loads(load: Callable[[str], object]) -> Callable[[str | None], str | None]:
    """A validator that loads the part that a setting names, so that a slip stops early.

    Args:
        load: It takes the value, and raises a ConfigError that begins with key and value.
    """

    def check(value: str | None) -> str | None:
        try:
            if value is not None:
                load(value)
        except ConfigError as error:
            # `explain` puts the key and its value before the reason.
            reason = str(error).partition(f"{value!r}: ")[2]
            raise PydanticCustomError("part", "{reason}", {"reason": reason}) from None
        return value

    return check


def ranking_of(value: str) -> object:
    """The ranking of `score.estimator`: a word of `RANKINGS`, or the estimator.

    Raises:
        ConfigError: There is no such estimator, or the user's one cannot be loaded.
    """
    if value in RANKINGS or value in ESTIMATORS:
        return ESTIMATORS.get(value, value)
    refuse_unknown(value, [*RANKINGS, *ESTIMATORS], "estimator", "score.estimator")
    return load_estimator(value, "score.estimator")
