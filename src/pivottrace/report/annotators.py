"""The people who gave answers, how many, and how these compare with the answers of others."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from pivottrace.labels.budget import STORE
from pivottrace.labels.store import Answer, read_answers
from pivottrace.run.directory import RunDir


@dataclass(frozen=True)
class Annotator:
    """The answers of one person, or of one source whose answers have no name.

    Attributes:
        name: The person, or the source.
        is_named: Whether the name is the name of a person.
        answers: Number of answers.
        agreeing: Answers that agree with an earlier answer of another person.
        differing: Answers that differ from an earlier answer.
        settling: Answers that settled a question, whatever was answered before.
        corrected: Answers that a later answer settled otherwise.
    """

    name: str
    is_named: bool
    answers: int
    agreeing: int
    differing: int
    settling: int
    corrected: int


def annotators(run: RunDir) -> list[Annotator]:
    """Everybody who gave an answer, with most answers first. Raises as `store.read_answers`."""
    counts: defaultdict[tuple[str, bool], Counter[str]] = defaultdict(Counter)
    for answers in read_answers(run.path / STORE).values():
        settled = _last_settled(answers)
        for place, answer in enumerate(answers):
            own = counts[answer.annotator or answer.source, answer.annotator is not None]
            own["answers"] += 1
            own[answer.verdict] += 1
            own["corrected"] += place < settled and answer.answer != answers[settled].answer
    found = [
        Annotator(
            name,
            is_named,
            own["answers"],
            own["agrees"],
            own["differs"],
            own["settles"],
            own["corrected"],
        )
        for (name, is_named), own in counts.items()
    ]
    return sorted(found, key=lambda each: (-each.answers, each.name))


def _last_settled(answers: Sequence[Answer]) -> int:
    """Position of the last answer that settled the question; 0 if none did."""
    return max((i for i, answer in enumerate(answers) if answer.verdict == "settles"), default=0)
