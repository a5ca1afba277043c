"""The tracker of training rows: what its choices have in common, whatever the rewards."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit

from pivottrace.training.row_tracker import (
    FLOOR,
    PRIOR_SIZE,
    after_step,
    beliefs_before_training,
    choose_rows,
    expected_spread,
    mean_spread,
    rows_effective,
)

GROUP = 8


def train(rates, prior, *, steps, count, cap=2.0, decay=0.8, seed=0):
    """Made-up training on rows whose true pass rates stay as they are."""
    world, beliefs, chosen = np.random.default_rng(99), beliefs_before_training(prior), []
    for step in range(steps):
        rows = choose_rows(beliefs, count, GROUP, cap, np.random.default_rng([seed, step]))
        rewarded = world.binomial(GROUP, np.asarray(rates)[rows])
        beliefs = after_step(beliefs, rows, rewarded, [GROUP] * count, decay)
        chosen.append(rows)
    return beliefs, chosen


def means(beliefs):
    a, b = beliefs.parameters()
    return a / (a + b)


@settings(max_examples=60, deadline=None)
@given(
    rates=st.lists(st.floats(0, 1), min_size=1, max_size=12),
    count=st.integers(1, 7),
    cap=st.sampled_from([1.0, 1.5, 2.0, 5.0]),
    decay=st.sampled_from([0.0, 0.5, 1.0]),
)
def test_no_row_starves_and_none_runs_ahead(rates, count, cap, decay):
    beliefs, visits = beliefs_before_training(rates), np.zeros(len(rates), dtype=int)
    for step in range(12):
        rows = choose_rows(beliefs, count, GROUP, cap, np.random.default_rng(step))
        assert len(set(rows)) == min(count, len(rates)), "twice in a step only if all are in it"
        for row in rows:
            visits[row] += 1
            assert visits.max() <= cap * visits.min() + 1
        beliefs = after_step(beliefs, rows, [0.0] * count, [GROUP] * count, decay)
        assert np.all(np.isfinite(beliefs.parameters())) and np.min(beliefs.parameters()) > 0
        assert np.array_equal(beliefs.visits, visits)


def test_rows_near_one_half_come_more_often():
    rates = [0.0] * 20 + [0.5] * 20 + [1.0] * 20
    # Nothing is known beforehand, so it is the groups that tell.
    beliefs, chosen = train(rates, [np.nan] * 60, steps=150, count=6, cap=8.0)
    first, middle, last = beliefs.visits.reshape(3, 20).mean(axis=1)
    assert middle > 1.8 * max(first, last)
    assert beliefs.visits.min() >= 1
    assert sorted(np.ravel(chosen[:10])) == list(range(60)), "all rows once before any comes twice"


def test_the_prior_orders_the_first_pass():
    prior = [0.02] * 30 + [0.5] * 10
    beliefs = beliefs_before_training(prior)
    firsts = [
        row
        for seed in range(200)
        for row in choose_rows(beliefs, 1, GROUP, 2.0, np.random.default_rng(seed))
    ]
    share = np.mean(np.array(firsts) >= 30)  # a quarter if rows came in any order
    spread = expected_spread(beliefs, GROUP)
    weights = spread + FLOOR * spread.mean()
    assert share == pytest.approx(weights[30:].sum() / weights.sum(), abs=0.1) and share > 0.5


def test_the_floor_keeps_a_row_of_no_use_coming():
    """Among rows that teach, a row at 0 comes with a tenth of the mean row's weight or more."""
    beliefs = after_step(
        beliefs_before_training([0.5] * 10), range(10), [0] + [4 * GROUP] * 9, [8 * GROUP] * 10, 1.0
    )
    firsts = [
        choose_rows(beliefs, 1, GROUP, 1e9, np.random.default_rng(seed)) for seed in range(3000)
    ]
    times = firsts.count([0])
    least = FLOOR / (1 + FLOOR) / 10
    assert times / 3000 > 0.8 * least
    assert times / 3000 < 0.05, "and no more than a few times as often"


def test_evidence_decays_to_the_prior_by_the_pass():
    start = beliefs_before_training([0.3, 0.7, 0.7, 0.7])
    seen = after_step(start, [0], [GROUP], [GROUP], 0.5)
    later = seen
    for _ in range(4):  # a pass over four rows, with groups that say nothing
        later = after_step(later, [1], [0], [0], 0.5)
    assert later.evidence[0] == pytest.approx(seen.evidence[0] / 2)
    assert later.visits.tolist() == [1, 4, 0, 0] and later.drift == seen.drift
    for _ in range(200):
        later = after_step(later, [1], [0], [0], 0.5)
    assert means(later)[0] == pytest.approx(expit(logit(0.3) + seen.drift))
    assert sum(later.parameters())[0] == pytest.approx(PRIOR_SIZE)
    kept = after_step(seen, [1] * 400, [0] * 400, [0] * 400, 1.0)
    assert np.array_equal(kept.evidence, seen.evidence), "1 never forgets"


@pytest.mark.parametrize("rewarded", [0, GROUP])
def test_rows_that_were_not_seen_move_with_those_that_were(rewarded):
    start = beliefs_before_training([0.4, 0.5, 0.3])
    start = after_step(start, [2], [2], [GROUP], 0.5)
    then = after_step(start, [0], [rewarded], [GROUP], 0.5)
    moved = (means(then) - means(start))[1:]
    assert np.all(moved > 0) if rewarded else np.all(moved < 0)
    assert abs(then.drift - start.drift) <= 1.0


def test_the_drift_finds_a_shared_change():
    """All rows become easier by two logits. Expectations follow, for unseen rows too."""
    world = np.random.default_rng(5)
    logits = world.normal(-1.0, 1.0, 400)
    beliefs = beliefs_before_training(expit(logits))
    for step in range(40):
        now = logits + 2.0 * step / 39
        rows = choose_rows(beliefs, 8, GROUP, 2.0, np.random.default_rng(step))
        rewarded = world.binomial(GROUP, expit(now[rows]))
        beliefs = after_step(beliefs, rows, rewarded, [GROUP] * 8, 0.5)
    unseen = beliefs.visits == 0
    assert unseen.sum() > 50
    assert beliefs.drift == pytest.approx(2.0, abs=0.6)
    assert np.mean(means(beliefs)[unseen] - expit(now[unseen])) == pytest.approx(0.0, abs=0.08)


def test_the_drift_ends_where_every_row_is_mastered():
    beliefs = beliefs_before_training(np.full(60, 0.7))
    for step in range(400):
        rows = (np.arange(16) + 16 * step) % 60
        beliefs = after_step(beliefs, rows, np.full(16, 8), np.full(16, 8), 0.8)
    assert 0 < beliefs.drift < 5


def test_groups_that_say_nothing_count_as_visits_only():
    start = beliefs_before_training([0.2, 0.9])
    then = after_step(start, [0, 1], [0, 0], [0, 0], 0.5)
    assert then.visits.tolist() == [1, 1]
    assert np.array_equal(then.parameters(), start.parameters())


def test_the_effective_number_of_rows():
    equal = beliefs_before_training([0.3] * 50)
    assert rows_effective(equal, GROUP) == pytest.approx(50)
    uneven, _ = train([0.0] * 25 + [0.5] * 25, [np.nan] * 50, steps=60, count=5)
    assert 25 < rows_effective(uneven, GROUP) < 45


def test_it_finds_more_groups_that_teach_than_a_shuffle_does():
    world = np.random.default_rng(1)
    rates = expit(world.normal(2.0, 2.5, 300))  # many are mastered
    noisy = expit(logit(np.clip(rates, 1e-6, 1 - 1e-6)) + world.normal(0, 1, 300))

    def teaching(cap):
        _, chosen = train(rates, noisy, steps=150, count=8, cap=cap)
        rows = np.ravel(chosen)
        return np.mean(1 - rates[rows] ** GROUP - (1 - rates[rows]) ** GROUP)

    by_turns, twice, free = teaching(1.0), teaching(2.0), teaching(1e9)
    assert by_turns + 0.02 < twice < free - 0.04


def test_the_mean_spread_is_that_of_sampled_groups():
    rates = np.array([0.0, 0.03, 0.5, 0.9, 1.0])
    k = np.random.default_rng(0).binomial(GROUP, rates, (200_000, 5))
    sampled = np.sqrt(k * (GROUP - k)).mean(axis=0) / GROUP
    assert mean_spread(rates, GROUP) == pytest.approx(sampled, abs=2e-3)
    beliefs = after_step(beliefs_before_training([0.3]), [0], [3], [GROUP], 1.0)
    a, b = beliefs.parameters()
    draws = np.random.default_rng(0).beta(a, b, 100_000)
    assert expected_spread(beliefs, GROUP) == pytest.approx(
        mean_spread(draws, GROUP).mean(), abs=2e-3
    )


def test_the_same_seed_gives_the_same_rows():
    prior = np.linspace(0.1, 0.9, 20)
    one = train(prior, prior, steps=10, count=3, seed=4)
    two = train(prior, prior, steps=10, count=3, seed=4)
    other = train(prior, prior, steps=10, count=3, seed=5)
    assert one[1] == two[1] != other[1]
    assert one[0].drift == two[0].drift
    assert choose_rows(one[0], 3, GROUP, 2.0, np.random.default_rng(0)) == choose_rows(
        two[0], 3, GROUP, 2.0, np.random.default_rng(0)
    )
