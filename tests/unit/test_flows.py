"""Moves between routes from one round to the next, worked by hand."""

import pytest

from pivottrace.errors import DataError
from pivottrace.report.flows_figure import flows_figure
from pivottrace.report.wording import MOVE_MEANING, REASON_MEANING
from pivottrace.routing.flows import Move, count_moves, meaning, route_flows, route_matrix
from pivottrace.routing.routes import REASONS, ROUTES

# (route then, reason then, route now, reason now): what it means.
MOVES = {
    ("discard", "mastered", "annotate", "annotate_gain"): "forgotten",
    ("discard", "probe_mastered", "annotate", "annotate_probe"): "forgotten",
    ("discard", "nothing_to_learn", "weak", "weak_vote_reliable"): "forgotten",
    ("discard", "mastered", "defer", "defer_budget"): "forgotten",
    ("discard", "hopeless", "annotate", "annotate_gain"): "in_reach",
    ("discard", "labelled_hopeless", "annotate", "annotate_labelled"): "in_reach",
    ("weak", "weak_vote_reliable", "annotate", "annotate_gain"): "promoted",
    ("weak", "weak_vote_reliable", "defer", "defer_vote_unreliable"): "vote_lost",
    ("weak", "weak_vote", "defer", "defer_no_place"): "out_of_use",
    ("weak", "weak_vote_reliable", "defer", "failed_truncated"): "out_of_use",
    ("annotate", "annotate_gain", "defer", "failed_no_answer"): "out_of_use",
    ("discard", "hopeless", "defer", "failed_truncated"): "out_of_use",
    ("discard", "mastered", "defer", "failed_no_answer"): "out_of_use",
    ("defer", "defer_budget", "annotate", "annotate_gain"): "taken_up",
    ("defer", "defer_budget", "weak", "weak_vote_reliable"): "taken_up",
    ("annotate", "annotate_gain", "discard", "labelled_mastered"): "learned",
    ("weak", "weak_vote_reliable", "discard", "mastered"): "learned",
    ("weak", "weak_vote_reliable", "discard", "hopeless"): "given_up",
    ("annotate", "annotate_probe", "annotate", "annotate_probe"): "stayed",
    ("discard", "mastered", "discard", "hopeless"): "stayed",
}


@pytest.mark.parametrize(("key", "move"), MOVES.items(), ids=lambda x: str(x))
def test_what_a_move_means(key, move):
    assert meaning(*key) == move


def test_flows_are_counted_named_and_ordered():
    counts = {
        ("annotate", "annotate_gain", "annotate", "annotate_labelled"): 5,
        ("weak", "weak_vote_reliable", "annotate", "annotate_gain"): 2,
        ("discard", "mastered", "weak", "weak_vote_reliable"): 1,
        ("discard", "mastered", "annotate", "annotate_gain"): 3,
        ("defer", "defer_budget", "defer", "defer_budget"): 0,
        ("discard", "nothing_to_learn", "annotate", "annotate_gain"): 4,
    }
    flows = route_flows(counts)
    assert [(f.move, f.from_reason, f.to_route, f.count) for f in flows] == [
        ("forgotten", "mastered", "weak", 1),
        ("forgotten", "nothing_to_learn", "annotate", 4),
        ("forgotten", "mastered", "annotate", 3),
        ("promoted", "weak_vote_reliable", "annotate", 2),
        ("stayed", "annotate_gain", "annotate", 5),
    ]
    assert list(count_moves(flows).items()) == [("forgotten", 8), ("promoted", 2), ("stayed", 5)]
    # Rows: where they were; columns: where they are. Order: discard, weak, annotate, defer.
    assert route_matrix(flows) == [[0, 1, 7, 0], [0, 0, 2, 0], [0, 0, 5, 0], [0, 0, 0, 0]]


def test_an_unknown_route_is_refused():
    with pytest.raises(DataError, match="'maybe' is no route"):
        route_flows({("maybe", "", "weak", ""): 1})


def test_every_move_and_reason_has_its_words():
    assert set(MOVE_MEANING) == {move.value for move in Move}
    assert set(REASON_MEANING) >= set(REASONS)


def test_the_picture_has_a_column_a_round_and_a_band_a_move():
    matrix = [[10, 0, 2, 0], [0, 5, 1, 0], [3, 0, 9, 0], [0, 0, 0, 30]]
    svg = flows_figure([matrix, matrix])
    assert svg.count("<text") == svg.count("</text")
    assert all(f">round {index}<" in svg for index in range(3))
    assert f">round {3}<" not in svg
    # The first column's sizes, and the last one's: 12, 6, 12, 30 and 13, 5, 12, 30.
    assert all(f">{size}<" in svg for size in (12, 6, 30, 13, 5))
    assert all(f"var(--{route})" in svg for route in ROUTES)
    assert svg == flows_figure([matrix, matrix])
