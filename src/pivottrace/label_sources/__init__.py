"""Label sources, one file each: who answers a question that was chosen for a label.

A source is a record at the top level of a module of this folder. No list names it, and
`labels.source` finds it. This folder lies below the configuration and the run directory, because
both need facts of the sources. So a source gets everything that it may use in an `Asked`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pivottrace.errors import ConfigError
from pivottrace.plugins import load_part, records_in, refuse_unknown

Purpose = Literal["probe", "annotation"]
"""The purpose of a label: to calibrate, or to train on."""
Answers = Mapping[str, str]
"""True answers by question id."""


@dataclass(frozen=True)
class Asked:
    """Questions that a source is asked to answer, and everything that it may use for that.

    Attributes:
        question_ids: Ids of the questions, the most valuable label first. The budget allows a label
            for each.
        purpose: The purpose of the labels.
        folder: The run directory.
        texts: Reads what the questions ask, by id: each one's last user message.
        pool_answers: Reads the answers that the run's pool has, of any question. It has none where
            the source withholds them.
        source_answers: Reads the pool's source anew (`pool.questions`), with the answers that it
            has, of any question.
        write_file: Writes the file that people fill in, and returns its path. A file there that
            already asks all these questions stays as it is.
    """

    question_ids: tuple[str, ...]
    purpose: Purpose
    folder: Path
    texts: Callable[[], Mapping[str, str]]
    pool_answers: Callable[[], Answers]
    source_answers: Callable[[], Answers]
    write_file: Callable[[], Path]


@dataclass(frozen=True)
class LabelSource:
    """One way to get true answers: at once, from people, or first the one and then the other.

    Attributes:
        name: Value of `labels.source`.
        title: A few words about the source, for the help.
        answers: Gives the answers that the source has now, by question id. A question that it has
            no answer to is missing from them; answers to questions that were not asked count for
            nothing. None for a source that only asks people.
        ask: Asks people for the questions that `answers` left open. Returns, in words, what the
            people do next; the run stops with these words and exit code 3. When the run goes on,
            both functions are called again. None for a source without people.
        simulates: Whether `answers` has all its answers beforehand and for free. The budget is then
            a simulation, and a study may read the answers of the whole pool.
        needs_column: Whether `answers` reads the pool's answer column. A run is refused early where
            that column has fewer answers than the budget allows labels.
        owns_column: Whether the answers of the pool's answer column are the user's own. They cost
            no budget, and all of them are used, not only the ones of chosen questions.
        withholds_answers: Whether the run's pool is made without its answers, so that nothing else
            can read them.
        check_pool: Takes `pool.questions` before it is read. Raises ConfigError where the source
            cannot answer such questions.

    Raises:
        ValueError: The record has neither `answers` nor `ask`.
    """

    name: str
    title: str
    answers: Callable[[Asked], Answers] | None = None
    ask: Callable[[Asked], str] | None = None
    simulates: bool = False
    needs_column: bool = False
    owns_column: bool = False
    withholds_answers: bool = False
    check_pool: Callable[[str], None] | None = None

    def __post_init__(self) -> None:
        if self.answers is None and self.ask is None:
            raise ValueError(f"label source {self.name!r}: give it answers, ask, or both")


def label_sources() -> dict[str, LabelSource]:
    """The sources of this folder, by name."""
    return records_in(__name__, LabelSource)


def source_for(name: str | None, num_questions: int, num_answered: int) -> LabelSource:
    """The source of a pool. Raises as `label_source`.

    Args:
        name: Value of `labels.source`. None takes the pool's answers as far as they go: "column" if
            every question has one, "file" if none has, else "column+file".
        num_questions: Number of questions in the pool.
        num_answered: Number of these with an answer in the pool's answer column.
    """
    if name is None:
        name = "column+file" if num_answered else "file"
        name = "column" if num_answered == num_questions else name
    return label_source(name)


def label_source(name: str) -> LabelSource:
    """The source that `labels.source` names: one of the package, or `package.module:name`.

    Raises:
        ConfigError: There is no such source, or the part that is named is none.
    """
    known = label_sources()
    if name in known:
        return known[name]
    refuse_unknown(name, known, "source", "labels.source")
    part = load_part(name, "labels.source")
    if not isinstance(part, LabelSource):
        raise ConfigError(
            f"labels.source = {name!r}: it is a {type(part).__name__}, not a "
            f"pivottrace.label_sources.LabelSource. Name the record, not its function"
        )
    return part
