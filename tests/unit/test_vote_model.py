"""The chances of answers, against loops over the formula and a general optimiser."""

import math

import answer_pools
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from pivottrace.routing import vote_model as vm
from pivottrace.routing.answer_counts import answer_counts

seeds = st.integers(0, 2**31)


def pool_of(seed: int, size: int, num_features: int):
    """(rng, model, counts, features)"""
    rng = np.random.default_rng(seed)
    model = answer_pools.some_model(rng, num_features)
    counts = answer_pools.some_counts(rng, size)
    return rng, model, counts, answer_pools.some_features(rng, size, num_features)


def plain_loss(values, counts, features, right) -> float:
    """Negative log likelihood of the labels, and the priors' penalty."""
    mean, sd = vm.prior(features.shape[1])
    loss = sum(((v - m) / s) ** 2 / 2 for v, m, s in zip(values, mean, sd, strict=True))
    for i, place in enumerate(right):
        one, steps = answer_pools.one_of(counts, i), answer_pools.steps_of(counts)
        chances = answer_pools.slow_chances(values, *one, features[i], steps)
        loss -= math.log(chances[-1] if place == vm.NONE else chances[place])
    return loss


def hessian(function, at, step=1e-3) -> np.ndarray:
    units = np.eye(len(at)) * step
    return np.array(
        [
            [
                (
                    function(at + u + v)
                    - function(at + u - v)
                    - function(at - u + v)
                    + function(at - u - v)
                )
                / (4 * step**2)
                for v in units
            ]
            for u in units
        ]
    )


@pytest.mark.parametrize(("size", "num_features"), [(1, 1), (25, 0), (40, 3)])
def test_the_fit_is_the_optimum_of_the_plain_formula(size, num_features) -> None:
    rng, _, counts, features = pool_of(size, size, num_features)
    right = answer_pools.some_right(rng, counts)
    names = tuple(f"f{i}" for i in range(num_features))
    fitted = vm.fit_votes(names, counts, features, right)
    assert (fitted.names, fitted.num_labels) == (names, size)

    def loss(values):
        return plain_loss(values, counts, features, right)

    found = minimize(loss, vm.prior(num_features)[0], method="BFGS").x
    np.testing.assert_allclose(fitted.values, found, atol=2e-3)
    assert loss(fitted.values) <= loss(found) + 1e-6
    np.testing.assert_allclose(
        np.linalg.inv(fitted.covariance), hessian(loss, fitted.values), rtol=1e-3, atol=1e-3
    )
    assert (np.linalg.eigvalsh(fitted.covariance) > 0).all()


@pytest.mark.parametrize("num_features", [0, 1, 4])
def test_without_a_label_the_priors_stand(num_features) -> None:
    names = tuple(f"f{i}" for i in range(num_features))
    nothing = np.empty((0, num_features))
    fitted = vm.fit_votes(names, answer_counts([], [], []), nothing, np.empty(0, int))
    mean, sd = vm.prior(num_features)
    assert fitted.values.tolist() == mean.tolist()
    assert fitted.weights.tolist() == mean[4:].tolist()
    np.testing.assert_allclose(fitted.covariance, np.diag(sd**2))


@settings(max_examples=60, deadline=None)
@given(seeds, st.integers(1, 20), st.integers(0, 3))
def test_chances_equal_a_loop_over_the_classes(seed: int, size: int, num_features: int) -> None:
    rng, model, counts, features = pool_of(seed, size, num_features)
    chances = vm.answer_chances(model, counts, features)
    values = rng.normal(size=counts.sizes.shape)
    of_none = float(rng.normal())
    found = chances.expect(np.where(counts.is_class, values, np.nan), of_none)
    for i in range(size):
        *classes, none = answer_pools.slow_chances(
            model.values,
            *answer_pools.one_of(counts, i),
            features[i],
            answer_pools.steps_of(counts),
        )
        own = values[counts.pattern[i]]
        by_hand = sum(c * own[k] for k, c in enumerate(classes)) + none * of_none
        assert found[i] == pytest.approx(by_hand, abs=1e-9)
        assert chances.vote[i] == pytest.approx(classes[0] if classes else 0.0)
    # All chances of a question add up to 1.
    np.testing.assert_allclose(chances.expect(np.ones(counts.sizes.shape), 1.0), 1.0)


def test_agreement_makes_a_vote_surer_and_a_doubtful_trace_less_sure() -> None:
    model = vm.fit_votes(("f",), answer_counts([], [], []), np.empty((0, 1)), np.empty(0, int))
    counts = answer_counts([[2, 2], [3, 1], [4]], [0] * 3, [4] * 3)
    vote = answer_pools.vote_chance(model, counts, np.zeros((3, 1)))
    assert (np.diff(vote) > 0).all()
    doubtful = answer_pools.vote_chance(model, counts, np.ones((3, 1)))
    assert (doubtful < vote).all()
    # More samples of all questions make a unanimous vote surer.
    more = answer_pools.vote_chance(model, answer_counts([[16]], [0], [16]), np.zeros((1, 1)))
    assert more[0] > vote[-1]
    # The trace speaks for its own answer: beside it, another answer gains by a trace's doubt.
    other = answer_counts([[3, 1]], [1], [4])
    values = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])  # of the vote, of the greedy answer
    sure, unsure = (
        vm.answer_chances(model, other, np.array([[x]]), None).expect(values[:1])
        / vm.answer_chances(model, other, np.array([[x]]), None).expect(values[1:])
        for x in (-1.0, 1.0)
    )
    assert unsure > sure


def test_sampling_that_stopped_early_is_no_doubt_and_late_is() -> None:
    """On stepwise pools votes were right in 98 % after 4 samples, and in 51 % after 16."""
    model = vm.fit_votes((), answer_counts([], [], []), np.empty((0, 0)), np.empty(0, int))
    counts = answer_counts([[4], [8], [16]], [0] * 3, [4, 8, 16])
    vote = answer_pools.vote_chance(model, counts, np.zeros((3, 0)))
    assert (np.diff(vote) < 0).all()
    # Labels say how much: late votes are wrong here in half of the cases, early ones never.
    rng = np.random.default_rng(0)
    numbers = np.repeat([4, 16], 100)
    many = answer_counts([[n] for n in numbers], [0] * 200, numbers)
    right = np.where((numbers == 16) & (rng.random(200) < 0.5), vm.NONE, 0)
    learnt = vm.fit_votes((), many, np.zeros((200, 0)), right)
    chances = answer_pools.vote_chance(learnt, counts, np.zeros((3, 0)))
    assert chances[0] > 0.97 and chances[2] == pytest.approx(0.5, abs=0.1)


def test_a_failed_question_with_one_sample_does_not_make_sampling_stepwise() -> None:
    model = vm.fit_votes((), answer_counts([], [], []), np.empty((0, 0)), np.empty(0, int))
    sound = answer_counts([[12, 4]], [0], [16])
    beside = answer_counts([[12, 4], []], [0, -1], [16, 1])
    alone = answer_pools.vote_chance(model, sound, np.zeros((1, 0)))
    assert answer_pools.vote_chance(model, beside, np.zeros((2, 0)))[0] == alone[0]


@settings(max_examples=40, deadline=None)
@given(seeds, st.integers(1, 12), st.integers(0, 2))
def test_the_interval_is_the_delta_method_on_the_log_odds(seed, size, num_features) -> None:
    _, model, counts, features = pool_of(seed, size, num_features)
    chances = vm.answer_chances(model, counts, features)
    low, high = vm.vote_interval(model, chances, features)
    for i in range(size):
        one = answer_pools.one_of(counts, i)
        if not one[0]:
            continue  # no answer, so there is no vote

        def odds(values, one=one, x=features[i]) -> float:
            vote = answer_pools.slow_chances(values, *one, x, answer_pools.steps_of(counts))[0]
            return math.log(vote / (1 - vote))

        units = np.eye(model.values.size) * 1e-5
        slope = [(odds(model.values + u) - odds(model.values - u)) / 2e-5 for u in units]
        half = 1.6448536 * math.sqrt(np.array(slope) @ model.covariance @ np.array(slope))
        centre = odds(model.values)
        assert low[i] == pytest.approx(1 / (1 + math.exp(half - centre)), abs=1e-5)
        assert high[i] == pytest.approx(1 / (1 + math.exp(-half - centre)), abs=1e-5)
        assert low[i] <= chances.vote[i] <= high[i]


def test_labels_find_the_model_and_narrow_the_interval() -> None:
    rng = np.random.default_rng(4)
    counts = answer_pools.some_counts(rng, 3000, most=(8, 16))
    features = answer_pools.some_features(rng, 3000, 2)
    truth = vm.VoteModel(("a", "b"), np.array([1.1, 0.6, 1.8, 0.7, 0.8, 0.5]), np.eye(6), 0)
    right = answer_pools.right_by(rng, truth, counts, features)
    widths, errors = [], []
    for number in (20, 200, 3000):
        rows = np.arange(number)
        model = vm.fit_votes(truth.names, counts.rows(rows), features[rows], right[rows])
        low, high = vm.vote_interval(model, vm.answer_chances(model, counts, features), features)
        widths.append(np.mean(high - low))
        errors.append(np.abs(model.values - truth.values).max())
    assert widths[0] > 1.5 * widths[1] > 2 * widths[2]
    assert errors[2] < 0.25
    sure = (model.values - truth.values) / np.sqrt(np.diag(model.covariance))
    assert (np.abs(sure) < 3.5).all()


def test_values_are_drawn_from_the_posterior() -> None:
    _, model, counts, features = pool_of(3, 5, 2)
    values = vm.drawn(model, 4000, seed=1)
    assert values.shape == (4000, 6)
    spread = np.sqrt(np.diag(model.covariance))
    assert (np.abs(values.mean(axis=0) - model.values) < 5 * spread / 4000**0.5).all()
    np.testing.assert_allclose(np.cov(values.T), model.covariance, atol=0.02)
    assert (values == vm.drawn(model, 4000, seed=1)).all()
    # Drawn values take the model's place.
    other = vm.VoteModel(model.names, values[0], model.covariance, 0)
    np.testing.assert_array_equal(
        answer_pools.vote_chance(model, counts, features, values[0]),
        answer_pools.vote_chance(other, counts, features),
    )


def test_out_of_fold_never_sees_its_fold() -> None:
    rng, _, counts, features = pool_of(8, 24, 2)
    right = answer_pools.some_right(rng, counts)

    def predicted(outcome, seed=5):
        return vm.out_of_fold(("f0", "f1"), counts, features, outcome, seed)

    before = predicted(right)
    assert ((before >= 0) & (before <= 1)).all()
    answered = np.flatnonzero(counts.is_class[counts.pattern, 0])
    for i in answered[::4].tolist():
        changed = right.copy()
        changed[i] = 0 if right[i] == vm.NONE else vm.NONE
        after = predicted(changed)
        assert after[i] == before[i]
        # A fold of 24 in 8 is three questions; all others were fitted on the changed label.
        assert (after != before).sum() >= 24 - 3 - sum(before == 0)
    assert (predicted(right, seed=6) != before).any()


def test_out_of_fold_with_fewer_questions_than_folds() -> None:
    rng, _, counts, features = pool_of(9, 3, 1)
    right = answer_pools.some_right(rng, counts)
    found = vm.out_of_fold(("f0",), counts, features, right, seed=0)
    for i in range(3):
        others = np.array([j for j in range(3) if j != i])
        model = vm.fit_votes(("f0",), counts.rows(others), features[others], right[others])
        own = answer_pools.vote_chance(model, counts.rows(np.array([i])), features[[i]])
        assert found[i] == own[0]
    alone = vm.out_of_fold(("f0",), counts.rows(slice(0, 1)), features[:1], right[:1], 0)
    prior = vm.fit_votes(("f0",), counts.rows(slice(0, 0)), features[:0], right[:0])
    assert alone[0] == answer_pools.vote_chance(prior, counts.rows(slice(0, 1)), features[:1])[0]


def test_the_facts_name_each_value() -> None:
    _, model, _, _ = pool_of(1, 1, 2)
    facts = vm.facts(model)
    assert facts["num_labels"] == 9
    names = ["gamma", "delta", "kappa", "rho", "f0", "f1"]
    assert list(facts["values"]) == list(facts["sd"]) == names
    assert facts["values"]["kappa"] == round(model.values[2], 4)
