"""The study's own arithmetic, on made-up pools: no model."""

from types import SimpleNamespace

import numpy as np
import pytest
from ingest_sources import write_jsonl
from report_run import make_run
from scipy.stats import spearmanr

from pivottrace.config import parse_config
from pivottrace.errors import ConfigError, DataError
from pivottrace.routing.probes import draw_probes
from pivottrace.stages import pool
from pivottrace.study import pools
from pivottrace.study.estimator_metrics import compare
from pivottrace.study.picture import draw
from pivottrace.study.pivot_scores import PivotSettings, pivot_scores
from pivottrace.study.pools import PoolEvidence, combined_score, default_pivots, inferences, prepare

CONFIG = parse_config({"study": {"resamples": 200}}, "test")


def make_pool(seed, num=80, **scores):
    rng = np.random.default_rng(seed)
    correctness = rng.integers(0, 33, num) / 32
    noise = rng.normal(0, 0.3, num)
    made = {
        "onset_density": noise - correctness,
        "length": np.round(20 + 5 * noise),
        "consistency": 1 - correctness,
        "random": rng.random(num),
    }
    return PoolEvidence(
        run=SimpleNamespace(config=CONFIG),
        name=f"p{seed}",
        question_ids=[str(i) for i in range(num)],
        scores=made | scores,
        wrong=rng.random(num) > correctness,
        correctness=correctness,
        vote_right=correctness > 0.5,
        sampled=correctness,
        num_failed=0,
    )


def test_pools_are_averaged_by_their_questions_and_compared_in_pairs():
    pools = [make_pool(0, 80), make_pool(1, 40)]
    results = compare(pools, "onset_density")
    figures = results["estimators"]["onset_density"]["auroc"]
    assert figures["value"] == pytest.approx(np.average(figures["pools"], weights=[80, 40]), 1e-5)
    assert figures["low"] < figures["value"] < figures["high"]
    assert results["estimators"]["consistency"]["spearman"]["value"] == pytest.approx(-1)
    gain = results["advantages"]["consistency"]["spearman"]
    assert 0 < gain["low"] < gain["value"] < gain["high"]  # less is better: the sign is turned
    assert "onset_density" not in results["advantages"]
    assert results["advantages"]["random"]["auroc"]["high"] < 0
    assert results["ratio_to_consistency"]["value"] == pytest.approx(
        -results["estimators"]["onset_density"]["spearman"]["value"], abs=1e-5
    )
    assert results == compare(pools, "onset_density")


def test_a_control_is_not_judged_given_itself():
    results = compare([make_pool(0, recheck_words=np.arange(80.0) % 7)], "onset_density")
    estimators = results["estimators"]
    assert estimators["length"]["spearman_given_length"]["value"] is None
    assert estimators["recheck_words"]["spearman_given_length"]["value"] is not None
    assert estimators["recheck_words"]["spearman_given_controls"]["value"] is None
    assert estimators["onset_density"]["spearman_given_controls"]["value"] is not None


def test_what_cannot_be_judged_has_a_reason_and_spoils_nothing():
    scores = {"constant": np.ones(80), "missing": np.full(80, np.nan)}
    results = compare([make_pool(0, **scores)], "onset_density")
    estimators = results["estimators"]
    assert estimators["constant"]["auroc"]["value"] == 0.5
    assert estimators["constant"]["spearman"]["value"] is None
    assert estimators["constant"]["reason"] == "the score is constant"
    assert estimators["missing"]["auroc"]["value"] is None
    assert estimators["missing"]["reason"] == "no question has a score"
    pool = make_pool(0, **scores)
    assert "<svg" in draw([pool], results | {"default": "onset_density"})


def test_all_right_has_no_auroc_but_a_risk():
    pool = make_pool(0)
    pool = PoolEvidence(**{**vars(pool), "wrong": np.zeros(80, dtype=bool)})
    figures = compare([pool], "onset_density")["estimators"]["onset_density"]
    assert figures["auroc"]["value"] is None
    assert figures["aurc"]["value"] == 0
    assert figures["reason"] == "every greedy answer is right"


def test_default_and_costs():
    assert default_pivots(CONFIG) == "peak_count"
    by_peaks = {"score": {"estimator": "peak_count"}}
    assert default_pivots(parse_config(by_peaks, "test")) == "peak_count"
    by_entropy = {"score": {"estimator": "entropy_sum"}, "pivots": {"reading": "onset"}}
    assert default_pivots(parse_config(by_entropy, "test")) == "onset_count"
    assert [inferences(n, CONFIG) for n in ("random", "onset_density", "consistency")] == [0, 1, 16]


def test_pivots_under_other_settings():
    signals = {"a": np.array([0.1] * 5 + [0.9] * 2 + [0.1] * 5), "b": np.full(4, 0.1)}
    settings = PivotSettings(zeta=95, psi=0.05, window=3)
    scores = pivot_scores(signals, ["b", "a"], ["a"], settings)
    assert scores["onset_count"].tolist() == [0, 1]
    assert scores["onset_density"].tolist() == [0, 1 / 12]
    assert scores["peak_count"].tolist() == [0, 1]
    assert pivot_scores(signals, ["a"], ["a"], settings, ("peak",)).keys() == {
        "peak_density",
        "peak_count",
    }


def test_the_combination_is_what_sixty_four_probes_give():
    rng = np.random.default_rng(0)
    sampled = rng.integers(0, 17, 300) / 16
    scores = {
        "onset_density": rng.normal(0, 0.4, 300) - sampled,
        "entropy_mean": rng.normal(0, 0.4, 300) - sampled,
        "consistency": 1 - sampled,  # left out: it is made of the very samples
    }
    places = combined_score(scores, sampled, "onset_density", seed=0)
    assert places.shape == (300,)
    assert 0 < places.min() < places.max() < 1
    rho = {name: spearmanr(values, sampled).statistic for name, values in scores.items()}
    assert spearmanr(places, sampled).statistic < rho["onset_density"] < -0.5
    few = {name: values[:128] for name, values in scores.items()}
    assert combined_score(few, sampled[:128], "onset_density", seed=0) is None
    # A probe's own label does not move it.
    probe = draw_probes(scores["onset_density"], 64, seed=0)[10]
    changed = sampled.copy()
    changed[probe] = 1 - changed[probe]
    again = combined_score(scores, changed, "onset_density", seed=0)
    assert again[probe] == places[probe]


@pytest.mark.parametrize("source", [None, "column", "file", "column+file"])
def test_a_pool_with_gaps_is_refused_before_anything_is_written(tmp_path, monkeypatch, source):
    """So the questions without an answer may be taken out of the file, as the message says."""
    rows = [{"id": i, "question": f"What is {i} + {n}?", "answer": n} for n, i in enumerate("abcd")]
    file = tmp_path / "half.jsonl"
    write_jsonl(file, [*rows[:2], *({"id": r["id"], "question": r["question"]} for r in rows[2:])])
    sections = {"pool": {"questions": str(file)}, "labels": {"source": source, "budget": 1}}
    config = parse_config({"output": str(tmp_path / "run"), **sections}, "test")
    with pytest.raises(DataError, match=r"2 of 4 questions have no answer, the first is id 'c'"):
        prepare(config)
    assert not (tmp_path / "run").exists()
    write_jsonl(file, rows[:2])
    monkeypatch.setattr(pools, "run_step", lambda run, stage: stage == "pool" and pool.run(run))
    monkeypatch.setattr(pools.truth, "run", lambda run: None)
    assert prepare(config).stage_facts("pool")["num_with_answer"] == 2


def test_a_run_that_sampled_in_steps_is_no_study(tmp_path):
    run = make_run(tmp_path / "run", "sample", labels={"source": "oracle"})
    with pytest.raises(ConfigError, match=r"samples in steps .* Give the study another"):
        prepare(run.config)
