"""Slips in answers of people: an answer beside the model's own answers to the same question."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

import pyarrow.compute as pc

from pivottrace.config import AnswersConfig
from pivottrace.run.directory import RunDir
from pivottrace.run.storage import read_parquet
from pivottrace.verifier.forms import form_of
from pivottrace.verifier.multiple_choice import normalise_choice
from pivottrace.verifier.truths import read_truth

# A word of digits and of letters that look like them, with at least one of both.
LOOKALIKE = re.compile(r"(?<![^\W\d_])(?=[0-9oOlI]*\d)(?=[0-9oOlI]*[oOlI])[0-9oOlI]+(?![^\W\d_])")


# How an answer of each form looks, for messages.
_EXAMPLES = {
    "number": "1235, 1235.50 or 1235 CHF",
    "expression": "2x+1",
    "set": "3, 8",
    "letter": "B",
    "time": "15:30",
    "ratio": "2:3",
}


class Forms(NamedTuple):
    """The form of an answer beside the forms of the model's own answers to its question.

    Attributes:
        given: The forms of the answer's alternatives, such as "number" or "text".
        wanted: The forms of the model's answers, without text, in alphabetical order.
        is_other: Whether the answer has another form. It may still be right.
        is_text: Whether it reads as text, and no answer of the model does.
        lookalike: A word of it in which a letter looks like a digit, if the model gives numbers.
    """

    given: tuple[str, ...]
    wanted: tuple[str, ...]
    is_other: bool
    is_text: bool
    lookalike: str | None


def forms_of_answer(settings: AnswersConfig, answer: str, own: Iterable[str]) -> Forms:
    """Compare the form of an answer with the model's `own` answers to the same question."""
    kinds = {_kind(settings, text) for text in own}
    wanted = tuple(sorted(kinds - {"text", "empty"}))
    forms = {_kind(settings, text) for text in read_truth(answer).alternatives}
    slip = LOOKALIKE.search(answer) if kinds == {"number"} else None
    return Forms(
        given=tuple(sorted(forms)),
        wanted=wanted,
        is_other=bool(wanted) and not forms & kinds and forms != {"text"},
        is_text=bool(wanted) and "text" not in kinds and forms == {"text"},
        lookalike=slip[0] if slip else None,
    )


class Unlike(NamedTuple):
    """Answers of another form than the model's own answers to the same question.

    Attributes:
        others: (question id, answer, its form, the model's form) each, as `Imported.unlike`.
        slips: The answers that look like a slip, one sentence each with place and cure.
    """

    others: list[tuple[str, str, str, str]]
    slips: list[str]


def unlike_the_model(run: RunDir, answers: Iterable[tuple[str, str | None, str]]) -> Unlike:
    """Find the answers of another form than the model's own, and the slips among them.

    The model's answers are not quoted, because an answer that is shown draws people to it. A slip
    never equals an answer of the model, so it would look like a wrong model. A text among
    other forms, and a number with a letter that looks like a digit, are taken for slips.

    Args:
        run: The run, after sampling.
        answers: (question id, answer, place) each.
    """
    given = [(i, answer, place) for i, answer, place in answers if answer is not None]
    found = Unlike([], [])
    if not given:
        return found
    own = own_answers(run, {i for i, *_ in given})
    for question_id, answer, place in given:
        forms = forms_of_answer(run.config.answers, answer, own.get(question_id, ()))
        if forms.lookalike:
            found.slips.append(
                f"{place}: {answer!r} has a letter that looks like a digit in "
                f"{forms.lookalike!r}. Write the digit, or confirm the answer with --confirm"
            )
        elif forms.is_text:
            wanted = forms.wanted[0]
            looks = f", such as {_EXAMPLES[wanted]}" if wanted in _EXAMPLES else ""
            found.slips.append(
                f"{place}: {answer!r} reads as text, and question {question_id!r} seems to ask "
                f"for: {wanted}. Write it in that form{looks}, or confirm it with --confirm"
            )
        elif forms.is_other:
            unlike = (" or ".join(forms.given), " or ".join(forms.wanted))
            found.others.append((question_id, answer, *unlike))
    return found


def _kind(settings: AnswersConfig, answer: str) -> str:
    if settings.verifier == "math":
        return form_of(answer)
    letters = normalise_choice(answer)
    is_letter = settings.verifier == "choice" and letters.isupper() and len(letters) <= 10
    return "letter" if is_letter else "text"


def own_answers(run: RunDir, ids: set[str]) -> dict[str, list[str]]:
    """The model's vote and its greedy answer to some questions, as far as they are there."""
    found: dict[str, list[str]] = {}
    paths = [(run.table_path("votes"), "vote_answer")]
    greedy = sorted((run.round_path / "rollouts_greedy").glob("part-*.parquet"))
    paths += [(path, "answer") for path in greedy]
    for path, column in paths:
        if not path.is_file():
            continue
        rows = read_parquet(path, ["question_id", column])
        rows = rows.filter(pc.field("question_id").isin(list(ids)) & pc.field(column).is_valid())
        for question_id, answer in zip(*(c.to_pylist() for c in rows.columns), strict=True):
            found.setdefault(question_id, []).append(answer)
    return found
