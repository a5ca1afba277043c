"""The pool's own answers: what people would have answered, had they been asked."""

from __future__ import annotations

from pivottrace.label_sources import Answers, Asked, LabelSource


def answers(asked: Asked) -> Answers:
    """The answers of the pool's answer column."""
    return asked.pool_answers()


COLUMN = LabelSource(
    "column",
    "the pool's own answers, used only for the chosen questions",
    answers=answers,
    simulates=True,
    needs_column=True,
)
