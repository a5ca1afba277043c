import json
import math

import numpy as np
import pytest
from refine_groups import annotate, through_json, weak

from pivottrace.errors import ConfigError, DataError
from pivottrace.refine.geomin import MIN_POINTS, GeoMin, unit_rows
from pivottrace.stats.mixture import TwoNormals, fit_two_normals

RIGHT, WRONG = [1.0, 0.0], [0.0, 1.0]


def rule(decay=0.9, warm_up=1, memory=64):
    return GeoMin(decay=decay, warm_up=warm_up, memory=memory)


def labelled(right=RIGHT, wrong=WRONG):
    """One right and one wrong completion, so that affinity is the first coordinate less the second
    of a direction where neither argument is given."""
    return annotate("l", ["4", "5"], label="4", hidden=[right, wrong])


def supported(question_id, *directions):
    """A weak group whose supporters, all of it, have these directions."""
    return weak(question_id, ["4"] * len(directions), hidden=list(directions))


def two_kinds(each=MIN_POINTS // 2):
    """Weak questions whose completions all point right, and all wrong."""
    return [supported("good", *[RIGHT] * each), supported("bad", *[WRONG] * each)]


# The mixture ----------------------------------------------------------------------------------


def test_two_clear_groups_are_found_exactly():
    fit = fit_two_normals([-1.0] * 6 + [1.0] * 2)
    assert (fit.low, fit.high, fit.high_share) == pytest.approx((-1.0, 1.0, 0.25))
    # The points' variance is 1 - 0.5^2 = 0.75; the floor is a millionth of it.
    assert fit.variance == pytest.approx(0.75e-6)
    assert fit.upper_posterior(np.array([-1.0, 1.0])) == pytest.approx([0.0, 1.0])


def test_the_posterior_is_worked_by_hand_and_rises():
    fit = TwoNormals(low=0.0, high=2.0, high_share=0.25, variance=1.0)
    # At the middle the densities are equal: the shares decide. At 2: ln odds = 2 * 1 + ln(1/3).
    assert fit.upper_posterior(np.array([1.0])) == pytest.approx([0.25])
    assert fit.upper_posterior(np.array([2.0])) == pytest.approx([1 / (1 + 3 * math.exp(-2))])
    rising = fit.upper_posterior(np.linspace(-9, 9, 50))
    assert (np.diff(rising) >= 0).all()


def test_symmetric_points_give_a_symmetric_fit():
    values = np.array([-1.5, -1.0, -0.5, 0.5, 1.0, 1.5])
    fit = fit_two_normals(values)
    assert fit.low == pytest.approx(-fit.high)
    assert fit.high_share == pytest.approx(0.5)
    assert fit.upper_posterior(np.array([0.0])) == pytest.approx([0.5])
    # A stationary point: total variance = within + between, which here is high^2.
    assert fit.variance + fit.high**2 == pytest.approx(values.var(), rel=1e-6)


@pytest.mark.parametrize("values", [[], [0.3], [0.3, 0.3], [0.1] * 40, [1e9, 1e9 + 1e-6]])
def test_too_few_or_equal_points_have_no_mixture(values):
    assert fit_two_normals(values) is None


def test_lopsided_points_stay_finite():
    fit = fit_two_normals([0.0] * 999 + [1e-3])
    assert np.isfinite([fit.low, fit.high, fit.high_share, fit.variance]).all()
    far = fit.upper_posterior(np.array([-1e6, 1e6]))
    assert far == pytest.approx([0.0, 1.0])


# The rule -------------------------------------------------------------------------------------


def test_votes_weigh_by_where_their_supporters_lie():
    geomin = rule()
    geomin.observe(0, [labelled(), *two_kinds()])
    assert geomin.weight("good", "weak") == pytest.approx(1.0)
    assert geomin.weight("bad", "weak") == pytest.approx(0.0)
    assert geomin.weight("l", "annotate") == 1.0
    assert geomin.weight("unseen", "weak") == 0.0
    assert geomin.label("l", "4") == "4"


def test_a_weight_is_the_mean_posterior_of_the_supporters_alone():
    geomin = rule()
    # Three of four support the vote, two of them like right ones; the fourth is not asked.
    mixed = weak("mixed", ["4", "4", "4", "9"], hidden=[RIGHT, RIGHT, WRONG, WRONG])
    geomin.observe(0, [labelled(), *two_kinds(), mixed])
    assert geomin.weight("mixed", "weak") == pytest.approx(2 / 3)


def test_a_question_that_a_step_has_twice_is_judged_by_both_groups():
    geomin = rule()
    tied = weak("twice", ["4", "5"], hidden=[RIGHT, RIGHT])  # supports nothing
    half = supported("twice", RIGHT, WRONG)
    for groups in ([half, tied], [tied, half]):
        geomin.observe(0, [labelled(), *two_kinds(), *groups])
        assert geomin.weight("twice", "weak") == pytest.approx(0.5)
    assert len(geomin.state_dict()["affinities"]) == 2 * (MIN_POINTS + 2)


def test_affinity_is_the_difference_of_two_cosines():
    geomin = rule()
    geomin.observe(0, [labelled(right=[3.0, 4.0], wrong=[-8.0, 6.0]), supported("w", [0.0, 5.0])])
    assert geomin.state_dict()["affinities"] == pytest.approx([0.8 - 0.6])


def test_directions_are_moving_averages_of_unit_rows():
    geomin = rule(decay=0.75)
    geomin.observe(0, [labelled(right=[10.0, 0.0])])
    geomin.observe(1, [labelled(right=[0.0, 0.1])])
    means = geomin.state_dict()["means"]
    assert means["right"] == pytest.approx([0.75, 0.25])
    assert means["wrong"] == pytest.approx([0.0, 1.0])


def test_a_step_without_labelled_rows_leaves_the_directions():
    geomin = rule()
    geomin.observe(0, [labelled()])
    before = geomin.state_dict()["means"]
    geomin.observe(1, two_kinds())
    assert geomin.state_dict()["means"] == before
    assert geomin.weight("good", "weak") == pytest.approx(1.0)


def test_without_labelled_rows_or_without_one_kind_of_them_no_weak_row_counts():
    geomin = rule()
    geomin.observe(0, two_kinds())
    geomin.observe(1, [annotate("l", ["4", "4"], label="4", hidden=[RIGHT, RIGHT]), *two_kinds()])
    assert geomin.weight("good", "weak") == 0.0
    assert geomin.state_dict()["affinities"] == []


def test_the_warm_up_counts_completions_of_each_kind_and_affinities():
    geomin = rule(warm_up=2)
    geomin.observe(0, [labelled(), *two_kinds()])
    assert geomin.weight("good", "weak") == 0.0
    geomin.observe(1, [labelled(), *two_kinds(each=MIN_POINTS // 2 - 1)])
    assert geomin.weight("good", "weak") == 0.0  # two affinities short of a mixture
    geomin.observe(2, two_kinds(each=1))
    assert geomin.weight("good", "weak") == pytest.approx(1.0)


def test_equal_affinities_leave_the_weight_in_the_middle():
    geomin = rule()
    geomin.observe(0, [labelled(), supported("w", *[RIGHT] * MIN_POINTS)])
    assert geomin.weight("w", "weak") == 0.5


def test_rows_that_are_not_finite_or_zero_are_left_out():
    nan, inf, zero = [math.nan, 1.0], [math.inf, 1.0], [0.0, 0.0]
    assert np.isnan(unit_rows(np.array([nan, inf, zero], dtype=np.float32))).all()
    geomin = rule()
    lost = annotate("l2", ["4", "5"], label="4", hidden=[nan, zero])
    partly = supported("partly", RIGHT, nan, zero)
    geomin.observe(0, [labelled(), lost, *two_kinds(), partly, supported("gone", nan, inf)])
    assert geomin.weight("partly", "weak") == pytest.approx(1.0)
    assert geomin.weight("gone", "weak") == 0.0
    assert geomin.state_dict()["counts"] == {"right": 1, "wrong": 1}


def test_ties_and_groups_without_answers_weigh_nothing():
    tie = weak("tie", ["4", "5"], hidden=[RIGHT, RIGHT])
    empty = weak("empty", [None, ""], hidden=[RIGHT, RIGHT])
    geomin = rule()
    geomin.observe(0, [labelled(), *two_kinds(), tie, empty])
    assert geomin.weight("tie", "weak") == geomin.weight("empty", "weak") == 0.0


def test_one_completion_is_its_own_supporter():
    geomin = rule()
    geomin.observe(0, [labelled(), *two_kinds(), supported("one", RIGHT)])
    assert geomin.weight("one", "weak") == pytest.approx(1.0)


def test_a_question_whose_route_changes_weighs_by_its_route():
    geomin = rule()
    geomin.observe(0, [labelled(), *two_kinds()])
    geomin.observe(1, [annotate("bad", ["4"], label="4", hidden=[RIGHT])])
    assert geomin.weight("bad", "annotate") == 1.0


def test_missing_hidden_directions_are_refused_at_the_first_step():
    with pytest.raises(DataError, match=r"'w': refine\.rule = geomin needs a hidden direction"):
        rule().observe(0, [weak("w", ["4"])])


def test_directions_of_another_shape_are_refused():
    geomin = rule()
    geomin.observe(0, [labelled()])
    with pytest.raises(DataError, match=r"\(1, 3\), not \(1, 2\)"):
        geomin.observe(1, [supported("w", [1.0, 0.0, 0.0])])
    with pytest.raises(DataError, match=r"\(1, 2\), not \(2, 2\)"):
        geomin.observe(1, [weak("w", ["4", "4"], hidden=[RIGHT])])


# State ----------------------------------------------------------------------------------------


def random_step(random):
    def directions(toward, count):
        return (random.normal(size=(count, 6)) * 0.4 + toward).tolist()

    toward = np.eye(6)[0]
    return [
        annotate(
            "l",
            ["4"] * 4 + ["5"] * 4,
            hidden=directions(toward, 4) + directions(-toward, 4),
            label="4",
        ),
        supported("a", *directions(toward, 8)),
        supported("b", *directions(-toward, 8)),
    ]


def test_a_resumed_rule_decides_as_an_uninterrupted_one():
    random = np.random.default_rng(0)
    whole = rule(warm_up=6)
    for step in range(3):
        whole.observe(step, random_step(random))
    resumed = through_json(whole, rule(warm_up=6))
    for step in range(3, 8):
        groups = random_step(random)
        whole.observe(step, groups)
        resumed.observe(step, groups)
        assert resumed.weight("a", "weak") == whole.weight("a", "weak")
        assert resumed.weight("b", "weak") == whole.weight("b", "weak")
        assert whole.weight("a", "weak") > 0.7 > 0.3 > whole.weight("b", "weak")
    assert resumed.state_dict() == whole.state_dict()


def test_the_state_is_bounded():
    random = np.random.default_rng(1)
    geomin = rule(memory=64)
    for step in range(40):
        geomin.observe(step, random_step(random))
    state = geomin.state_dict()
    assert len(state["affinities"]) == 64
    assert len(json.dumps(state)) < 25 * (2 * 6 + 64 + 2) + 300


def test_another_rules_state_is_refused():
    with pytest.raises(ConfigError, match="rule 'trapo', and this run uses 'geomin'"):
        rule().load_state_dict({"rule": "trapo"})
