"""The embedded world's oracle: it knows every answer, and the run's pool has none of them."""

from __future__ import annotations

from pivottrace.errors import ConfigError
from pivottrace.label_sources import Answers, Asked, LabelSource
from pivottrace.world import WORLD_PREFIX


def answers(asked: Asked) -> Answers:
    """The answers that the world makes together with its questions."""
    return asked.source_answers()


def check_pool(questions: str) -> None:
    """Refuse questions that are not of the embedded world. Raises ConfigError."""
    if not questions.startswith(WORLD_PREFIX):
        raise ConfigError(
            f"labels.source = 'oracle' knows the embedded world only, and pool.questions is "
            f"{questions!r}. Set labels.source to 'column' or 'file'"
        )


ORACLE = LabelSource(
    "oracle",
    "the embedded world's own answers",
    answers=answers,
    simulates=True,
    withholds_answers=True,
    check_pool=check_pool,
)
