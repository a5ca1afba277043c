"""The world's oracle: it knows every answer, gives those that it is asked for, and counts them."""

from __future__ import annotations

from collections.abc import Mapping

from pivottrace.errors import DataError


class Oracle:
    """Answers questions of the embedded world.

    Attributes:
        asked: distinct questions that it has answered.
    """

    def __init__(self, answers: Mapping[str, str]):
        self._answers = dict(answers)
        self._asked: set[str] = set()

    @property
    def asked(self) -> int:
        """Distinct questions answered so far."""
        return len(self._asked)

    def answer(self, question_id: str) -> str:
        """The true answer of one question.

        Raises:
            DataError: the question is not of this world.
        """
        if question_id not in self._answers:
            raise DataError(
                f"question {question_id!r} is not of the embedded world: labels.source = 'oracle' "
                f"works with pool.questions = 'world:…' only"
            )
        self._asked.add(question_id)
        return self._answers[question_id]
