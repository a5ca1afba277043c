"""The rule that stops sampling, against figures worked out by hand."""

import numpy as np
import pytest
from scipy.stats import beta

from pivottrace.rollouts.stopping import (
    StoppingRule,
    goes_on,
    leader_stays,
    sampling_steps,
)

FLAT = StoppingRule(strength=0.0)


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
def test_without_a_trace_the_prior_is_flat(counts, chance):
    (found,) = leader_stays([counts], [0], [0.3], FLAT)
    assert found == pytest.approx(chance, abs=0.005)


def test_a_sure_trace_speaks_for_its_own_answer_and_an_unsure_one_against_it():
    rule, agree, other = StoppingRule(), [0], [1]
    assert leader_stays([[3, 1]], agree, [0.0], rule) == pytest.approx(0.938, abs=0.001)
    assert leader_stays([[4, 0]], agree, [1.0], rule) == pytest.approx(1 - beta.cdf(0.5, 5, 3))
    assert leader_stays([[4, 0]], other, [0.0], rule) == pytest.approx(1 - beta.cdf(0.5, 5, 3))
    assert leader_stays([[4, 0]], [-1], [1.0], rule) == pytest.approx(1 - beta.cdf(0.5, 7, 1))


def test_what_goes_on():
    counts = [[4, 0], [4, 0], [4, 0], [2, 1], [0, 0], [4, 0]]
    greedy, rank = [0, 0, 1, 0, -1, 0], [0.1, 0.95, 0.1, 0.1, 0.1, np.nan]
    found = goes_on(counts, greedy, rank, np.full(6, 4), StoppingRule())
    # Sure and agreed; agreed but unsure; sure of another; split; no answer; a failed trace.
    assert found.tolist() == [False, True, True, True, True, True]
    assert goes_on([[0, 0]], [-1], [0.5], [0], StoppingRule(certainty=0.1)).tolist() == [True]
    assert goes_on(np.empty((0, 2)), [], [], [], StoppingRule()).tolist() == []
