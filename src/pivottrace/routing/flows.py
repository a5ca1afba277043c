"""Moves of questions between routes from one round to the next, and the meaning of each move.

All of it is ours; the paper's fragments say nothing about rounds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from pivottrace.errors import DataError
from pivottrace.routing.routes import ROUTES, Reason, Route

# These reasons for a discard mean hopeless; every other one means that nothing is left to learn.
HOPELESS = ("hopeless", "probe_hopeless", "labelled_hopeless")


class Move(StrEnum):
    """The meaning of a change of route. Lists of moves follow this order."""

    FORGOTTEN = "forgotten"  # was dropped with nothing left to learn, is worth training on again
    IN_REACH = "in_reach"  # was dropped as hopeless, and the model has begun to get it right
    PROMOTED = "promoted"  # was trained on its vote, has a true answer now
    VOTE_LOST = "vote_lost"  # was trained on its vote, which no longer holds; no label was left
    TAKEN_UP = "taken_up"  # was put off, is trained on now
    LEARNED = "learned"  # was trained on or put off, has nothing left to learn
    GIVEN_UP = "given_up"  # was trained on or put off, is almost never right now
    OUT_OF_USE = "out_of_use"  # was trained on or dropped, is put off now for another reason
    STAYED = "stayed"


@dataclass(frozen=True)
class Flow:
    """Questions that went from one route and reason to another between two rounds.

    Attributes:
        from_route: Their route before.
        from_reason: The reason for it.
        to_route: Their route now.
        to_reason: The reason for it.
        move: The meaning of the change, a value of `Move`.
        count: Number of questions, at least 1.
    """

    from_route: str
    from_reason: str
    to_route: str
    to_reason: str
    move: str
    count: int


def meaning(from_route: str, from_reason: str, to_route: str, to_reason: str) -> Move:
    """Return the meaning of a change of route.

    Args:
        from_route: The route before, one of `ROUTES`.
        from_reason: The reason for it.
        to_route: The route now, one of `ROUTES`.
        to_reason: The reason for it.
    """
    if from_route == to_route:
        return Move.STAYED
    if to_route == Route.DISCARD:
        return Move.GIVEN_UP if to_reason in HOPELESS else Move.LEARNED
    if to_reason.startswith("failed_"):  # nothing is known about it now
        return Move.OUT_OF_USE
    if from_route == Route.DISCARD:  # a question deferred now is back in the queue too
        return Move.IN_REACH if from_reason in HOPELESS else Move.FORGOTTEN
    if from_route == Route.DEFER:
        return Move.TAKEN_UP
    if to_route == Route.ANNOTATE:
        return Move.PROMOTED
    lost = from_route == Route.WEAK and to_reason != Reason.DEFER_NO_PLACE
    return Move.VOTE_LOST if lost else Move.OUT_OF_USE


def route_flows(counts: Mapping[tuple[str, str, str, str], int]) -> list[Flow]:
    """Name the moves between two rounds.

    Args:
        counts: Questions by (route then, reason then, route now, reason now).

    Returns:
        One `Flow` for each key with a count above 0, in the order of `Move`, then of `ROUTES`, then
        by falling count.

    Raises:
        DataError: A route is unknown.
    """
    unknown = {route for key in counts for route in (key[0], key[2])} - set(ROUTES)
    if unknown:
        raise DataError(f"{sorted(unknown)[0]!r} is no route; routes are {', '.join(ROUTES)}")
    flows = [Flow(*key, meaning(*key).value, count) for key, count in counts.items() if count]
    moves = [move.value for move in Move]
    return sorted(
        flows,
        key=lambda f: (
            moves.index(f.move),
            ROUTES.index(f.from_route),
            ROUTES.index(f.to_route),
            -f.count,
            f.from_reason,
            f.to_reason,
        ),
    )


def count_moves(flows: Iterable[Flow]) -> dict[str, int]:
    """Return how many questions made each move, in the order of `Move`, without moves of count 0.

    The counts add up to the number of questions.
    """
    counts: Counter[str] = Counter()
    for flow in flows:
        counts[flow.move] += flow.count
    return {move.value: counts[move.value] for move in Move if counts[move.value]}


def route_matrix(flows: Iterable[Flow]) -> list[list[int]]:
    """Return (4, 4) counts by route before (rows) and after (columns), in the order of `ROUTES`."""
    matrix = [[0] * len(ROUTES) for _ in ROUTES]
    for flow in flows:
        matrix[ROUTES.index(flow.from_route)][ROUTES.index(flow.to_route)] += flow.count
    return matrix
