"""Advice on questions of reasoning-gym before a run: their verifier, and the reading of answers."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from pivottrace.config import Config
from pivottrace.errors import first_of
from pivottrace.ingest.gym_source import VERBATIM, as_reply
from pivottrace.rollouts.answer_reader import AnswerReader
from pivottrace.run.entries import task_of
from pivottrace.verifier.exact_text import normalise_exact
from pivottrace.verifier.forms import form_of


def gym_notes(config: Config, questions: pa.Table) -> Iterator[str]:
    """Yield advice on questions that are compared as `config` says; nothing for other questions."""
    rows = questions.select(["source", "extra", "answer"]).to_pylist()
    found = [(task_of(row), row["answer"]) for row in rows]
    known = [(task, gold) for task, gold in found if task is not None and gold]
    if config.answers.verifier != "reasoning-gym":
        yield from _other_scorers(known)
    elif len(known) < questions.num_rows:
        yield (
            f"{questions.num_rows - len(known)} of {questions.num_rows} questions are not of "
            f"reasoning-gym: their answers are compared as exact text"
        )
    if config.answers.verifier == "reasoning-gym" and config.answers.pattern is None:
        yield from _unread(config, known)


def _other_scorers(known: list[tuple[str, str]]) -> Iterator[str]:
    tasks = sorted({task for task, gold in known if form_of(gold) != "number"})
    if tasks:
        yield (
            f"answers of {first_of(tasks)} are no numbers; answers.verifier = 'reasoning-gym' "
            f"judges each reply by its task's own scorer"
        )


def _unread(config: Config, known: list[tuple[str, str]]) -> Iterator[str]:
    reader = AnswerReader.of(config)
    changed = [
        task
        for task, gold in known
        if normalise_exact(reader.read(as_reply(gold)) or "") != normalise_exact(gold)
    ]
    if changed:
        yield (
            f"{len(changed)} of {len(known)} answers would not be read as they are written "
            f"({first_of(sorted(set(changed)))}). Read them whole, with answers.pattern = "
            f"'{VERBATIM}', and ask for these tags in pool.prompt_suffix"
        )
