"""The numbers of one question that led to its route, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class Number(NamedTuple):
    """A number of a question: its name, its value as text, and its meaning in a phrase."""

    name: str
    value: str
    meaning: str


def question_numbers(row: Mapping[str, Any]) -> list[Number]:
    """The numbers of a row of `triage`. A number that is not known is a dash."""

    def number(name: str, digits: int = 3) -> str:
        return "–" if row[name] is None else f"{row[name]:.{digits}f}".replace("-", "−")

    def share(name: str) -> str:
        if row[name] is None:
            return "–"
        return f"{row[name]:.2f} ({number(f'{name}_low', 2)} – {number(f'{name}_high', 2)})"

    return [
        Number("place in the ranking", number("rank"), "from 0 (most certain) to 1"),
        Number("uncertainty", number("score", 4), "by the estimator that ranks the pool"),
        Number("expected share of right samples", number("mu", 2), "0 to 1, as calibrated"),
        Number(
            "chance that the vote is right",
            share("vote"),
            "of the majority answer, with its 90 % interval",
        ),
        Number("a label would teach", number("label_gain"), "by the true answer, from 0 to 0.25"),
        Number("the vote would teach", number("vote_gain"), "by the vote; below 0: harm"),
        Number(
            "the label beyond the vote",
            number("priority"),
            "the gain of a label beyond the best that can be done without one",
        ),
        Number("weight in training", number("weight", 2), "factor of its advantage, from 0 to 1"),
    ]
