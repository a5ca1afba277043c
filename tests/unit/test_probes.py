"""The ways to draw probes, and the stage that asks for them once or twice."""

import csv
import math
from fractions import Fraction

import numpy as np
import pytest
import report_run
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pivottrace.errors import ConfigError, DataError, LabelsNeeded
from pivottrace.labels import budget, importing, requests
from pivottrace.routing.adaptive_draw import draw_more, num_first_probes, probe_need
from pivottrace.routing.curves import ProbeEvidence, calibrate
from pivottrace.routing.probes import (
    LEAST_VALUE,
    draw_by_value,
    draw_probes,
    inclusion_chances,
    rank_fractions,
    rank_order,
)
from pivottrace.run.directory import RunDir
from pivottrace.stages import calibrate as stage

SIZES = st.integers(0, 300)


def some_scores(size: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 20, size).astype(float)
    scores[rng.random(size) < 0.1] = np.nan
    return scores


@settings(max_examples=100, deadline=None)
@given(SIZES, st.integers(0, 80), st.integers(0, 99))
@example(size=182, wanted=80, seed=1)
def test_strata_take_one_from_each_stretch(size: int, wanted: int, seed: int) -> None:
    scores = some_scores(size, seed)
    drawn = draw_probes(scores, wanted, seed, "strata").tolist()
    order = draw_probes(scores, size, seed).tolist()
    assert len(drawn) == len(set(drawn)) == min(wanted, len(order))
    if 0 < wanted < len(order):
        edges = [
            math.floor(Fraction(k * len(order), wanted) + Fraction(1, 2)) for k in range(wanted + 1)
        ]
        for k, index in enumerate(drawn):
            assert edges[k] <= order.index(index) < edges[k + 1]


@settings(max_examples=150, deadline=None)
@given(SIZES, st.integers(0, 80), st.integers(0, 99), st.booleans())
def test_more_probes_are_new_ones_within_the_number(
    size: int, wanted: int, seed: int, needless: bool
) -> None:
    scores = some_scores(size, seed)
    need = np.zeros(size) if needless else np.random.default_rng(seed).exponential(1, size) ** 3
    num_first = num_first_probes(wanted)
    first = draw_probes(scores, num_first, seed)
    more = draw_more(scores, first, need, wanted - num_first, seed)
    both = [*first.tolist(), *more.tolist()]
    assert len(both) == len(set(both)) == min(wanted, int((~np.isnan(scores)).sum()))
    assert not np.isnan(scores[both]).any()
    assert more.tolist() == draw_more(scores, first, need, wanted - num_first, seed).tolist()


def test_more_probes_go_where_they_are_needed() -> None:
    need = np.where(np.arange(1000) < 200, 4.0, 1.0)
    drawn = np.concatenate(
        [draw_more(np.arange(1000.0), [500], need, 40, seed) for seed in range(200)]
    )
    shares = np.bincount(drawn, minlength=1000) / 200
    assert shares[:200].sum() == pytest.approx(20, abs=0.5)  # 800 of 1,600
    assert shares[500] == 0
    np.testing.assert_allclose(shares[:200].reshape(10, 20).mean(axis=1), 0.1, atol=0.02)
    with pytest.raises(DataError, match="need must have"):
        draw_more([1.0, 2.0], [], [1.0, -1.0], 1, 0)


def test_a_step_draws_more_probes_than_a_plain() -> None:
    ranks = (np.arange(32) + 0.5) / 32
    correct = np.where(ranks < 0.6, 15, 2)
    rows = ProbeEvidence(
        ranks, correct, np.full(32, 16), correct > 8, np.zeros(32, bool), np.full(32, 0.9)
    )
    need = probe_need(calibrate(rows), [0.3, 0.6, 0.9, np.nan], (1.0, 0.0))
    assert need[1] > 0.4
    assert need[[0, 2, 3]].tolist() == [0, 0, 0]
    undecided = probe_need(calibrate(rows), [0.3, 0.6, 0.9], (0.95, 0.0))
    assert undecided[0] > 0.1


@pytest.mark.parametrize("partial", [False, True])
def test_an_adaptive_run_asks_people_twice(tmp_path, partial) -> None:
    labels = {"budget": 0.3, "source": "file", "partial": partial}
    run = report_run.make_run(
        tmp_path / "run",
        "sample",
        labels=labels,
        calibrate={"num_probes": 21, "draw": "adaptive"},
    )
    truth = dict(
        zip(*(run.read_table("pool", "run")[n].to_pylist() for n in ("id", "answer")), strict=True)
    )
    asked = []
    for name in ("probes_to_label.csv", "more_probes_to_label.csv"):
        with pytest.raises(LabelsNeeded, match="probe questions"):
            stage.run(RunDir.open(run.path))
        file = run.path / name
        assert requests.waiting_file(RunDir.open(run.path)) == file
        with file.open(encoding="utf-8-sig") as opened:
            ids = [row["id"] for row in csv.DictReader(opened)]
        asked.append(ids)
        given_ = ids[1:] if partial else ids
        file.write_text("id,answer\n" + "".join(f"{i},{truth[i]}\n" for i in given_))
        importing.store_file(run, importing.read_file(run, file))
    stage.run(RunDir.open(run.path))
    assert [len(ids) for ids in asked] == [11, 10]
    assert not set(asked[0]) & set(asked[1])
    facts = run.stage_facts("calibrate")
    assert facts["num_probes"] == (19 if partial else 21)
    assert len(budget.bought(run)) == facts["num_probes"]
    probes = run.read_table("probes", "calibrate")
    assert probes["question_id"].to_pylist() == asked[0] + asked[1]


def test_an_adaptive_run_repeats_and_keeps_the_budget(tmp_path) -> None:
    def probes(name: str) -> list[dict]:
        run = report_run.make_run(
            tmp_path / name, "calibrate", calibrate={"num_probes": 40, "draw": "adaptive"}
        )
        assert len(budget.bought(run)) == 40
        return run.read_table("probes", "calibrate").to_pylist()

    one = probes("one")
    assert one == probes("two")
    ranks = [row["rank"] for row in one]
    assert ranks[:20] == sorted(ranks[:20])
    assert ranks[20:] == sorted(ranks[20:])


def test_rank_fractions_and_draws_agree_on_what_is_scored() -> None:
    scores = np.array([np.nan, 2.0, 1.0])
    assert draw_probes(scores, 9, 0, "strata").tolist() == [2, 1]
    assert np.isnan(rank_fractions(scores)[0])


@settings(max_examples=150, deadline=None)
@given(SIZES, st.integers(0, 80), st.integers(0, 99), st.integers(0, 2))
def test_probes_by_value_are_as_many_as_wanted_with_their_chances(
    size: int, wanted: int, seed: int, kind: int
) -> None:
    scores = some_scores(size, seed)
    value = np.random.default_rng(seed).exponential(0.05, size) ** 2 * (kind > 0)
    value[: size // 2] *= kind % 2  # half of the questions teach nothing
    drawn, chance = draw_by_value(scores, value, wanted, seed)
    ranked = rank_order(scores)
    assert len(set(drawn.tolist())) == drawn.size == chance.size == min(wanted, ranked.size)
    assert not np.isnan(scores[drawn]).any()
    place = {index: p for p, index in enumerate(ranked.tolist())}
    assert [place[i] for i in drawn.tolist()] == sorted(place[i] for i in drawn.tolist())
    assert ((chance > 0) & (chance <= 1)).all()
    again, same = draw_by_value(scores, value, wanted, seed)
    assert drawn.tolist() == again.tolist() and chance.tolist() == same.tolist()
    if 0 < wanted < ranked.size:
        all_chances = inclusion_chances(value[ranked] + LEAST_VALUE, wanted)
        assert all_chances.sum() == pytest.approx(wanted)
        assert chance.tolist() == [all_chances[place[i]] for i in drawn.tolist()]
        # In proportion to the value, except for questions that are drawn for sure.
        open_ = all_chances < 1 - 1e-12
        ratio = all_chances[open_] / (value[ranked][open_] + LEAST_VALUE)
        np.testing.assert_allclose(ratio, ratio[:1].repeat(ratio.size))


def test_each_question_is_drawn_as_often_as_its_stored_chance_says() -> None:
    rng = np.random.default_rng(0)
    scores, value = rng.normal(size=60), rng.exponential(0.03, 60)
    scores[7], value[:20] = np.nan, 0.0
    value[30] = 9.0  # drawn for sure
    times, stored = np.zeros(60), np.full(60, np.nan)
    for seed in range(4000):
        drawn, chance = draw_by_value(scores, value, 9, seed)
        times[drawn] += 1
        assert np.isnan(stored[drawn]).any() or (stored[drawn] == chance).all()
        stored[drawn] = chance
    assert times[7] == 0 and times[30] == 4000 and stored[30] == 1
    assert (times[:7] > 0).all()  # even where nothing is expected to be learnt
    seen = ~np.isnan(stored)
    assert seen.sum() == 59 and stored[seen].sum() == pytest.approx(9)
    np.testing.assert_allclose(times[seen] / 4000, stored[seen], atol=0.035)


def test_probes_by_value_speak_for_the_whole_pool() -> None:
    """Counted for one over its chance, a sample has the pool's mean of anything, without bias."""
    rng = np.random.default_rng(1)
    scores, value = rng.normal(size=200), rng.exponential(0.03, 200)
    right = rng.random(200) < 1 / (1 + np.exp(scores + 10 * value))
    found = []
    for seed in range(1500):
        drawn, chance = draw_by_value(scores, value, 24, seed)
        found.append((right[drawn] / chance).sum() / 200)
    assert np.mean(found) == pytest.approx(right.mean(), abs=0.01)
    drawn = np.concatenate([draw_by_value(scores, value, 24, seed)[0] for seed in range(200)])
    assert abs(right[drawn].mean() - right.mean()) > 0.03  # without the chances there is one


def test_a_value_for_each_question_is_needed() -> None:
    with pytest.raises(DataError, match=r"value has shape \(1,\); scores have \(2,\)"):
        draw_by_value([1.0, 2.0], [1.0], 1, 0)
    with pytest.raises(ConfigError, match="num_probes is -1"):
        draw_by_value([1.0], [1.0], -1, 0)
    # An unknown value counts as nothing, and the question can still be drawn.
    drawn, chance = draw_by_value([1.0, 2.0], [np.nan, -1.0], 1, 0)
    assert chance.tolist() == [0.5] and drawn.size == 1
