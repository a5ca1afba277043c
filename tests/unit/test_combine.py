"""The combination: offered where estimators know different things, not where one knows all."""

from dataclasses import replace

import numpy as np
import pytest
import report_run

from pivottrace.cli import main
from pivottrace.errors import DataError
from pivottrace.pipeline import unfinished
from pivottrace.report import build_report
from pivottrace.routing.probes import rank_fractions
from pivottrace.routing.weighting import MIN_PROBES, combine, cross_fitted_places, rank_features
from pivottrace.run import combination
from pivottrace.run.directory import RunDir
from pivottrace.stats.ranking_metrics import spearman

G = 16


def probes(seed: int, size: int, noises: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Features that see the difficulty through noise of their own, and sampled correctness."""
    rng = np.random.default_rng(seed)
    difficulty = rng.normal(size=size)
    scores = {str(i): difficulty + noise * rng.normal(size=size) for i, noise in enumerate(noises)}
    correct = rng.binomial(G, 1 / (1 + np.exp(2 * difficulty))) / G
    return rank_features(scores), correct


def test_offered_where_estimators_complement_each_other() -> None:
    found = [combine(*probes(s, 128, (1.5,) * 4), list("abcd")) for s in range(10)]
    assert sum(f.offered for f in found) >= 8
    assert np.mean([f.rho - f.single_rho for f in found]) > 0.1
    for f in found:
        assert f.low <= f.rho - f.single_rho <= f.high
        assert (f.weights > 0).sum() >= 3


def test_rarely_offered_where_one_knows_all() -> None:
    found = [combine(*probes(s, 64, (0.3, 9.0, 9.0, 9.0)), list("abcd")) for s in range(30)]
    # One-sided at 95 %: one in twenty by chance.
    assert sum(f.offered for f in found) <= 4
    assert {f.best_single for f in found} == {"a"}


def test_scores_out_of_fold_do_not_know_their_own_probe() -> None:
    rng = np.random.default_rng(0)
    features = rank_features({str(i): rng.normal(size=64) for i in range(12)})
    correct = rng.random(64)
    found = combine(features, correct, [str(i) for i in range(12)])
    fitted = spearman(features @ found.weights, 1 - correct)[0]
    assert fitted > 0.25 > found.rho  # in sample it seems to know something
    assert not found.offered


def test_repeats_and_ignores_constant_estimators() -> None:
    features, correct = probes(1, 64, (1.0, 1.0))
    features = np.concatenate([features, np.zeros((64, 1))], axis=1)
    one, two = (combine(features, correct, ["a", "b", "same"], seed=3) for _ in range(2))
    assert one.out_of_fold.tolist() == two.out_of_fold.tolist()
    assert abs(one.weights[2]) < 1e-9


def test_nothing_to_fit_or_to_compare() -> None:
    features, correct = probes(0, 64, (1.0, 1.0))
    assert combine(features[: MIN_PROBES - 1], correct[: MIN_PROBES - 1], ["a", "b"]) is None
    assert combine(features[:, :1], correct, ["a"]) is None
    assert combine(features, np.ones(64), ["a", "b"]) is None
    with pytest.raises(DataError, match="names differ"):
        combine(features, correct, ["a"])


def test_a_cross_fitted_place_is_among_the_pool_as_the_probes_own_fold_ranks_it() -> None:
    features, correct = probes(2, 64, (1.0, 1.0))
    found = combine(features[:40], correct[:40], ["a", "b"])
    found = replace(found, folds=np.arange(40) % 2, fold_weights=np.array([[1.0, 0.0], [0.0, 2.0]]))
    features[50] = np.nan  # failed: in nobody's ranking
    places = cross_fitted_places(found, features, np.arange(40))
    left = np.delete(features, 50, axis=0)
    for i in range(40):
        expected = rank_fractions(left[:, i % 2])[i]
        assert places[i] == pytest.approx(expected, abs=1e-12)


def test_features_are_ranks_and_missing_is_the_middle() -> None:
    found = rank_features({"a": [5.0, np.nan, 1.0, 3.0]})
    np.testing.assert_allclose(found[:, 0], [2 / 3, 0, -2 / 3, 0])


def test_a_run_asks_for_it_and_gets_it_only_where_it_is_better(tmp_path) -> None:
    labels, probes = {"budget": 0.6}, {"num_probes": 80}
    run = report_run.make_run(
        tmp_path / "run",
        "triage",
        labels=labels,
        calibrate=probes,
        score={"estimator": "combination"},
    )
    plain = report_run.make_run(tmp_path / "plain", "triage", labels=labels, calibrate=probes)
    facts = run.stage_facts("calibrate")["combination"]
    drawn = [r.read_table("probes", "calibrate").to_pylist() for r in (run, plain)]
    assert drawn[0] == drawn[1]  # along the pivots' ranking, whatever comes after
    assert facts["used"] == facts["offered"] == (facts["low"] > 0)
    assert plain.stage_facts("calibrate")["combination"] == {**facts, "used": False}
    assert run.table_path("ranking").is_file() == facts["used"]
    assert not plain.table_path("ranking").exists()
    build_report(run, unfinished(run), report_run.decode)
    assert "A combination of" in (run.path / "report.html").read_text()


def test_a_used_combination_ranks_the_pool(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(
        combination, "combine", lambda *a, **k: replace(combine(*a, **k), offered=True)
    )
    run = report_run.make_run(
        tmp_path / "run",
        "triage",
        labels={"budget": 0.6},
        calibrate={"num_probes": 80},
        score={"estimator": "combination"},
    )
    ranking = run.read_table("ranking", "calibrate")["score"].to_numpy()
    triage = run.read_table("triage", "triage")
    np.testing.assert_array_equal(triage["score"].to_numpy(), ranking)
    np.testing.assert_allclose(triage["rank"].to_numpy(), rank_fractions(ranking))
    evidence = run.read_table("evidence", "calibrate").to_pylist()
    rank_of = dict(zip(triage["question_id"].to_pylist(), triage["rank"].to_pylist(), strict=True))
    moved = np.array([abs(row["rank"] - rank_of[row["question_id"]]) for row in evidence])
    assert 0 < moved.mean() < 0.1  # near the pool's own, by a fit without the probe
    page = build_report(run, unfinished(run), report_run.decode).read_text()
    assert "and it ranks this run" in page and "(ranks this run)" not in page
    assert "(probes were drawn along it)" in page


def test_a_combination_that_is_asked_for_and_not_used_says_why(tmp_path, capsys) -> None:
    def note_of(name: str, **sections) -> str:
        run = report_run.make_run(
            tmp_path / name, "sample", score={"estimator": "combination"}, **sections
        )
        assert main(["calibrate", str(run.path)]) == 0
        notes = [n for n in capsys.readouterr().out.splitlines() if n.startswith("note: ")]
        assert main(["status", str(run.path)]) == 0
        assert notes[0] in capsys.readouterr().out.splitlines()
        return notes[0]

    note = note_of("run", labels={"budget": 0.6}, calibrate={"num_probes": 80})
    facts = RunDir.open(tmp_path / "run").stage_facts("calibrate")["combination"]
    assert facts["low"] < 0 and not facts["offered"]
    assert f"on 80 probes is {facts['rho']:.2f}, and that of {facts['best_single']}" in note
    assert f"{facts['low']:+.2f} to {facts['high']:+.2f}, 90 % interval" in note
    assert note.endswith("peak_count ranks the pool")
    note = note_of("few", calibrate={"num_probes": 20})
    assert "it needs at least 32 labelled probes that are not all equally right" in note
