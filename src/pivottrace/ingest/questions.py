"""From a source to one checked question table."""

from __future__ import annotations

import difflib
import hashlib
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import pyarrow as pa

from pivottrace.config import Config
from pivottrace.errors import DataError
from pivottrace.ingest.columns import Columns, Path, choose_columns, look_up, without
from pivottrace.ingest.rows import Row, Source
from pivottrace.ingest.sources import open_source
from pivottrace.ingest.values import is_missing, kind_of, to_answer, to_id, to_json, to_messages
from pivottrace.schemas import QUESTIONS

BATCH_ROWS = 8_192  # rows held as Python objects at a time
ID_CHARS = 16  # 64 bits of SHA-256: a million questions collide with a chance of 3e-8

# The table while it is built; `prompt_digest` finds equal prompts.
_BUILT = QUESTIONS.append(pa.field("prompt_digest", pa.string()))


def read_questions(
    source: str,
    *,
    column_map: Mapping[str, str] | None = None,
    split: str | None = None,
    limit: int | None = None,
    answer_pattern: str | None = None,
) -> pa.Table:
    r"""Read and check the questions of one source; no row is left out or repaired silently.

    Columns that are not prompt, answer or id go to `extra` as one JSON object per row. Without an
    id column, ids are made from the prompts, so that the order of rows does not matter.

    Args:
        source: `.jsonl`, `.json`, `.csv`, `.parquet` (verl's is recognised), a `datasets` folder, a
            Hub id or `world:PRESET`, with options after "?"; see `ingest.sources`.
        column_map: `prompt`, `answer`, `id` → column; see `ingest.columns.choose_columns`.
        split: Split of a `datasets` folder, a Hub id or the embedded world.
        limit: Number of rows that are read and checked, from the first one; None means all.
        answer_pattern: Regular expression that is tried first on the source's answers. Without one,
            a solution that ends in `#### 18` or `\boxed{18}` gives "18", and any other text stays
            as it is.

    Returns:
        A table with the schema `QUESTIONS`, in the order of the source. It has at least one row,
        and its ids and prompts are distinct.

    Raises:
        DataError: The data is wrong; the message names source, row (or line), column and cure.
        ConfigError: The source string, split, column map or pattern is wrong.
    """
    opened = open_source(source, split, limit)
    asked = {} if opened.fixed_columns else {**(column_map or {}), **opened.column_map}
    # An empty list, or a file of blank lines, gets its own message, not that of a missing column.
    if next(opened.rows(), None) is None:
        raise DataError(f"{opened.name}: has no rows. Give a source with at least one question")
    columns = choose_columns(opened.name, opened.columns, asked)
    numbers = array("q")
    kinds = _Kinds()
    rows = islice(opened.rows(), limit)
    batches = []
    while chunk := list(islice(rows, BATCH_ROWS)):
        numbers.extend(number for number, _ in chunk)
        built = [_build(opened, columns, kinds, row, answer_pattern) for row in chunk]
        batches.append(pa.RecordBatch.from_pylist(built, schema=_BUILT))
    table = pa.Table.from_batches(batches, schema=_BUILT)
    if "answer" in asked:
        _refuse_a_slip(opened, columns.answer or (), limit, table)
    _refuse_duplicates(opened, columns, numbers, table)
    return table.drop_columns(["prompt_digest"])


def read_pool(config: Config) -> pa.Table:
    """Read the pool's questions, with the answers that their source has. As `read_questions`."""
    return read_questions(
        config.pool.questions,
        column_map=config.pool.map,
        split=config.pool.split,
        limit=config.pool.limit,
        answer_pattern=config.answers.pattern,
    )


@dataclass
class _Kinds:
    """The first type of each field, and the row that had it."""

    first: dict[str, tuple[str, int]] = field(default_factory=dict)

    def check(self, name: str, kind: str, number: int, unit: str) -> None:
        was, where = self.first.setdefault(name, (kind, number))
        if kind != was:
            raise DataError(
                f"is {kind}, but it is {was} in {unit} {where}: the types are mixed. Write the "
                "whole column in one of them"
            )


def _build(
    source: Source, columns: Columns, kinds: _Kinds, row: Row, pattern: str | None
) -> dict[str, Any]:
    number, values = row
    column = ".".join(columns.prompt)
    try:
        prompt = look_up(values, columns.prompt)
        if is_missing(prompt):
            raise DataError("is missing. Write the question, or take the row out")
        messages = to_messages(prompt)
        kinds.check("prompt", kind_of(prompt), number, source.unit)
        digest = _digest(messages)

        answer = None
        if columns.answer is not None:
            column = ".".join(columns.answer)
            value = look_up(values, columns.answer)
            answer = to_answer(value, pattern)
            if not is_missing(value):
                kinds.check("answer", kind_of(value), number, source.unit)

        column = _id_column(columns)
        question_id = _id(columns, kinds, values, number, source.unit) or digest[:ID_CHARS]
        column = "extra"
        extra = to_json(without(values, columns.used))
    except DataError as error:
        raise _error(source, number, column, error) from None
    return {
        "id": question_id,
        "prompt": messages,
        "answer": answer,
        "source": source.name,
        "extra": extra,
        "prompt_digest": digest,
    }


def _id(
    columns: Columns, kinds: _Kinds, values: Mapping[str, Any], number: int, unit: str
) -> str | None:
    if not columns.id:
        return None
    parts = [look_up(values, path) for path in columns.id]
    if columns.id_optional:
        given = "missing" if is_missing(parts[-1]) else "given"
        kinds.check("optional id", given, number, unit)
        if given == "missing":
            return None
    text = "-".join(to_id(part) for part in parts)
    kinds.check("id", kind_of(parts[-1]), number, unit)
    return text


def _digest(messages: list[dict[str, str]]) -> str:
    digest = hashlib.sha256()
    for message in messages:
        content = message["content"].encode()
        # The length is included, so that two different lists of messages never give the same bytes.
        digest.update(f"{message['role']} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()


def _refuse_a_slip(source: Source, way: Path, limit: int | None, table: pa.Table) -> None:
    """Refuse a nested answer name that no row has, if a similar name exists; it is a slip."""
    if len(way) < 2 or table["answer"].null_count < len(table):
        return
    beside: dict[str, None] = {}
    for _, values in islice(source.rows(), limit):
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


def _refuse_duplicates(
    source: Source, columns: Columns, numbers: array[int], table: pa.Table
) -> None:
    """Refuse repeated prompts, then repeated ids: if both repeat, the whole row is repeated."""
    if pair := _first_repeat(table["prompt_digest"]):
        first, second = (numbers[index] for index in pair)
        problem = (
            f"is the same question as {source.unit} {first}. Keep one of the two: it would be "
            "labelled and counted twice"
        )
        raise _error(source, second, ".".join(columns.prompt), problem)
    if pair := _first_repeat(table["id"]):
        first, second = (numbers[index] for index in pair)
        problem = (
            f"{table['id'][pair[1]].as_py()!r} is also the id of {source.unit} {first}. Give each "
            "its own, or map id to nothing (--map id=) to have ids made from the prompts"
        )
        raise _error(source, second, _id_column(columns), problem)


def _first_repeat(values: pa.ChunkedArray) -> tuple[int, int] | None:
    """Return indices (earlier, later) of the first repeated value; None if all values differ."""
    import polars as pl

    # The later index is the first value that is not a first occurrence.
    series = pl.Series(values=pl.from_arrow(values), name="value")
    repeats = (~series.is_first_distinct()).arg_true()
    if repeats.is_empty():
        return None
    later = int(repeats[0])
    earlier = int((series == series[later]).arg_true()[0])
    return earlier, later


def _id_column(columns: Columns) -> str:
    return " and ".join(".".join(path) for path in columns.id) or "id"


def _error(source: Source, number: int, column: str, problem: object) -> DataError:
    return DataError(f"{source.name}: {source.unit} {number}: column {column!r}: {problem}")


def iter_messages(table: pa.Table) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """Yield (id, messages) of every question; one batch is read at a time."""
    for batch in table.select(["id", "prompt"]).to_batches(max_chunksize=BATCH_ROWS):
        yield from zip(batch["id"].to_pylist(), batch["prompt"].to_pylist(), strict=True)
