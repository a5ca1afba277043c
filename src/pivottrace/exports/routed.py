"""The routed questions of a round, as the formats read them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from pivottrace.labels.budget import true_answers
from pivottrace.labels.waiting import by_value
from pivottrace.routing.routes import ROUTES, Route
from pivottrace.run.directory import RunDir
from pivottrace.schemas import QUESTIONS, TRIAGE

# Reasons in `Written.left_out`.
UNLABELLED = "annotate rows without a label"
NO_VOTE = "weak rows without a vote"

_OF_THE_POOL = ("id", "prompt", "source")
_OF_TRIAGE = ("reason", "rank", "score", "priority", "weight", "pseudo_label", "vote_share")
ROUTE_ROWS = pa.schema(
    [QUESTIONS.field(name) for name in _OF_THE_POOL] + [TRIAGE.field(name) for name in _OF_TRIAGE]
)
TRAINABLE_ROWS = pa.schema([*ROUTE_ROWS, ("route", pa.string()), ("answer", pa.string())])


def route_rows(run: RunDir, routes: Sequence[str] = ROUTES) -> Iterator[tuple[str, pa.Table]]:
    """Each of some routes with its questions, the most valuable label first.

    Prompts come from the pool, without the system prompt and suffix of the settings. No column
    holds a true answer.

    Yields:
        The route, and a table of schema `ROUTE_ROWS`.

    Raises:
        RunDirError: The pool or the triage is missing or torn.
    """
    triage = run.read_table("triage", made_by="triage")
    pool = run.read_table("pool", made_by="run", columns=_OF_THE_POOL)
    for route in routes:
        rows = by_value(triage.filter(pc.field("route") == route))
        asked = pool.take(pc.index_in(rows["question_id"], value_set=pool["id"]))
        columns = asked.columns + [rows[name] for name in _OF_TRIAGE]
        yield route, pa.table(columns, schema=ROUTE_ROWS)


def trainable_rows(run: RunDir) -> tuple[pa.Table, dict[str, int]]:
    """Rows that can be trained on: annotate rows, then weak rows, each with its judging answer.

    An annotate row has its bought label, a weak row its stored vote and never a label. Labels come
    from the label store alone, so no answer that was not paid for leaves the run.

    Returns:
        A table of schema `TRAINABLE_ROWS`, and the number of rows left out by reason: rows without
        a label or vote so far.

    Raises:
        RunDirError: The pool or the triage is missing or torn, or the labels cannot be read.
        DataError: The file of the labels is no label store.
    """
    labels = true_answers(run)
    tables, left_out = [], {}
    for route, rows in route_rows(run, (Route.ANNOTATE, Route.WEAK)):
        answers, reason = rows["pseudo_label"], NO_VOTE
        if route == Route.ANNOTATE:
            answers = pa.array([labels.get(i) for i in rows["id"].to_pylist()], pa.string())
            reason = UNLABELLED
        columns = [*rows.columns, pa.array([route] * rows.num_rows, pa.string()), answers]
        tables.append(
            pa.table(columns, schema=TRAINABLE_ROWS).filter(pc.field("answer").is_valid())
        )
        if tables[-1].num_rows < rows.num_rows:
            left_out[reason] = rows.num_rows - tables[-1].num_rows
    return pa.concat_tables(tables), left_out
