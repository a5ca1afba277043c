"""The routed questions of a round, as the formats read them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from pivottrace.labels.waiting import by_value
from pivottrace.routing.routes import ROUTES
from pivottrace.run.directory import RunDir
from pivottrace.schemas import QUESTIONS, TRIAGE

_OF_THE_POOL = ("id", "prompt", "source")
_OF_TRIAGE = ("reason", "rank", "score", "priority", "weight", "pseudo_label", "vote_share")
ROUTE_ROWS = pa.schema(
    [QUESTIONS.field(name) for name in _OF_THE_POOL] + [TRIAGE.field(name) for name in _OF_TRIAGE]
)


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
