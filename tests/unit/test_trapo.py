import json
import math

import pytest
from refine_groups import annotate, graded, through_json, votes, weak

from pivottrace.errors import ConfigError, DataError
from pivottrace.refine.trapo import (
    MAX_HISTORY,
    TraPO,
    pass_rate,
    right_aligned,
    similarity_to,
    top_cut,
)
from pivottrace.rewards.groups import Group


def rule(**settings):
    return TraPO(**{"warm_up": 3, "threshold": 0.4, "top_share": 0.0, "grow": False} | settings)


def train(trapo, *passes):
    for step, groups in enumerate(passes):
        trapo.observe(step, groups)
    return trapo


def likeness(rates, references, kind):
    return similarity_to(rates, *right_aligned(references), kind)


RISING = (2, 4, 6)  # Of eight, pass by pass.
FALLING = (6, 4, 2)


# Pass rates -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("group", "rate"),
    [
        (annotate("q", ["4", "4", "5", None], label="4"), 0.5),
        (weak("q", ["4", "8/2", "5", "4"]), 0.75),
        (weak("q", ["4", "4", "5", "5"]), 0.0),  # a tie: no majority, no pass
        (weak("q", [None, "", None]), 0.0),
        (weak("q", [None, None, None, "9"]), 0.25),
        (weak("q", ["3"]), 1.0),  # one completion agrees with itself
        (annotate("q", ["3"], label="4"), 0.0),
    ],
)
def test_pass_rates_of_hand_worked_groups(group, rate):
    assert pass_rate(group) == rate


# Similarity -----------------------------------------------------------------------------------


def test_correlation_is_worked_by_hand():
    # Centred: (-.25, 0, .25) and (-.2, .1, .1); product .075, norms sqrt(.125) and sqrt(.06).
    assert likeness([0.25, 0.5, 0.75], [[0.3, 0.6, 0.6]], "correlation") == pytest.approx(
        0.075 / math.sqrt(0.125 * 0.06)
    )


def test_correlation_averages_over_references_and_constants_count_as_zero():
    rising, falling, flat = [0.1, 0.2, 0.3], [0.3, 0.2, 0.1], [0.1, 0.1, 0.1]
    assert likeness(rising, [rising, rising, falling], "correlation") == pytest.approx(1 / 3)
    assert likeness(rising, [rising, flat], "correlation") == pytest.approx(1 / 2)
    # 0.1 + 0.1 + 0.1 is not three times 0.1 in floating point: still a constant.
    assert likeness(flat, [rising, falling], "correlation") == 0.0


def test_cosine_is_with_the_mean_trajectory_and_hardly_tells_rising_from_falling():
    # (1, 2, 3)·(3, 2, 1) / 14: above the paper's 0.4, although one falls while the other rises.
    assert likeness([0.1, 0.2, 0.3], [[0.3, 0.2, 0.1]], "cosine") == pytest.approx(10 / 14)
    # The references' mean is (.2, .2, .2): 0.6 / (sqrt(.14) * sqrt(.12) / .2).
    opposed = [[0.1, 0.2, 0.3], [0.3, 0.2, 0.1]]
    assert likeness([0.1, 0.2, 0.3], opposed, "cosine") == pytest.approx(0.6 / math.sqrt(0.14 * 3))
    assert likeness([0.0, 0.0], [[0.5, 0.5]], "cosine") == 0.0
    assert likeness([0.5, 0.5], [[0.0, 0.0]], "cosine") == 0.0


def test_histories_of_unequal_length_are_compared_over_the_last_passes():
    long = [0.9, 0.5, 0.1, 0.2, 0.3]
    assert likeness([0.4, 0.5, 0.6], [long], "correlation") == pytest.approx(1.0)
    assert likeness(long, [[0.4, 0.5, 0.6]], "correlation") == pytest.approx(1.0)
    # One reference of each length: correlation 1 over three passes, -1 over two.
    assert likeness([0.4, 0.5, 0.6], [long, [0.3, 0.2]], "correlation") == pytest.approx(0.0)
    # The mean trajectory is (.9, .5, .1, .3, .5); its last two, of four: (.3, .5).
    mean = likeness([0.3, 0.5], [long, [0.4, 0.7]], "cosine")
    assert mean == pytest.approx((0.3 * 0.3 + 0.5 * 0.5) / 0.34)


def test_trajectories_are_aligned_at_their_last_pass():
    table, lengths = right_aligned([[0.1, 0.2, 0.3], [0.5]])
    assert table[0].tolist() == [0.1, 0.2, 0.3]
    assert math.isnan(table[1, 1])
    assert table[1, 2] == 0.5
    assert lengths.tolist() == [3, 1]
    assert right_aligned([])[0].shape == (0, 1)


def test_the_top_share_is_at_least_one_and_counts_whole_questions():
    values = [n / 100 for n in range(100)]
    assert top_cut(values, 0.29) == 0.71
    assert top_cut([0.2, 0.5], 0.1) == 0.5
    assert top_cut(values, 0.0) == top_cut([], 0.5) == math.inf


# Selection ------------------------------------------------------------------------------------


def test_weak_questions_count_once_they_move_as_labelled_ones_do():
    trapo = rule()
    for step, (up, down) in enumerate(zip(RISING, FALLING, strict=True)):
        assert trapo.weight("like", "weak") == 0.0  # the warm-up trains on labelled rows only
        trapo.observe(step, [graded("l", up), votes("like", up), votes("unlike", down)])
    assert trapo.weight("like", "weak") == 1.0
    assert trapo.weight("unlike", "weak") == 0.0
    assert trapo.weight("l", "annotate") == 1.0
    assert trapo.label("l", "7") == "7"


def test_the_top_share_selects_below_the_threshold_but_never_without_likeness():
    passes = [
        [graded("l", a), votes("near", b), votes("flat", 4), votes("unlike", c)]
        for a, b, c in zip((2, 4, 6), (4, 7, 5), FALLING, strict=True)
    ]
    # near, centred in eighths: (-4/3, 5/3, -1/3): correlation 1 / sqrt(14/3) / sqrt(2) = 0.327.
    assert train(rule(), *passes).weight("near", "weak") == 0.0
    generous = train(rule(top_share=1.0), *passes)
    assert generous.weight("near", "weak") == 1.0
    assert generous.weight("flat", "weak") == generous.weight("unlike", "weak") == 0.0


@pytest.mark.parametrize("similarity", ["correlation", "cosine"])
def test_without_a_labelled_row_no_weak_row_counts(similarity):
    trapo = train(
        rule(similarity=similarity, top_share=1.0),
        *[[votes("a", n), votes("b", n)] for n in RISING],
    )
    assert trapo.weight("a", "weak") == 0.0


def test_a_batch_without_a_labelled_row_is_judged_by_earlier_ones():
    trapo = train(rule(), *[[graded("l", n)] for n in RISING], *[[votes("w", n)] for n in RISING])
    assert trapo.weight("w", "weak") == 1.0


def test_an_empty_batch_and_constant_histories_select_nothing():
    trapo = train(
        rule(top_share=1.0), [], *[[graded("l", 8), votes("w", 8), weak("none", [None])]] * 4
    )
    assert trapo.weight("w", "weak") == trapo.weight("none", "weak") == 0.0


def test_one_completion_groups_never_have_a_shape():
    trapo = train(rule(), *[[graded("l", n), weak("w", ["3"])] for n in RISING])
    assert trapo.weight("w", "weak") == 0.0


def test_a_labelled_question_seen_once_takes_nothing_away():
    # The authors cut every trajectory to the shortest reference's length, here 1.
    trapo = train(rule(), *[[graded("l", n), votes("w", n)] for n in RISING])
    trapo.observe(3, [graded("new", 1), graded("l", 7), votes("w", 7)])
    assert trapo.weight("w", "weak") == 1.0


def test_a_question_whose_route_changes_starts_a_new_trajectory():
    trapo = train(rule(), *[[graded("l", n), votes("w", n)] for n in RISING])
    trapo.observe(3, [graded("w", 1), graded("l", 7)])
    assert trapo.weight("w", "annotate") == 1.0
    assert trapo.state_dict()["annotate"]["w"] == [1 / 8]
    assert trapo.state_dict()["weak"] == trapo.state_dict()["similarity"] == {}
    trapo.observe(4, [votes("w", 8)])  # and back: judged after a warm-up of its own
    assert trapo.weight("w", "weak") == 0.0
    assert list(trapo.state_dict()["annotate"]) == ["l"]


def test_selected_weak_questions_become_references_of_others_never_of_themselves():
    passes = [[graded("l", n), votes("w", n)] for n in RISING]
    passes += [[votes("late", n)] for n in RISING]
    passes.insert(3, [graded("l", 1)])  # l turns: (4, 6, 1); w stays (2, 4, 6)
    # late with l: centred (-2, 0, 2) and (1, 7, -8) / 3, product -6, norms sqrt(8), sqrt(38 / 3).
    # late with w: 1. Their mean: 0.2 with growth.
    alone, grown = train(rule(), *passes), train(rule(grow=True), *passes)
    expected = -6 / math.sqrt(8 * 38 / 3)
    assert alone.state_dict()["similarity"]["late"] == pytest.approx(expected)
    assert grown.state_dict()["similarity"]["late"] == pytest.approx((expected + 1) / 2)
    # late is below the threshold, so w has l's (2, 4, 6, 1) only. In eighths, centred:
    # (-3, -1, 1, 3) and (-5, 3, 11, -9) / 4, product -1, norms sqrt(20) and sqrt(14.75).
    grown.observe(7, [votes("w", 8)])
    assert grown.state_dict()["similarity"]["w"] == pytest.approx(-1 / math.sqrt(295))


def test_an_unknown_route_is_refused():
    with pytest.raises(DataError, match="'q': route is 'defer'"):
        rule().observe(0, [Group("q", "defer", ("1",), (0,), (1.0,))])


# State ----------------------------------------------------------------------------------------


def test_a_resumed_rule_decides_as_an_uninterrupted_one():
    passes = [
        [graded("l", (3 * n) % 9), votes("a", (5 * n) % 8 + 1), votes("b", (3 * n) % 8 + 1)]
        for n in range(12)
    ]
    settings = {"top_share": 0.5, "grow": True, "warm_up": 4}
    whole = train(rule(**settings), *passes[:7])
    resumed = through_json(whole, rule(**settings))
    assert resumed.weight("a", "weak") == whole.weight("a", "weak")
    for step, groups in enumerate(passes[7:], start=7):
        whole.observe(step, groups)
        resumed.observe(step, groups)
        assert resumed.state_dict() == whole.state_dict()
        assert resumed.weight("b", "weak") == whole.weight("b", "weak")


def test_the_state_is_bounded():
    trapo = train(rule(), *[[graded("l", n % 8), votes("w", n % 7 + 1)] for n in range(200)])
    state = trapo.state_dict()
    assert len(state["annotate"]["l"]) == len(state["weak"]["w"]) == MAX_HISTORY
    assert state["annotate"]["l"][-1] == (199 % 8) / 8
    assert len(json.dumps(state)) < 1_100


def test_another_rules_state_is_refused():
    with pytest.raises(ConfigError, match="rule 'geomin', and this run uses 'trapo'"):
        rule().load_state_dict({"rule": "geomin"})
    with pytest.raises(ConfigError, match="lacks weak, similarity"):
        rule().load_state_dict({"rule": "trapo", "annotate": {}})


def test_a_weak_rate_is_that_of_the_vote_which_rewards():
    """Three of four agree, and the stored vote that rewards is the fourth's answer."""
    group = Group("q", "weak", ("9", "9", "9", "7"), (0, 0, 0, 1), (0.0, 0.0, 0.0, 1.0))
    assert pass_rate(group) == 0.25
