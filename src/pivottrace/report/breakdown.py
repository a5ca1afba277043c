"""Routes and held-out accuracy by a column of the questions, such as their task or level."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from pivottrace.run.directory import RunDir
from pivottrace.run.storage import read_parquet
from pivottrace.stats.accuracy import Interval, QuestionCounts, count_by_question, paired_difference

COLUMNS = ("task", "family", "subject", "level", "difficulty")
"""Columns of a source that sort questions into kinds."""
MOST_VALUES = 40
"""A column with more values is no kind of question."""


@dataclass(frozen=True)
class Group:
    """The questions with one value of a column.

    Attributes:
        value: The value in words; "" for questions without one.
        num_questions: Questions in the pool.
        routes: Route → questions of the pool; empty before triage.
        num_held_out: Held-out questions.
        before: Held-out accuracy before training, in [0, 1]; None if it is not known.
        after: Likewise after training.
        difference: Mean of after - before with its interval; None if it is not known.
    """

    value: str
    num_questions: int
    routes: Mapping[str, int] = field(default_factory=dict)
    num_held_out: int = 0
    before: float | None = None
    after: float | None = None
    difference: Interval | None = None


def breakdown(run: RunDir) -> dict[str, list[Group]]:
    """The groups of each column that has two values or more, the largest group first.

    A column that splits the questions as an earlier one does is left out.
    """
    pool, held_out = _columns(run, "pool"), _columns(run, "evaluation")
    pool = pool.join(_routes(run), on="id", how="left", maintain_order="left")
    verdicts = [_verdicts(run, f"evaluation_{when}") for when in ("before", "after")]
    both = pl.concat([pool.select(COLUMNS), held_out.select(COLUMNS)])
    return {column: _groups(column, pool, held_out, verdicts) for column in _kinds(both)}


def kind_of_each(run: RunDir) -> tuple[str, dict[str, str]] | None:
    """The first column that sorts the pool's questions into kinds, and each question's value.

    Returns:
        The column, and question id → value ("" without one); None if all are of one kind.
    """
    pool = _columns(run, "pool")
    columns = _kinds(pool)
    if not columns:
        return None
    return columns[0], dict(pool.select("id", pl.col(columns[0]).fill_null("")).iter_rows())


def _kinds(questions: pl.DataFrame) -> list[str]:
    """The columns that sort the questions, each in a way of its own."""
    found: list[str] = []
    for column in COLUMNS:
        number = questions[column].n_unique()
        same = any(
            questions[other].n_unique() == number == questions.select(other, column).n_unique()
            for other in found
        )
        if 2 <= number <= MOST_VALUES and not same:
            found.append(column)
    return found


def _columns(run: RunDir, name: str) -> pl.DataFrame:
    """The columns of each question of a table as text; null where a question has none."""
    schema = {"id": pl.String, "extra": pl.String}
    path = run.table_path(name)
    rows = read_parquet(path, ["id", "extra"]).to_pydict() if path.is_file() else {}
    # A value within the JSON is found without parsing ten million objects in Python.
    texts = [pl.col("extra").str.json_path_match(f"$.{column}").alias(column) for column in COLUMNS]
    return pl.DataFrame(rows, schema).select("id", *texts)


def _routes(run: RunDir) -> pl.DataFrame:
    path = run.table_path("triage")
    names = {"question_id": pl.String, "route": pl.String}
    rows = read_parquet(path, list(names)).to_pydict() if path.is_file() else {}
    return pl.DataFrame(rows, names).rename({"question_id": "id"})


def _verdicts(run: RunDir, name: str) -> dict[str, list[bool]]:
    """The verdicts on each held-out question's samples; empty before the evaluation."""
    found: dict[str, list[bool]] = defaultdict(list)
    if run.table_path(name).is_file():
        samples = read_parquet(run.table_path(name), ["question_id", "correct"])
        for question_id, right in zip(*(c.to_pylist() for c in samples.columns), strict=True):
            found[question_id].append(right)
    return found


def _groups(
    column: str,
    pool: pl.DataFrame,
    held_out: pl.DataFrame,
    verdicts: Sequence[Mapping[str, list[bool]]],
) -> list[Group]:
    sizes = dict(pool[column].value_counts().iter_rows())
    routes: dict[str | None, dict[str, int]] = defaultdict(dict)
    counted = pool.drop_nulls("route").group_by(column, "route").len()
    for value, route, number in counted.iter_rows():
        routes[value][route] = number
    ids = {value: frame["id"].to_list() for (value,), frame in held_out.group_by(column)}
    groups = [
        Group(
            in_words(value),
            sizes.get(value, 0),
            routes[value],
            len(ids.get(value, ())),
            *_accuracy([_count(found, ids.get(value, ())) for found in verdicts]),
        )
        for value in sizes | ids
    ]
    return sorted(groups, key=lambda group: (-group.num_questions, group.value))


def _count(verdicts: Mapping[str, list[bool]], ids: Sequence[str]) -> QuestionCounts | None:
    samples = [(i, right) for i in ids for right in verdicts.get(i, ())]
    if not samples:
        return None
    return count_by_question([i for i, _ in samples], [right for _, right in samples])


def _accuracy(
    counts: Sequence[QuestionCounts | None],
) -> tuple[float | None, float | None, Interval | None]:
    """Accuracy before and after training, and the change."""
    before, after = counts
    change = None
    if before is not None and after is not None:
        change = paired_difference(before, after)
    accuracy = [None if each is None else float(each.means.mean()) for each in counts]
    return accuracy[0], accuracy[1], change


def in_words(text: str | None) -> str:
    """A value as it is read: `{"terms": [2, 6]}` is "terms 2 to 6"."""
    if text is None:
        return ""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return _spoken(value) if isinstance(value, (dict, list)) else text


def _spoken(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_spoken(each)}" for key, each in value.items())
    if isinstance(value, list):
        is_range = len(value) == 2 and all(isinstance(each, (int, float)) for each in value)
        return (" to " if is_range else ", ").join(map(_spoken, value))
    return str(value)
