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
        Number("rank", number("rank"), "place in the ranking, from 0 (most certain) to 1"),
        Number("score", number("score", 4), "uncertainty by the estimator that ranks the pool"),
        Number("correctness μ", number("mu", 2), "expected share of right samples"),
        Number(
            "vote right",
            share("vote"),
            "chance that the majority answer is right, with its 90 % interval",
        ),
        Number(
            "gain of a label",
            number("label_gain"),
            "what the true answer is expected to teach, from 0 to 0.25",
        ),
        Number(
            "gain of the vote",
            number("vote_gain"),
            "what the majority answer is expected to teach; below 0 it harms",
        ),
        Number(
            "priority",
            number("priority"),
            "the gain of a label beyond the best that can be done without one",
        ),
        Number("weight", number("weight", 2), "factor of its advantage in training, from 0 to 1"),
    ]
