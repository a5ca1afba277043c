"""Decisions that need all rows of a source: lost parts, golds, repeated questions and ids."""

from __future__ import annotations

import difflib
from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice

import pyarrow as pa

from pivottrace.errors import DataError
from pivottrace.ingest.building import Builder, IdTrouble, id_column, row_error
from pivottrace.ingest.columns import look_up
from pivottrace.ingest.golds import MOST_UNREADABLE, as_letters
from pivottrace.ingest.question_parts import cure
from pivottrace.ingest.repeats import OnDuplicate, Repeats, find_repeats, first_repeat
from pivottrace.verifier import Verifier

SHOWN_ROWS = 3  # in a message
SHOWN_CHARS = 60  # of a cell, in a message


@dataclass(frozen=True)
class Settings:
    """The settings that decide.

    Attributes:
        template: The text of `pool.template`, or None.
        limit: Number of rows that are read, or None.
        answer_mapped: Whether the user named the column of answers.
        on_duplicate: The treatment of repeated questions.
        verifier: The rule by which golds agree.
        timeout_s: Seconds that it may take for one of them.
    """

    template: str | None
    limit: int | None
    answer_mapped: bool
    on_duplicate: OnDuplicate
    verifier: str
    timeout_s: float


@dataclass
class Settled:
    """The questions so far, Q rows.

    Attributes:
        table: (Q,) with the schema `BUILT`.
        numbers: (Q,) the number of each row in its source.
        notes: The decisions, one sentence each.
    """

    table: pa.Table
    numbers: array[int]
    notes: list[str]

    def set_answers(self, answers: pa.Array) -> None:
        """Replace the column of golds."""
        index = self.table.schema.get_field_index("answer")
        self.table = self.table.set_column(index, "answer", answers)


def refuse_lost_parts(builder: Builder, settings: Settings) -> None:
    """Refuse questions that lack a column which looks like a part of them.

    Raises:
        DataError: Some question lacks such a column; the message has the line to add.
    """
    lost = [part for part in builder.parts if part.first_lost is not None]
    if not lost:
        return
    names = ", ".join(repr(part.name) for part in lost)
    looks = "columns look" if len(lost) > 1 else "column looks"
    raise DataError(
        f"{builder.source.name}: {builder.source.unit} {lost[0].first_lost}: the {looks} like a "
        f"part of the question and would not be asked: {names}. "
        f"{cure(lost, builder.columns, settings.template)}"
    )


def settle_golds(builder: Builder, settings: Settings, found: Settled) -> None:
    """Give golds of options their letters, and count the cells that are no gold.

    Raises:
        DataError: More than `MOST_UNREADABLE` of the given golds are none, or no row has the nested
            answer that the user named and a similar name exists.
    """
    if settings.answer_mapped:
        _refuse_a_slip(builder, settings, found.table)
    _give_letters(builder, settings, found)
    if builder.num_json:
        found.notes.append(
            f"{builder.source.name}: prompts that were read from messages in JSON text: "
            f"{builder.num_json}"
        )
    column = ".".join(builder.columns.answer or ())
    if builder.first_open is not None:
        number, cell = builder.first_open
        found.notes.append(
            f"{builder.source.name}: cells of column {column!r} that say there is no answer: "
            f"{builder.num_open} ({builder.source.unit} {number}: {shortened(cell)!r}); these "
            "questions are unlabelled"
        )
    if not builder.num_unreadable:
        return
    shown = "; ".join(
        f"{builder.source.unit} {u.number}: {shortened(u.cell)!r} {u.problem}"
        for u in builder.unreadable[:SHOWN_ROWS]
    )
    counted = f"{builder.num_unreadable} of {builder.num_given} golds in column {column!r}"
    if builder.num_unreadable > MOST_UNREADABLE * builder.num_given:
        raise DataError(
            f"{builder.source.name}: no answer could equal {counted} ({shown}). Name another "
            "column (--map answer=COLUMN), tell where the answer is in it (answers.pattern), or "
            "leave the answers out (--map answer=)"
        )
    found.notes.append(
        f"{builder.source.name}: no answer could equal {counted}; these questions are unlabelled "
        f"({shown})"
    )


def settle_repeats(builder: Builder, settings: Settings, found: Settled) -> None:
    """Keep one row of each question, as `pool.on_duplicate` says.

    Raises:
        DataError: A question is repeated and the setting refuses it, or nothing is left.
    """
    with Verifier(settings.verifier, settings.timeout_s) as verifier:
        repeats = find_repeats(found.table["prompt_digest"], found.table["answer"], verifier.equal)
    if repeats.kept is None or repeats.first is None:
        return
    source, numbers = builder.source, found.numbers
    if settings.on_duplicate == "refuse":
        first, second = (numbers[row] for row in repeats.first)
        problem = (
            f"is the same question as {source.unit} {first}. Keep one of the two: it would be "
            'labelled and counted twice (pool.on_duplicate = "keep_first" keeps the first)'
        )
        raise row_error(source, second, ".".join(builder.columns.prompt) or "template", problem)
    if repeats.disagreeing and settings.on_duplicate == "keep_first":
        raise _disagreement(builder, found, repeats)
    if not repeats.kept:
        raise DataError(
            f"{source.name}: every question is repeated with golds that differ, so none is left. "
            "Correct the answers"
        )
    if repeats.first_left_out is not None:
        first, second = (numbers[row] for row in repeats.first_left_out)
        found.notes.append(
            f"{source.name}: left out {repeats.num_left_out} of {len(numbers)} rows as duplicates "
            f"of an earlier question ({source.unit} {second} is {source.unit} {first}; "
            "pool.on_duplicate)"
        )
    if repeats.disagreeing:
        first, second = (numbers[row] for row in repeats.disagreeing[0])
        found.notes.append(
            f"{source.name}: left out all {repeats.num_disagreeing_rows} rows of repeated "
            f"questions with golds that differ ({source.unit} {first} and {source.unit} {second}; "
            "pool.on_duplicate)"
        )
    if repeats.golds:
        answers = found.table["answer"].to_pylist()
        for row, gold in repeats.golds.items():
            answers[row] = gold
        found.set_answers(pa.array(answers, pa.string()))
    found.table = found.table.take(pa.array(repeats.kept, pa.int64()))
    found.numbers = array("q", (numbers[row] for row in repeats.kept))


def refuse_repeated_ids(builder: Builder, found: Settled) -> None:
    """Refuse an id of two questions.

    Raises:
        IdTrouble: The user has not named the column of ids.
        DataError: The user has named it.
    """
    pair = first_repeat(found.table["id"])
    if pair is None:
        return
    first, second = (found.numbers[index] for index in pair)
    problem = (
        f"{found.table['id'][pair[1]].as_py()!r} is also the id of {builder.source.unit} {first}. "
        "Give each its own, or map id to nothing (--map id=) to have ids made from the prompts."
    )
    error = row_error(builder.source, second, id_column(builder.columns), problem)
    raise error if builder.columns.id_mapped else IdTrouble(str(error))


def shortened(text: str) -> str:
    """Return a text on one line, cut after `SHOWN_CHARS` characters."""
    line = " ".join(text.split())
    return line if len(line) <= SHOWN_CHARS else f"{line[: SHOWN_CHARS - 3]}..."


def _give_letters(builder: Builder, settings: Settings, found: Settled) -> None:
    if not builder.choices or builder.columns.answer is None:
        return
    read = as_letters(list(builder.choices.values()), builder.columns.answer)
    answers = found.table["answer"].to_pylist()
    for row, letter in zip(builder.choices, read.letters, strict=True):
        if letter is None:
            builder.refuse_gold(found.numbers[row], answers[row], "names none of its options")
        answers[row] = letter
    found.set_answers(pa.array(answers, pa.string()))
    compare = (
        "" if settings.verifier == "choice" else ' (answers.verifier = "choice" compares them)'
    )
    found.notes.append(
        f"{builder.source.name}: column {'.'.join(builder.columns.answer)!r} was read as "
        f"{read.reading}; each gold is the letter of its option{compare}"
    )


def _disagreement(builder: Builder, found: Settled, repeats: Repeats) -> DataError:
    earlier, later = repeats.disagreeing[0]
    one, other = (found.table["answer"][row].as_py() for row in (earlier, later))
    unit, first = builder.source.unit, found.numbers[earlier]
    problem = (
        f"is a duplicate of {unit} {first}, but their golds differ: {one!r} there and {other!r} "
        f"here. Such questions: {len(repeats.disagreeing)}. Correct them, or leave them out, with "
        'pool.on_duplicate = "drop_disagreeing"'
    )
    column = ".".join(builder.columns.prompt) or "template"
    return row_error(builder.source, found.numbers[later], column, problem)


def _refuse_a_slip(builder: Builder, settings: Settings, table: pa.Table) -> None:
    """Refuse a nested answer name that no row has, if a similar name exists; it is a slip."""
    source, way = builder.source, builder.columns.answer or ()
    if len(way) < 2 or table["answer"].null_count < len(table):
        return
    beside: dict[str, None] = {}
    for _, values in islice(source.rows(), settings.limit):
        around = look_up(values, way[:-1])
        if isinstance(around, Mapping):
            beside |= dict.fromkeys(around)
    near = difflib.get_close_matches(way[-1], beside, n=1)
    if near and way[-1] not in beside:
        raise DataError(
            f"{source.name}: no row has {'.'.join(way)!r} to be the answer; the nearest is "
            f"{'.'.join((*way[:-1], near[0]))!r}. Put the name right in the map, or end the source "
            f"in ?answer= if it has no answers"
        )
