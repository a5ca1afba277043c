"""The study's own arithmetic, on made-up pools: no model."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from ingest_sources import write_jsonl
from report_run import make_run
from scipy.stats import norm, spearmanr

from pivottrace.config import parse_config
from pivottrace.errors import ConfigError, DataError
from pivottrace.routing.probes import draw_probes
from pivottrace.run.directory import RunDir
from pivottrace.schemas import TRUTH
from pivottrace.stages import pool
from pivottrace.stats.ranking_metrics import auroc
from pivottrace.stats.resampling import percentile_interval, resample_counts
from pivottrace.study import pools
from pivottrace.study.composition import composition
from pivottrace.study.estimator_metrics import compare
from pivottrace.study.picture import draw
from pivottrace.study.pivot_scores import PivotSettings, pivot_scores
from pivottrace.study.pools import (
    MIN_QUESTIONS,
    PoolEvidence,
    combined_score,
    default_pivots,
    inferences,
    prepare,
    read_evidence,
)
from pivottrace.study.study_verdict import verdict_lines
from pivottrace.study.text import composition_table, rankings

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
        kind_column=None,
        kinds=np.zeros(num, dtype=np.int64),
        kind_names=[""],
        ended=np.arange(num) > 0,
        num_failed=0,
        num_unanswered=0,
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


def test_a_score_that_tells_only_kinds_apart_is_worth_nothing_within_them():
    hard = np.arange(80) % 2
    rng = np.random.default_rng(0)
    correctness = np.where(hard, 0.2, 0.8) + rng.uniform(-0.1, 0.1, 80)
    pool = replace(
        make_pool(0, only_kinds=hard * 1.0, true=1 - correctness),
        wrong=rng.random(80) > correctness,
        correctness=correctness,
        kind_column="task",
        kinds=hard,
    )
    results = compare([pool], "only_kinds")
    figures = results["estimators"]
    for column, shown in ((None, False), ("task", True)):
        told = "\n".join(
            rankings(results | {"default": "true", "pools": [{"kind_column": column}]})
        )
        assert ("… within kinds" in told, "of `task`" in told) == (shown, shown)
    assert figures["only_kinds"]["auroc"]["value"] > 0.7
    assert figures["only_kinds"]["auroc_within_kinds"]["value"] == 0.5
    assert figures["only_kinds"]["spearman_given_kinds"]["value"] is None
    assert figures["true"]["spearman_given_kinds"]["value"] < -0.9


def test_the_questions_of_each_pool_are_described_by_kind():
    right = np.array([0.0, 0.5, 1.0, 1.0] * 20)
    of_kinds = {"kind_column": "task", "correctness": right, "kinds": np.arange(80) % 4 // 3}
    pool = replace(make_pool(0), **of_kinds, kind_names=['{"terms": [2, 6]}', "sums|gcd"])
    rows = composition([pool, make_pool(1)])
    named = [(row["pool"], row["kind"], row["num_questions"]) for row in rows]
    assert named == [
        ("p0", "terms 2 to 6", 60),
        ("p0", "sums|gcd", 20),
        ("p0", None, 80),
        ("p1", None, 80),
    ]
    figures = ("mean_correctness", "never_right", "always_right", "ended")
    assert [rows[0][name] for name in figures] == [0.5, 1 / 3, 1 / 3, 59 / 60]
    assert [rows[1][name] for name in figures] == [1.0, 0.0, 1.0, 1.0]
    assert rows[1]["greedy_wrong"] == pool.wrong[3::4].mean()
    lengths = pool.scores["length"]
    assert rows[2]["tokens"] == [lengths.mean(), *np.percentile(lengths, [10, 90])]


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
    pool = replace(pool, wrong=np.zeros(80, dtype=bool))
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


def half_labelled(tmp_path, num_answered, **sections):
    """A configuration of 24 questions, the first of which have an answer."""
    rows = [{"id": f"q{i:02d}", "question": f"What is {i} + 1?"} for i in range(24)]
    for number, row in enumerate(rows[:num_answered]):
        row["answer"] = str(number + 1)
    file = tmp_path / "half.jsonl"
    write_jsonl(file, rows)
    values = {"output": str(tmp_path / "run"), "pool": {"questions": str(file)}} | sections
    return parse_config(values, "test")


@pytest.fixture
def pool_alone(monkeypatch):
    """Of the stages that a study runs, only the one that needs no model."""
    monkeypatch.setattr(pools, "run_step", lambda run, stage: stage == "pool" and pool.run(run))
    monkeypatch.setattr(pools.truth, "run", lambda run: None)


@pytest.mark.parametrize("source", [None, "column", "file", "column+file"])
def test_a_half_labelled_pool_is_studied_by_its_answered_questions(tmp_path, pool_alone, source):
    config = half_labelled(tmp_path, 18, labels={"source": source, "budget": 20})
    for _ in range(2):  # and when it goes on
        run = prepare(config)
        facts = run.stage_facts("pool")
        assert (facts["num_questions"], facts["num_with_answer"], facts["num_left_out"]) == (
            18,
            18,
            6,
        )
        assert "18 of 24 questions have an answer" in facts["notes"][-1]
    # A run of the whole pool does not go on with a part of it.
    with pytest.raises(ConfigError, match=r"pool.only_answered: was True, now False"):
        RunDir.create(config)


def test_a_pool_with_few_answers_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(DataError, match=r"15 of 24 questions have an answer, and a study needs 16"):
        prepare(half_labelled(tmp_path, 15))
    assert not (tmp_path / "run").exists()


def test_a_run_of_the_whole_pool_asks_no_unanswered_question_for_a_study(tmp_path, pool_alone):
    config = half_labelled(tmp_path, 18, rollouts={"sampling": "fixed"})
    run = RunDir.create(config)
    pool.run(run)
    with pytest.raises(DataError, match=r"would sample the others, too. Give the study a run dir"):
        prepare(config)
    run.begin("sample")
    run.mark_done("sample")
    assert not prepare(config).config.pool.only_answered


def truths_of(ids):
    return [
        {
            "question_id": i,
            "num_correct": n % 5,
            "num_samples": 4,
            "greedy_right": bool(n % 2),
            "vote_right": bool(n % 3),
        }
        for n, i in enumerate(ids)
    ]


def test_a_run_that_has_sampled_the_whole_pool_is_studied_by_its_answered_questions(tmp_path):
    sections = {"labels": {"budget": 0.3}, "rollouts": {"num_samples": 8, "sampling": "fixed"}}
    run = make_run(tmp_path / "run", "sample", 40, **sections)
    table = run.read_table("pool", made_by="run")
    answers = [a if i % 2 else None for i, a in enumerate(table["answer"].to_pylist())]
    at = table.schema.get_field_index("answer")
    run.write_table("pool", table.set_column(at, "answer", pa.array(answers, pa.string())))
    answered = table["id"].to_pylist()[1::2]
    rows = truths_of(answered)
    run.write_table("truth", pa.Table.from_pylist(rows, schema=TRUTH))
    found = read_evidence(run)
    assert set(found.question_ids) <= set(answered)
    assert found.num_unanswered == 20 and found.num_failed + len(found.question_ids) == 20
    assert all(values.size == found.wrong.size for values in found.scores.values())
    of = {row["question_id"]: row for row in rows}
    assert found.wrong.tolist() == [not of[i]["greedy_right"] for i in found.question_ids]
    assert found.correctness.tolist() == [of[i]["num_correct"] / 4 for i in found.question_ids]


def test_kinds_and_ends_of_responses_are_read_and_shown(tmp_path):
    run = make_run(tmp_path / "run", "sample", 40, rollouts={"num_samples": 8})
    table = run.read_table("pool", made_by="run")
    extra = [json.dumps({"task": "sums|gcd"} if i % 4 else {}) for i in range(40)]
    at = table.schema.get_field_index("extra")
    run.write_table("pool", table.set_column(at, "extra", pa.array(extra, pa.string())))
    ids = table["id"].to_pylist()
    run.write_table("truth", pa.Table.from_pylist(truths_of(ids), schema=TRUTH))
    found = read_evidence(run)
    kinds = [found.kind_names[kind] for kind in found.kinds]
    assert kinds == ["sums|gcd" if ids.index(i) % 4 else "" for i in found.question_ids]
    assert [i for i, ended in zip(found.question_ids, found.ended, strict=True) if not ended] == [
        ids[12]
    ], "it was cut at the limit of its length"
    page = "\n".join(composition_table({"composition": composition([found])}))
    cells = [line.split(" | ")[:3] for line in page.splitlines() if line.startswith("| run")]
    assert "| never right | always right | tokens (middle 80 %) | ended |\n" in page
    right = found.correctness
    figures = [(right == 0).mean(), (right == 1).mean()]
    never, always, tokens, ended = page.split("| whole pool |")[1].split(" | ")[3:7]
    assert [never, always] == [f"{100 * share:.1f} %" for share in figures]
    assert tokens.startswith(f"{found.scores['length'].mean():.0f} (")
    assert ended.startswith("97.4 %"), "38 of 39"
    assert cells == [
        ["| run", r"sums\|gcd", "29"],  # one of the thirty has failed
        ["| run", "(none)", "10"],
        ["| run", "whole pool", "39"],
    ]


def test_a_part_of_a_pool_is_said():
    described = {"name": "p", "num_questions": 17, "num_failed": 1, "num_unanswered": 6}
    results = compare([make_pool(0)], "onset_density") | {"default": "onset_density"}
    lines = list(verdict_lines(results | {"pools": [described | {"mean_correctness": 0.5}]}))
    assert lines[0].startswith("p: 18 of 24 questions have an answer; the study is of these.")
    whole = described | {"mean_correctness": 0.5, "num_unanswered": 0}
    assert list(verdict_lines(results | {"pools": [whole]})) == lines[1:]


@pytest.mark.parametrize(("num", "least", "most"), [(8, 0.6, 0.82), (MIN_QUESTIONS, 0.8, 0.95)])
def test_the_least_number_of_questions_is_what_intervals_need(num, least, most):
    """The share of pools whose interval holds the true AUROC, 0.75."""
    rng, apart, held = np.random.default_rng(0), np.sqrt(2) * norm.ppf(0.75), []
    for trial in range(200):
        wrong = rng.random(num) < 0.3
        scores = rng.normal(0, 1, num) + apart * wrong
        counts = resample_counts(num, 200, trial)
        values = np.concatenate([auroc(scores, wrong, each) for each in counts])
        if not np.isnan(values[0]):
            low, high = percentile_interval(values[1:])
            held.append(low <= 0.75 <= high)
    assert least < np.mean(held) < most


def test_a_run_that_sampled_in_steps_is_no_study(tmp_path):
    run = make_run(tmp_path / "run", "sample", labels={"source": "oracle"})
    with pytest.raises(ConfigError, match=r"samples in steps .* Give the study another"):
        prepare(run.config)
