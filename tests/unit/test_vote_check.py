"""Predicted against observed: the figures of the check, and the figure that the report draws."""

import numpy as np
import pytest
from scipy import stats

from pivottrace.config import parse_config
from pivottrace.errors import ConfigError
from pivottrace.report.votes_figure import LEAST_PER_BIN, MOST_BINS, bins_of, votes_figure
from pivottrace.routing.vote_check import check_votes, log_loss, weighted_mean
from pivottrace.stages.preconditions import refuse_unprovable_floor


def rows_of(seed: int, number: int, honest: bool = True) -> list[dict]:
    """Probes whose chances are known; if honest, right votes come by these chances."""
    rng = np.random.default_rng(seed)
    chances = rng.uniform(0.05, 0.95, number)
    return [
        {
            "chance": float(rng.uniform(0.02, 1.0)),
            "predicted": float(p),
            "predicted_by_votes": 0.5,
            "vote_abstained": False,
            "vote_right": bool(rng.random() < (p if honest else 1 - p)),
        }
        for p in chances
    ]


def drawn_rows(rng, chances, drawn, right) -> list[dict]:
    """Probes of a pool whose questions are each drawn with their own chance."""
    return [
        {
            "chance": float(drawn[i]),
            "predicted": float(chances[i]),
            "predicted_by_votes": 0.5,
            "vote_abstained": False,
            "vote_right": bool(right[i]),
        }
        for i in np.flatnonzero(rng.random(len(drawn)) < drawn)
    ]


def test_the_check_is_a_weighted_mean_over_probes() -> None:
    rows = rows_of(0, 3)
    for row, chance, predicted, right in zip(
        rows, (1.0, 0.5, 0.25), (0.9, 0.6, 0.2), (True, False, False), strict=True
    ):
        row.update(chance=chance, predicted=predicted, vote_right=right)
    found = check_votes(rows, [0.9, 0.6, 0.2, 0.9, 0.4])  # weights 1, 2, 4
    assert found["num"] == 3
    assert found["predicted"] == pytest.approx(0.6)
    assert found["observed"]["mean"] == pytest.approx(0.6 + (0.1 - 2 * 0.6 - 4 * 0.2) / 5)
    by_hand = -(np.log(0.9) + 2 * np.log(0.4) + 4 * np.log(0.8)) / 7
    assert found["log_loss"] == pytest.approx(by_hand)
    assert found["log_loss_by_votes"] == pytest.approx(np.log(2))
    adds = found["trace_adds"]
    assert adds["mean"] == pytest.approx(np.log(2) - by_hand)
    assert adds["low"] < adds["mean"] < adds["high"]


def test_the_observed_share_is_that_of_the_whole_pool() -> None:
    """Over many draws its mean is the true share, and its interval mostly holds it."""
    rng = np.random.default_rng(7)
    chances = rng.uniform(0.1, 0.95, 300)
    right, drawn = rng.random(300) < chances, rng.uniform(0.05, 0.5, 300)
    found = []
    for _ in range(300):
        rows = drawn_rows(rng, chances, drawn, right)
        found.append(check_votes(rows, chances)["observed"])
    assert np.mean([f["mean"] for f in found]) == pytest.approx(right.mean(), abs=0.01)
    assert np.mean([f["low"] <= right.mean() <= f["high"] for f in found]) > 0.8


def test_the_interval_allows_for_misses_that_probes_rarely_meet() -> None:
    """Nine votes in ten look safe and are rarely drawn, as the draw by value leaves them."""
    rng = np.random.default_rng(8)
    safe = np.arange(400) < 360
    chances, drawn = np.where(safe, 0.97, 0.5), np.where(safe, 0.01, 0.5)
    held = []
    for _ in range(300):
        right = rng.random(400) < chances
        rows = drawn_rows(rng, chances, drawn, right)
        found = check_votes(rows, chances)["observed"]
        held.append(found["low"] <= right.mean() <= found["high"])
    assert np.mean(held) > 0.85


def test_equal_predictions_add_nothing() -> None:
    rows = [row | {"predicted_by_votes": row["predicted"]} for row in rows_of(1, 20)]
    assert check_votes(rows, [0.5])["trace_adds"] == {"mean": 0, "low": 0, "high": 0}


def test_probes_without_a_vote_a_prediction_or_a_chance_have_no_say() -> None:
    rows = rows_of(2, 9)
    rows[0]["chance"] = None  # of an adaptive draw
    rows[1]["predicted"] = None
    rows[2]["vote_abstained"] = True
    assert check_votes(rows, [0.5]) == check_votes(rows[3:], [0.5])
    assert check_votes(rows, [0.5])["num"] == 6
    assert check_votes(rows[:3], [0.5]) is None and check_votes([], [0.5]) is None


def test_a_trace_that_knows_more_adds_and_one_that_errs_takes_away() -> None:
    assert check_votes(rows_of(3, 400), [0.5])["trace_adds"]["low"] > 0
    assert check_votes(rows_of(3, 400, honest=False), [0.5])["trace_adds"]["high"] < 0


def test_a_weighted_mean_has_the_plain_interval_under_equal_weights() -> None:
    values = np.random.default_rng(0).random(50)
    mean, half = weighted_mean(values, np.full(50, 3.0))
    assert mean == pytest.approx(values.mean())
    assert half == pytest.approx(stats.norm.ppf(0.95) * values.std(ddof=1) / 50**0.5)
    assert weighted_mean(values[:1], np.ones(1)) == (values[0], 0.0)


def test_a_certain_miss_costs_much_but_not_without_end() -> None:
    loss = log_loss(np.array([0.0, 1.0, 1.0]), np.array([1.0, 0.0, 1.0]))
    assert np.isfinite(loss).all() and loss[:2] == pytest.approx(6 * np.log(10), rel=1e-6)
    assert loss[2] == pytest.approx(0, abs=1e-5)


def test_bins_are_groups_by_rising_chance() -> None:
    rng = np.random.default_rng(5)
    chance, weights = rng.random(40), rng.uniform(1, 5, 40)
    right = (rng.random(40) < chance).astype(float)
    bins = bins_of(chance, right, weights)
    assert len(bins) == min(40 // LEAST_PER_BIN, MOST_BINS)
    assert [b[0] for b in bins] == sorted(b[0] for b in bins)
    for _, observed, low, high in bins:
        assert 0 <= low <= observed <= high <= 1
    order = np.argsort(chance)[:7]
    assert bins[0][0] == pytest.approx(np.average(chance[order], weights=weights[order]))
    assert bins[0][1] == pytest.approx(np.average(right[order], weights=weights[order]))
    # Equal weights: the exact interval of as many probes. Unequal ones are worth fewer.
    (_, _, low, high) = bins_of(chance[:6], right[:6], np.ones(6))[0]
    exact = stats.binomtest(int(right[:6].sum()), 6).proportion_ci(0.9, method="exact")
    assert (low, high) == pytest.approx((exact.low, exact.high))
    (_, _, wider, _) = bins_of(chance[:6], np.ones(6), np.array([9.0, 1, 1, 1, 1, 1]))[0]
    assert wider < bins_of(chance[:6], np.ones(6), np.ones(6))[0][2]


def test_the_figure_needs_enough_probes() -> None:
    rows = rows_of(4, 30)
    figure = votes_figure(rows)
    assert figure is not None and "<svg" in figure and figure == votes_figure(rows)
    assert "share of right votes" in figure
    assert votes_figure(rows[: LEAST_PER_BIN - 1]) is None
    assert votes_figure([row | {"chance": None} for row in rows]) is None


def test_a_floor_needs_evenly_drawn_probes() -> None:
    def settings(**sections):
        return parse_config(sections, "test")

    floor = {"vote_floor": 0.6}
    with pytest.raises(ConfigError, match=r'0\.6 is proved on .* calibrate.draw = "systematic"'):
        refuse_unprovable_floor(settings(triage=floor))
    for draw in ("systematic", "strata", "adaptive"):
        refuse_unprovable_floor(settings(triage=floor, calibrate={"draw": draw}))
    refuse_unprovable_floor(settings())
    refuse_unprovable_floor(settings(triage=floor | {"mode": "fixed"}))
