"""From a source to one checked question table."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pivottrace.config import Config
from pivottrace.errors import ConfigError, DataError
from pivottrace.ingest import settling
from pivottrace.ingest.building import BUILT, Builder, IdTrouble, Unreadable
from pivottrace.ingest.columns import Columns, choose_columns
from pivottrace.ingest.overlooked import perhaps_answers, perhaps_ids
from pivottrace.ingest.question_template import parse_template
from pivottrace.ingest.repeats import OnDuplicate
from pivottrace.ingest.rows import Source
from pivottrace.ingest.sources import open_source
from pivottrace.verifier.decimal_signs import Signs, decimal_signs

BATCH_ROWS = 8_192  # rows held as Python objects at a time


@dataclass(frozen=True)
class Reading:
    """The questions of one source, with the decisions that reading them took.

    Attributes:
        table: The questions, with the schema `QUESTIONS`.
        notes: Decisions that the table does not show, one sentence each, in plain words.
        golds: (cell, gold) of the first given golds; the gold is None if the cell is none.
        unreadable: The first cells that are no gold.
        num_unreadable: Number of all such cells.
        unit: The unit of a row's number, "row" or "line".
        unused: Columns that the user named as no part of the question, and that the source has.
        num_left_out: Number of questions that were left out because they have no answer.
        revision: The commit of the Hub that the rows are of; None if that is not known.
    """

    table: pa.Table
    notes: tuple[str, ...] = ()
    golds: tuple[tuple[str, str | None], ...] = ()
    unreadable: tuple[Unreadable, ...] = ()
    num_unreadable: int = 0
    unit: str = "row"
    unused: tuple[str, ...] = ()
    num_left_out: int = 0
    revision: str | None = None


def read_questions(source: str, **options: Any) -> pa.Table:
    """Return the table of `read_source`, without its notes. It takes the same options."""
    return read_source(source, **options).table


def read_source(
    source: str,
    *,
    column_map: Mapping[str, str] | None = None,
    split: str | None = None,
    limit: int | None = None,
    answer_pattern: str | None = None,
    template: str | None = None,
    unused: Sequence[str] = (),
    on_duplicate: OnDuplicate = "keep_first",
    verifier: str = "math",
    timeout_s: float = 5.0,
) -> Reading:
    r"""Read and check the questions of one source; the notes have the decisions on the way.

    Columns that are not prompt, answer or id go to `extra` as one JSON object per row. Without a
    complete id column, ids are made from the prompts, so that the order of rows does not matter.

    Args:
        source: `.jsonl`, `.json`, `.csv`, `.tsv`, `.parquet` (verl's is recognised), a `datasets`
            folder, a Hub id, `world:PRESET`, `reasoning-gym:TASK` or a `.toml` file of its tasks,
            with options after "?"; see `ingest.sources`.
        column_map: `prompt`, `answer`, `id`, `tolerance` → column; see
            `ingest.columns.choose_columns`.
        split: Split of a `datasets` folder, a Hub id or the embedded world.
        limit: Number of rows that are read and checked, from the first one; None means all.
        answer_pattern: Regular expression that is tried first on the source's answers. Without one,
            a solution that ends in `#### 18` or `\boxed{18}` gives "18".
        template: The question from several columns; see `ingest.question_template`.
        unused: Columns that look like a part of the question and are not to be asked.
        on_duplicate: "keep_first" keeps one of several equal questions whose golds agree, and
            refuses others. "drop_disagreeing" leaves out the others. "refuse" refuses both.
        verifier: The rule by which golds agree, as in `answers.verifier`.
        timeout_s: Seconds for one of them, as in `answers.timeout_s`.

    Returns:
        The questions in the order of the source, at least one; their ids and prompts are distinct.

    Raises:
        DataError: The data is wrong; the message names source, row (or line), column and cure.
        ConfigError: The source string, split, column map, template or pattern is wrong.
    """
    opened = open_source(source, split, limit)
    asked = {} if opened.fixed_columns else {**(column_map or {}), **opened.column_map}
    # An empty list, or a file of blank lines, gets its own message, not that of a missing column.
    if next(opened.rows(), None) is None:
        raise DataError(f"{opened.name}: has no rows. Give a source with at least one question")
    if opened.fixed_columns or "prompt" in opened.column_map:
        template = None  # the source's own prompt wins over the settings
    if template is not None and "prompt" in asked:
        raise ConfigError(
            f"{opened.name}: pool.template and prompt = {asked['prompt']!r} in pool.map both say "
            "what the question is. Take one of them out"
        )
    filler = parse_template(opened.name, template, opened.columns) if template else None
    columns = choose_columns(
        opened.name,
        opened.columns,
        asked,
        lambda: islice(opened.rows(), limit),
        from_template=filler is not None,
    )
    settings = settling.Settings(
        template, limit, "answer" in asked, on_duplicate, verifier, timeout_s
    )
    signs = _signs_of_answers(opened, columns, limit)
    notes = [signs.note] if signs.note else []
    if "answer" not in asked and not opened.fixed_columns:
        parts = [field.path for field in filler.fields] if filler else []
        notes += perhaps_answers(opened.columns, columns, parts, unused)
    reading = (filler, answer_pattern, unused, signs.comma, verifier == "choice")
    builder = Builder(opened, columns, *reading)
    try:
        return _read(builder, settings, *notes, *perhaps_ids(opened.columns, columns))
    except IdTrouble as trouble:
        # The column of ids was our guess, so it is given up and not the user's mistake.
        without_ids = replace(columns, id=(), id_optional=False)
        builder = Builder(opened, without_ids, *reading)
        notes.append(f"{trouble} Ids were made from the questions instead")
        return _read(builder, settings, *notes)


def _signs_of_answers(source: Source, columns: Columns, limit: int | None) -> Signs:
    """Decide what comma and point are in the answers, which needs all of them.

    Raises:
        DataError: The answers show both readings, and one of them has either.
    """
    if columns.answer is None or not source.semicolons:
        return Signs(comma=False)
    place = f"{source.name}: column {columns.answer[0]!r}"
    cells = (
        (f"{source.unit} {number}", str(values[columns.answer[0]] or ""))
        for number, values in islice(source.rows(), limit)
    )
    try:
        signs = decimal_signs(cells)
    except DataError as error:
        raise DataError(f"{place}: {error}") from None
    return replace(signs, note=signs.note and f"{place}: {signs.note}")


def read_pool(config: Config) -> Reading:
    """Read the pool's questions, with the answers that their source has. As `read_source`.

    `pool.only_answered` leaves out questions without an answer.
    """
    settings = config.pool
    read = read_source(
        settings.questions,
        split=settings.split,
        limit=settings.limit,
        **settings_of_reading(config),
    )
    return _answered(read, settings.questions) if settings.only_answered else read


def _answered(read: Reading, source: str) -> Reading:
    kept = read.table.filter(pc.field("answer").is_valid())
    if not kept.num_rows:
        raise DataError(
            f"{source}: none of its {read.table.num_rows} questions has an answer, and "
            f"pool.only_answered leaves out such questions. Name the answers' column with --map "
            f"answer=COLUMN, or set it to false"
        )
    left_out = read.table.num_rows - kept.num_rows
    note = (
        f"{kept.num_rows} of {read.table.num_rows} questions have an answer; the others are left "
        f"out (pool.only_answered)"
    )
    notes = (*read.notes, note) if left_out else read.notes
    return replace(read, table=kept, notes=notes, num_left_out=left_out)


def settings_of_reading(config: Config) -> dict[str, Any]:
    """Return the options of `read_source` that the settings have for every source."""
    return {
        "column_map": config.pool.map,
        "answer_pattern": config.answers.pattern,
        "template": config.pool.template,
        "unused": config.pool.unused,
        "on_duplicate": config.pool.on_duplicate,
        "verifier": config.answers.verifier,
        "timeout_s": config.answers.timeout_s,
    }


def _read(builder: Builder, settings: settling.Settings, *notes: str) -> Reading:
    """Build every row, and settle what all rows together decide."""
    numbers = array("q")
    rows = islice(builder.source.rows(), settings.limit)
    batches = []
    while chunk := list(islice(rows, BATCH_ROWS)):
        numbers.extend(number for number, _ in chunk)
        built = [builder.build(row) for row in chunk]
        batches.append(pa.RecordBatch.from_pylist(built, schema=BUILT))
    notes = (*builder.source.notes, *notes)
    found = settling.Settled(pa.Table.from_batches(batches, schema=BUILT), numbers, list(notes))
    settling.refuse_lost_parts(builder, settings)
    settling.settle_golds(builder, settings, found)
    golds = [(cell, found.table["answer"][row].as_py()) for row, cell in builder.first_golds]
    settling.settle_repeats(builder, settings, found)
    settling.refuse_repeated_ids(builder, found)
    return Reading(
        table=found.table.drop_columns(["prompt_digest"]),
        notes=tuple(found.notes),
        golds=tuple(golds),
        unreadable=tuple(builder.unreadable),
        num_unreadable=builder.num_unreadable,
        unit=builder.source.unit,
        unused=tuple(name for name in builder.unused if name in builder.source.columns),
        revision=builder.source.revision,
    )


def iter_messages(table: pa.Table) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """Yield (id, messages) of every question; one batch is read at a time."""
    for batch in table.select(["id", "prompt"]).to_batches(max_chunksize=BATCH_ROWS):
        yield from zip(batch["id"].to_pylist(), batch["prompt"].to_pylist(), strict=True)
