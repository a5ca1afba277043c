"""How questions move between routes from one round to the next, and what each move means.

Ours throughout: the paper's fragments say nothing of rounds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from pivottrace.errors import DataError
from pivottrace.routing.routes import ROUTES, Route

# Reasons of a discard; every other one says that nothing is left to learn.
HOPELESS = ("hopeless", "probe_hopeless", "labelled_hopeless")


class Move(StrEnum):
    """What became of a question; by this order the moves are listed."""

    FORGOTTEN = "forgotten"  # dropped with nothing left to learn, and worth training on again
    IN_REACH = "in_reach"  # dropped as hopeless, and the model has begun to get it right
    PROMOTED = "promoted"  # trained on its vote, and given a true answer now
    VOTE_LOST = "vote_lost"  # trained on its vote, which no longer holds; no label was left
    TAKEN_UP = "taken_up"  # put off, and trained on now
    LEARNED = "learned"  # trained on or put off, and nothing is left to learn
    GIVEN_UP = "given_up"  # trained on or put off, and almost never right now
    OUT_OF_USE = "out_of_use"  # trained on or dropped, and put off now for another reason
    STAYED = "stayed"


@dataclass(frozen=True)
class Flow:
    """Questions that went from one route and reason to another between two rounds.

    Attributes:
        from_route: Where they were.
        from_reason: Why.
        to_route: Where they are now.
        to_reason: Why.
        move: What that means.
        count: How many, at least 1.
    """

    from_route: str
    from_reason: str
    to_route: str
    to_reason: str
    move: str
    count: int


def meaning(from_route: str, from_reason: str, to_route: str, to_reason: str) -> Move:
    """What a move means.

    Args:
        from_route: One of `ROUTES`.
        from_reason: Its reason then.
        to_route: One of `ROUTES`.
        to_reason: Its reason now.
    """
    if from_route == to_route:
        return Move.STAYED
    if to_route == Route.DISCARD:
        return Move.GIVEN_UP if to_reason in HOPELESS else Move.LEARNED
    if to_reason.startswith("failed_"):  # nothing is known of it now
        return Move.OUT_OF_USE
    if from_route == Route.DISCARD:  # a deferred one is back in the queue too
        return Move.IN_REACH if from_reason in HOPELESS else Move.FORGOTTEN
    if from_route == Route.DEFER:
        return Move.TAKEN_UP
    if to_route == Route.ANNOTATE:
        return Move.PROMOTED
    return Move.VOTE_LOST if from_route == Route.WEAK else Move.OUT_OF_USE


def route_flows(counts: Mapping[tuple[str, str, str, str], int]) -> list[Flow]:
    """Name the moves between two rounds.

    Args:
        counts: Questions by (route then, reason then, route now, reason now).

    Returns:
        One `Flow` for each that has any, in the order of `Move`, then of `ROUTES`, then most first.

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
    """How many questions made each move, those that nobody made left out; in the order of `Move`.

    The counts add up to the questions.
    """
    counts: Counter[str] = Counter()
    for flow in flows:
        counts[flow.move] += flow.count
    return {move.value: counts[move.value] for move in Move if counts[move.value]}


def route_matrix(flows: Iterable[Flow]) -> list[list[int]]:
    """(4, 4) questions by route before (rows) and after (columns), in the order of `ROUTES`."""
    matrix = [[0] * len(ROUTES) for _ in ROUTES]
    for flow in flows:
        matrix[ROUTES.index(flow.from_route)][ROUTES.index(flow.to_route)] += flow.count
    return matrix
