"""The rule that stops sampling, against a slow reference and figures worked out by hand."""

import answer_pools
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta

from pivottrace.rollouts.stopping import StoppingRule, goes_on, leader_stays, sampling_steps

RULE = StoppingRule()


def each(*priors: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    return tuple(np.array(priors, dtype=float).reshape(-1, 2).T)


@pytest.mark.parametrize(
    ("most", "steps"),
    [
        (16, (4, 8, 16)),
        (32, (8, 16, 32)),
        (12, (6, 12)),
        (10, (5, 10)),
        (8, (4, 8)),
        (7, (4, 7)),
        (6, (6,)),
        (4, (4,)),
        (2, (2,)),
    ],
)
def test_steps_are_a_quarter_a_half_and_all(most, steps):
    assert sampling_steps(most) == steps


@pytest.mark.parametrize(
    ("counts", "chance"),
    [((4, 0), 0.969), ((3, 1), 0.81), ((7, 1), 0.980), ((6, 2), 0.91), ((12, 4), 0.975)],
)
def test_under_a_flat_prior_a_leader_is_as_sure_as_adaptive_consistency_says(counts, chance):
    (found,) = leader_stays([counts], [True], each((1.0, 1.0)), RULE)
    assert found == pytest.approx(chance, abs=0.005)


def test_a_sure_trace_speaks_for_its_own_answer_only():
    sure, unsure = (3.0, 0.6), (1.0, 2.0)

    def stays(counts, leads, prior):
        return leader_stays([counts], [leads], each(prior), RULE)[0]

    assert stays((3, 1), True, sure) == pytest.approx(1 - beta.cdf(0.5, 6, 1.6))
    assert stays((3, 1), True, sure) > stays((3, 1), True, unsure)
    # If another answer leads, the trace has no say; and no prior counts for less than a half.
    assert stays((3, 1), False, sure) == stays((3, 1), False, unsure)
    assert stays((3, 1), True, (0.1, 0.1)) == stays((3, 1), False, unsure)


def slow_goes_on(sizes, greedy, prior, samples, is_first, rule) -> bool:
    """The rule for one question, in plain numbers. `sizes` are those of the sampled classes."""
    a, b = prior
    top = sizes[0] if sizes else 0
    second = sizes[1] if len(sizes) > 1 else 0
    if samples and greedy == 0 and top == samples:
        a += samples
        return a * b / ((a + b) * (a + b + 1)) * samples > rule.spread
    if samples == 0 or is_first:
        return True
    own, others = (a, b) if greedy == 0 else (0.0, 0.0)
    own, others = max(own, rule.least_prior), max(others, rule.least_prior)
    leads = 1 - beta.cdf(0.5, top + own, second + others)
    return leads < rule.certainty and 2 * top > samples


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**31), st.integers(0, 30), st.booleans())
def test_the_rule_equals_a_slow_reference(seed: int, size: int, is_first: bool) -> None:
    rng = np.random.default_rng(seed)
    lists = answer_pools.some_lists(rng, size)
    priors = each(*(rng.exponential(2.0, (size, 2)) + 1e-3))
    rule = StoppingRule(spread=rng.choice([0.1, 0.34, 1.0]), certainty=rng.choice([0.8, 0.95]))
    counts = np.array([[*sizes, 0, 0][:2] for sizes in lists[0]]).reshape(-1, 2)
    found = goes_on(counts, lists[1], priors, lists[2], is_first, rule)
    assert found.tolist() == [
        slow_goes_on(sizes, greedy, (priors[0][i], priors[1][i]), samples, is_first, rule)
        for i, (sizes, greedy, samples) in enumerate(zip(*lists, strict=True))
    ]


def test_a_more_certain_trace_stops_earlier():
    """Along rising certainty, at most one change: from going on to stopping."""
    share = np.linspace(0.02, 0.98, 49)
    priors = each(*zip(3 * share, 3 * (1 - share), strict=True))
    stops_anywhere = False
    for counts, samples in (((4, 0), 4), ((8, 0), 8), ((7, 1), 8), ((5, 3), 8), ((16, 0), 16)):
        found = goes_on(
            np.tile(counts, (49, 1)), np.zeros(49, int), priors, np.full(49, samples), False, RULE
        )
        assert (np.diff(found.astype(int)) <= 0).all()
        stops_anywhere |= found[0] > found[-1]
    assert stops_anywhere


def test_a_unanimous_question_stops_earlier_than_a_split_one():
    prior = each(*[(2.6, 0.4)] * 2)
    found = goes_on([[4, 0], [3, 1]], [0, 0], prior, [4, 4], True, RULE)
    assert found.tolist() == [False, True]
    # All agree with each other, but not with the greedy answer: that is a split.
    assert goes_on([[4, 0]], [1], each((2.6, 0.4)), [4], True, RULE).tolist() == [True]


def test_without_an_answer_of_most_samples_a_label_is_worth_more_than_samples():
    prior = each(*[(1.0, 1.0)] * 2)
    assert goes_on([[4, 3], [5, 3]], [0, 0], prior, [8, 8], False, RULE).tolist() == [False, True]
    assert goes_on([[0, 0]], [-1], each((1.0, 1.0)), [0], False, RULE).tolist() == [True]
    assert goes_on(np.empty((0, 2)), [], each(), [], True, RULE).tolist() == []
