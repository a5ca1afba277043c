"""What labels and votes are expected to teach, against a loop over which answer is right."""

import answer_pools
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pivottrace.routing import expectations as ex
from pivottrace.routing.answer_counts import answer_counts
from pivottrace.routing.vote_model import NONE, AnswerChances, answer_chances

SIZES = st.integers(1, 25)
seeds = st.integers(0, 2**31)


def prior_of(rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    return tuple(rng.exponential(rng.choice([0.01, 1.0, 9.0]), (2, size)) + 1e-4)


@settings(max_examples=80, deadline=None)
@given(seeds, SIZES, st.integers(0, 2))
def test_gains_equal_a_loop_over_the_right_answer(seed: int, size: int, num_features: int) -> None:
    rng = np.random.default_rng(seed)
    model = answer_pools.some_model(rng, num_features)
    counts = answer_pools.some_counts(rng, size)
    features = answer_pools.some_features(rng, size, num_features)
    prior = prior_of(rng, size)
    mu, label, vote, weight = ex.expect(answer_chances(model, counts, features), prior)
    for i in range(size):
        a, b = prior[0][i], prior[1][i]
        one, steps = answer_pools.one_of(counts, i), answer_pools.steps_of(counts)
        by_hand = answer_pools.slow_expect(model.values, one, features[i], a, b, steps)
        assert (mu[i], label[i], vote[i]) == pytest.approx(by_hand[:3], abs=2e-9)
        assert weight[i] == pytest.approx(by_hand[3], abs=1e-6)
    rounding = 10.0**-ex.GAIN_DECIMALS
    assert ((mu >= 0) & (mu <= 1)).all()
    assert ((label >= 0) & (label <= 0.25)).all()
    assert ((vote >= -0.25) & (vote <= label + rounding)).all()
    assert ((weight >= 0) & (weight <= 1)).all()
    assert (weight[vote > 0] > 0).all() and (weight[vote < 0] == 0).all()


@settings(max_examples=60, deadline=None)
@given(seeds, SIZES)
def test_a_known_answer_teaches_what_it_is_expected_to_if_it_is_right(seed: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    counts = answer_pools.some_counts(rng, size)
    prior, right = prior_of(rng, size), answer_pools.some_right(rng, counts)
    gains = ex.gain_of_label(counts, prior, right)
    for i in range(size):
        one = answer_pools.one_of(counts, i)
        alphas, unseen, total = answer_pools.slow_alphas(*one, prior[0][i], prior[1][i])
        alpha = unseen if right[i] == NONE else alphas[right[i]]
        by_hand = alpha * (total - alpha) / (total * (total + 1))
        assert gains[i] == pytest.approx(by_hand, abs=2e-9)


@settings(max_examples=60, deadline=None)
@given(seeds, SIZES)
def test_a_vote_that_is_right_for_sure_teaches_what_a_label_does(seed: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    counts = answer_pools.some_counts(rng, size, most=(4, 8))
    first = np.zeros_like(counts.sizes)
    first[:, 0] = 1.0
    one = np.ones(size)
    sure = AnswerChances(counts, first, 0.0, one, one)
    # With x = 0, the factors of the trace are 1, and the vote has all of the chance.
    _, label, vote, _ = ex.expect(sure, prior_of(rng, size))
    wins = counts.has_winner[counts.pattern]
    np.testing.assert_array_equal(vote[wins], label[wins])
    assert (vote[~wins] == 0).all()


def test_a_vote_that_is_wrong_for_sure_does_harm() -> None:
    counts = answer_counts([[3, 1]], [0], [4])
    second = np.array([[0.0, 1.0, 0.0]])
    wrong = AnswerChances(counts, second, 0.0, np.ones(1), np.ones(1))
    prior = (np.array([2.0]), np.array([1.0]))
    mu, label, vote, _ = ex.expect(wrong, prior)
    # Dirichlet counts: 3 + 2 for the vote, 1 + 1/2 for the right answer, 1/2 for an unseen one.
    assert mu[0] == pytest.approx(1.5 / 7)
    assert label[0] == pytest.approx(1.5 * 5.5 / 56)
    assert vote[0] == pytest.approx(-5 * 1.5 / 56)


@settings(max_examples=40, deadline=None)
@given(seeds)
def test_a_unanimous_question_teaches_less_the_more_samples_it_has(seed: int) -> None:
    # The trace has no doubt beyond the model's prior: x = 0.
    rng = np.random.default_rng(seed)
    numbers = [4, 8, 16, 32, 64]
    counts = answer_counts([[n] for n in numbers], [0] * 5, numbers)
    model = answer_pools.some_model(rng, 0)
    model.values[0] = abs(model.values[0])  # more samples do not make a class less probable
    a, b = rng.exponential(2.0, 2) + 1e-3
    prior = (np.full(5, a), np.full(5, min(a, b)))
    _, label, vote, _ = ex.expect(answer_chances(model, counts, np.empty((5, 0))), prior)
    assert (np.diff(label) <= 0).all()
    assert (vote <= label + 1e-9).all()
