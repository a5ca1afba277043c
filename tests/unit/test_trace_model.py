"""The model that candidate signals are judged by: its fit, its pools together, its purchase."""

import bench_scripts
import numpy as np
import pytest

trace_model = bench_scripts.load("trace_model")


def make_pool(seed: int, size: int = 60, width: int = 4):
    """A pool whose greedy answer is the leading class, and whose truth the candidates tell."""
    rng = np.random.default_rng(seed)
    counts = np.sort(rng.multinomial(16, [0.6, 0.2, 0.2], size), axis=1)[:, ::-1].astype(float)
    counts = np.pad(counts, ((0, 0), (0, width - 3)), constant_values=-1.0)
    told = rng.normal(size=size)
    greedy = np.zeros((size, width))
    greedy[:, 0] = 1
    return trace_model.Pool(
        name=f"pool-{seed}",
        counts=counts,
        greedy=greedy,
        truth=np.where(told + rng.normal(size=size) < 0.5, 0, rng.choice([1, width], size)),
        tie=counts[:, 0] == counts[:, 1],
        correctness=rng.uniform(size=size),
        num_fresh=32,
        present=rng.normal(size=(size, 3)),
        by_question={"a_told": told, "a_noise": rng.normal(size=size)},
        by_class={"g_none": np.zeros((size, width))},
    )


def test_a_fit_is_the_mode_of_the_posterior():
    model = trace_model.Model(make_pool(0), ["a_told", "g_none"])
    rows = np.arange(40)

    def log_posterior(parameters):
        chances = model.chances(parameters, rows)[rows, model.pool.truth[rows]]
        return np.log(chances).sum() - (((parameters - model.mean) / model.width) ** 2).sum() / 2

    best = model.fit(rows)
    for step in np.eye(best.size) * 1e-3:
        assert log_posterior(best) > max(log_posterior(best + step), log_posterior(best - step))


def test_a_candidate_that_tells_the_truth_gains_and_noise_does_not():
    pool = make_pool(1, size=300)
    present, told, noise = (
        np.array(trace_model.log_losses(trace_model.Model(pool, added)))
        for added in ([], ["a_told"], ["a_noise"])
    )
    assert (told < present - 0.05).all()
    assert (noise > present - 0.01).all()


def test_pools_together_have_the_chances_of_each():
    pools = [make_pool(2, width=4), make_pool(3, width=6)]
    both = trace_model.Model(trace_model.joined(pools))
    first, second = (trace_model.Model(pool) for pool in pools)
    chances = both.chances(first.mean, np.arange(both.pool.size))
    assert chances[:60, [0, 1, 2, 3, 6]] == pytest.approx(first.chances(first.mean, np.arange(60)))
    assert chances[60:] == pytest.approx(second.chances(first.mean, np.arange(60)))
    right = np.arange(120), both.pool.truth
    of_first = first.chances(first.mean, np.arange(60))[np.arange(60), pools[0].truth]
    assert chances[right][:60] == pytest.approx(of_first)


def test_the_share_of_labelled_gain_is_a_share():
    pool = make_pool(4, size=300)
    share = trace_model.labelled_gain(trace_model.Model(pool))
    assert 0 < share <= 1
