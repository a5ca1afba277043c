"""Answers are read off responses as a configuration says, with advice if no answer is found."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from pivottrace.config import Config
from pivottrace.errors import counted
from pivottrace.run.directory import RunDir
from pivottrace.verifier.answers import extract_answer
from pivottrace.verifier.formats import DEFAULT_FORMATS, LETTER
from pivottrace.verifier.placeholders import placeholders_of

SHOWN_CHARS = 160
"""Characters of a response's end in a message: two lines of a terminal."""


@dataclass(frozen=True)
class AnswerReader:
    """Reads the answer in a response.

    Attributes:
        pattern: The user's `answers.pattern`, which replaces the formats.
        formats: Names of the formats, in the order in which they are tried.
        placeholders: Template words of the prompt, which are no answer.
    """

    pattern: str | None = None
    formats: tuple[str, ...] = DEFAULT_FORMATS
    placeholders: frozenset[str] = frozenset()

    @classmethod
    def of(cls, config: Config) -> Self:
        """The reader of `[answers]`, with the template words of the prompt of `[pool]`.

        If letters are compared, a letter that begins a response is read behind the default formats.
        """
        formats = tuple(config.answers.formats)
        if config.answers.verifier == "choice" and formats == DEFAULT_FORMATS:
            formats = (*formats, LETTER.name)
        return cls(
            config.answers.pattern,
            formats,
            placeholders_of(config.pool.system_prompt, config.pool.prompt_suffix),
        )

    def read(self, text: str) -> str | None:
        """The answer in a response; None if it has none. See `extract_answer`."""
        return extract_answer(text, self.pattern, self.formats, self.placeholders)

    def why_none(self, responses: Sequence[tuple[str, str]], limit: str) -> str | None:
        """Advice if no response has an answer; None if one has, or if all are empty.

        Args:
            responses: (text, finish) of each response.
            limit: The setting that limits their length, with its value.
        """
        given = [(text, finish) for text, finish in responses if text.strip()]
        if not given or any(self.read(text) is not None for text, _ in given):
            return None
        num_cut = sum(finish == "length" for _, finish in given)
        # The end of a whole response says more than that of a cut one.
        text = next((text for text, finish in given if finish != "length"), given[0][0])
        return self.advice(text, len(given), num_cut, limit)

    def advice(self, text: str, num_responses: int, num_cut: int, limit: str) -> str:
        """The message about responses without an answer.

        Args:
            text: One of them, a whole one if possible.
            num_responses: Number of responses.
            num_cut: Number of responses that were cut at the limit.
            limit: The setting that limits their length, with its value.
        """
        cut = f" {num_cut} of them were cut at {limit}: raise it." if num_cut else ""
        if num_cut == num_responses:
            cut = f" All of them were cut at {limit}: raise it."
        tried = f"answers.formats: {', '.join(self.formats)}"
        cure = (
            "Name the format of the responses in answers.formats, tell where the answer stands by "
            "a regular expression in answers.pattern, or ask for a "
        )
        if self.pattern is not None:
            tried = f"answers.pattern: {self.pattern!r}"
            cure = "Correct the pattern, or leave it out to use answers.formats, or ask for a "
        return (
            f"no answer could be read from {counted(num_responses, 'response')}.{cut} One ends: "
            f"{end_of(text)!r}. Tried were {tried}. {cure}known format in pool.prompt_suffix"
        )


def end_of(text: str) -> str:
    """The end of a response on one line, without characters that a terminal would act on."""
    safe = "".join(c if unicodedata.category(c)[0] not in "CZ" else " " for c in text)
    line = " ".join(safe.split())
    return line if len(line) <= SHOWN_CHARS else f"…{line[-SHOWN_CHARS:]}"


def first_unread(run: RunDir) -> str | None:
    """The end of the first whole greedy response without an answer; None if all have one."""
    for part in run.iter_parts("rollouts_greedy", "greedy", ["text", "answer", "finish"]):
        for row in part.to_pylist():
            if row["answer"] is None and row["text"].strip() and row["finish"] != "length":
                return end_of(row["text"])
    return None


def unread_note(run: RunDir) -> str | None:
    """Advice if no greedy response of a round has an answer; None if one has.

    It is read off the rollouts, so it may be asked for once they are done.
    """
    if not run.is_done("greedy"):
        return None
    responses: list[tuple[str, str]] = []
    num_responses = num_cut = 0
    for part in run.iter_parts("rollouts_greedy", "greedy", ["text", "answer", "finish"]):
        for row in part.to_pylist():
            if row["answer"] is not None:
                return None
            if row["text"].strip():
                num_responses += 1
                num_cut += row["finish"] == "length"
                if not responses or (responses[0][1] == "length" != row["finish"]):
                    responses = [(row["text"], row["finish"])]
    if not responses:
        return None
    limit = f"rollouts.max_new_tokens = {run.config.rollouts.max_new_tokens}"
    return AnswerReader.of(run.config).advice(responses[0][0], num_responses, num_cut, limit)
