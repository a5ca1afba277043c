"""The few questions of each route that tell most about it. The report and the viewer show them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum

import pyarrow as pa
import pyarrow.compute as pc

from pivottrace.routing.routes import ROUTES, Route

# The number that decides about a route's questions, and the end at which its clear cases are.
DECIDED_BY = {
    Route.ANNOTATE: ("priority", "descending"),
    Route.WEAK: ("vote_gain", "descending"),
    Route.DISCARD: ("label_gain", "ascending"),
    Route.DEFER: ("label_gain", "descending"),
}


class Why(StrEnum):
    """The reason why a question was chosen to be shown."""

    CLEAREST = "the clearest case"
    TYPICAL = "a typical case"
    CLOSEST = "the closest call"
    OTHER = "another reason"


@dataclass(frozen=True)
class Telling:
    """A question that is shown for its route."""

    question_id: str
    route: str
    why: Why


def telling(triage: pa.Table) -> list[Telling]:
    """Choose three or four questions of each route, in the order of the routes.

    They are the first, the middle and the last question by the number that decides about the route
    (`DECIDED_BY`), or by rank where nothing was calibrated. So a route shows its closest call
    beside its clearest case. The fourth question has the most frequent reason that the three lack.

    Args:
        triage: Rows of the table `triage`.
    """
    return [each for route in ROUTES for each in _of_route(triage, route)]


def _of_route(triage: pa.Table, route: str) -> list[Telling]:
    number, order = DECIDED_BY[Route(route)]
    columns = ["question_id", "reason", "rank", number]
    rows = triage.filter(pc.field("route") == route).select(columns)
    by_rank = "ascending" if route == Route.DISCARD else "descending"
    # Rows without a number come last, which is the order that pyarrow gives to nulls.
    rows = rows.sort_by([(number, order), ("rank", by_rank), ("question_id", "ascending")])
    decided = len(rows) - rows[number].null_count or len(rows)
    if not decided:
        return []
    whys = {0: Why.CLEAREST, decided // 2: Why.TYPICAL, decided - 1: Why.CLOSEST}
    whys[0] = Why.CLEAREST  # a single question is no close call
    reasons = rows["reason"].to_pylist()
    shown = {reasons[place] for place in whys}
    others = Counter(reason for reason in reasons if reason not in shown)
    if others:
        whys[reasons.index(others.most_common(1)[0][0])] = Why.OTHER
    ids = rows["question_id"]
    return [Telling(ids[place].as_py(), route, why) for place, why in sorted(whys.items())]
