"""Labels are bought: the run's label source is asked, and its answers enter the label store."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from functools import partial

from pivottrace.config import Config
from pivottrace.errors import DataError, LabelsNeeded, counted
from pivottrace.ingest.questions import read_pool
from pivottrace.label_sources import Asked, LabelSource, Purpose
from pivottrace.label_sources.column import COLUMN
from pivottrace.labels.budget import (
    allowed_labels,
    bought,
    budget_in_words,
    labels_of,
    probes_wanted,
    refuse_to_exceed,
    source_of,
    true_answers,
)
from pivottrace.labels.intake import take_in
from pivottrace.labels.requests import write_requests
from pivottrace.labels.store import Given, Label
from pivottrace.labels.waiting import is_over, questions_of
from pivottrace.run.directory import RunDir
from pivottrace.run.entries import with_entries

WHEN_OVER = "once one answer is in, or all rows came back without one"


def obtain(run: RunDir, question_ids: Sequence[str], purpose: Purpose) -> dict[str, str]:
    """Return the true answers of these questions, and buy the missing ones.

    A question that cannot be answered has no answer here, and none is asked for again. The budget
    is checked before the source is asked. With `labels.partial` some answers may be
    missing from the result. Then a source that asks people asks no further once a request is over
    (`waiting.is_over`). A source without people must have given at least one label to the run.

    Raises:
        LabelsNeeded: People have to give the answers, and they have been asked; or they have to
            settle answers that differ.
        BudgetError: The labels would exceed the budget. Nothing was asked or bought.
        DataError: The source has no answer to one of the questions. Nothing was bought.
    """
    source, known = source_of(run), labels_of(run)
    missing = [i for i in question_ids if i not in known]
    disputed = [i for i in question_ids if i in known and known[i].disputed]
    asks = source.ask is not None
    goes_on = asks and run.config.labels.partial and is_over(run, question_ids, purpose)
    if missing and not (goes_on and source.answers is None):
        refuse_to_exceed(allowed_labels(run), len(bought(run)), len(missing))
        # A source may have new answers, even if the run goes on without them.
        _buy(run, source, missing, purpose, known, asks=not goes_on)
    if disputed and not goes_on:
        raise LabelsNeeded(_to_settle(run, disputed))
    truths = true_answers(run)
    return {i: truths[i] for i in question_ids if i in truths}


def take_owned(run: RunDir) -> None:
    """Store the pool's own answers where the source owns them: they cost no budget.

    They are stored as annotations, because no answer of the pool is asked for. A probe that has one
    is labelled by it all the same.
    """
    if run.round_index or not source_of(run).owns_column:
        return
    known = labels_of(run)
    owned = {i: answer for i, answer in _pool_answers(run).items() if i not in known}
    if owned:
        take_in(run, [Given(i, a, COLUMN.name, "annotation", owned=True) for i, a in owned.items()])


def _to_settle(run: RunDir, disputed: Sequence[str]) -> str:
    """The steps that settle answers that differ."""
    place = shlex.quote(str(run.path))
    what = f"{counted(len(disputed), 'question')} {'has' if len(disputed) == 1 else 'have'}"
    return (
        f"{what} answers that differ from each other. Next:\n"
        f"  1. pivottrace label conflicts {place}   (lists them, each with its command)\n"
        f"  2. {settling(run, disputed[0])}   (settles the first)\n"
        f"  3. pivottrace run {place}"
    )


def settling(run: RunDir, question_id: str) -> str:
    """The command that settles a question; the user writes the answer."""
    return f"{shlex.join(['pivottrace', 'label', 'correct', str(run.path), question_id])} ANSWER"


def num_asked(run: RunDir, question_ids: Sequence[str], purpose: Purpose) -> int:
    """How many of these the source was asked for: all but those labelled for another purpose."""
    known = labels_of(run)
    return sum(i not in known or known[i].purpose == purpose for i in question_ids)


def known_answers(run: RunDir) -> dict[str, str]:
    """The true answers that a pool has, in its order: for a study, which buys nothing.

    A source that has its answers beforehand gives them; else the pool's answer column does. They
    have what the verifier needs behind them, as in `true_answers`.
    """
    source = source_of(run)
    ids = run.read_table("pool", made_by="run")["id"].to_pylist()
    asked = _asked(run, ids, "annotation")
    answers = _answers(source, asked) if source.simulates else asked.pool_answers()
    return with_entries(run, answers)


def every_answer(run: RunDir) -> dict[str, str]:
    """The true answer of every question of a labelled pool, in its order. Nothing is bought.

    Raises:
        DataError: Questions have no answer.
    """
    found = known_answers(run)
    ids = run.read_table("pool", made_by="run", columns=["id"])["id"].to_pylist()
    gaps = [question_id for question_id in ids if question_id not in found]
    if gaps:
        raise DataError(
            f"{run.config.pool.questions}: {len(gaps)} of {len(ids)} questions have no answer, the "
            f"first is id {gaps[0]!r}, and all are needed. Name the answers' column with --map "
            f"answer=COLUMN, or leave those questions out of the file."
        )
    return found


def _buy(
    run: RunDir,
    source: LabelSource,
    missing: Sequence[str],
    purpose: Purpose,
    known: Mapping[str, Label],
    *,
    asks: bool,
) -> None:
    """Store the answers that the source has now. If it `asks`, people are asked for the rest."""
    given = _answers(source, _asked(run, missing, purpose))
    rest = [i for i in missing if i not in given]
    enough = run.config.labels.partial and bool(given or known)
    if rest and source.ask is None and not enough:
        raise DataError(_no_answer(run.config, source, rest[0], len(rest), len(missing)))
    if given:
        name = run.config.labels.source or source.name
        take_in(run, [Given(i, answer, name, purpose) for i, answer in given.items()])
    if rest and source.ask is not None and asks:
        asked = source.ask(_asked(run, rest, purpose))
        more = [asked, _going_on_without(run)]
        if purpose == "probe":
            num_owned = sum(label.owned for label in map(known.get, _drawn(run)) if label)
            more.append(budget_in_words(allowed_labels(run), probes_wanted(run) - num_owned))
        if disputed := [i for i, label in known.items() if label.disputed]:
            more.append(_to_settle(run, disputed))
        raise LabelsNeeded("\n".join(more))


def _going_on_without(run: RunDir) -> str:
    """When the run goes on without the answers that are missing, and how."""
    if run.config.labels.partial:
        return f"The run goes on with labels.partial = true {WHEN_OVER}"
    place = shlex.quote(str(run.path))
    return (
        f"To go on without the missing answers {WHEN_OVER}: pivottrace run {place} "
        f"--labels.partial true"
    )


def _drawn(run: RunDir) -> list[str]:
    """The ids of the probes."""
    ids: list[str] = run.read_table("probes", made_by="calibrate")["question_id"].to_pylist()
    return ids


def _answers(source: LabelSource, asked: Asked) -> dict[str, str]:
    """The answers that a source has now, in the order of the questions."""
    found = source.answers(asked) if source.answers is not None else {}
    return {i: found[i] for i in asked.question_ids if i in found}


def _asked(run: RunDir, question_ids: Sequence[str], purpose: Purpose) -> Asked:
    return Asked(
        question_ids=tuple(question_ids),
        purpose=purpose,
        folder=run.path,
        texts=partial(questions_of, run, question_ids),
        pool_answers=partial(_pool_answers, run),
        source_answers=partial(_source_answers, run.config),
        write_file=partial(write_requests, run, question_ids, purpose),
    )


def _pool_answers(run: RunDir) -> dict[str, str]:
    pool = run.read_table("pool", made_by="run", columns=["id", "answer"])
    return _answered(pool["id"].to_pylist(), pool["answer"].to_pylist())


def _source_answers(config: Config) -> dict[str, str]:
    pool = read_pool(config).table
    return _answered(pool["id"].to_pylist(), pool["answer"].to_pylist())


def _answered(ids: Sequence[str], answers: Sequence[str | None]) -> dict[str, str]:
    return {i: answer for i, answer in zip(ids, answers, strict=True) if answer is not None}


def _no_answer(
    config: Config, source: LabelSource, first: str, num_gaps: int, num_chosen: int
) -> str:
    """The message about questions to which a source without people has no answer."""
    counts = f"({num_gaps} of {num_chosen} chosen)"
    others = (
        "set labels.source = 'column+file' to have people answer them, or leave such "
        "questions out with labels.partial = true (one answer is needed at least)."
    )
    if source.needs_column:
        return (
            f"{config.pool.questions}: question {first!r} was chosen for a label and has no "
            f"answer in its answer column {counts}. Fill it in, name the column with --map "
            f"answer=COLUMN, {others}"
        )
    return (
        f"labels.source = {config.labels.source or source.name!r}: question {first!r} was chosen "
        f"for a label, and this source has no answer to it {counts}. Give it one there, {others}"
    )
