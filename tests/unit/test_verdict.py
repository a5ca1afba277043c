"""The verdict in words: what was decided, what it cost, whether it helped, what limits it."""

import numpy as np
import pyarrow as pa
import pytest
from report_run import make_run

from pivottrace.commands.status import summary_lines
from pivottrace.report.verdict import _of_the_ranking, verdict
from pivottrace.run.directory import RunDir
from pivottrace.run.storage import read_json, write_json


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("verdict") / "run")


def with_facts(run, stage, **changes):
    """The run with other facts of a stage in its manifest."""
    path = run.path / "manifest.json"
    manifest = read_json(path)
    manifest["rounds"]["0"][stage] |= changes
    write_json(path, manifest)
    return RunDir.open(run.path)


def test_a_finished_run_has_a_whole_verdict(run):
    found = verdict(run)
    counts = run.stage_facts("triage")["counts"]
    assert found.decided.startswith("of 160 questions, ")
    for route, words in (("discard", "are dropped"), ("annotate", "get a true answer")):
        assert f"{counts[route]} {words}" in found.decided
    assert "of 48 used, 40 of them for probes" in found.labels
    assert "of as many random ones, about" in found.labels
    assert found.helped.startswith("training helped: ") and "95 % interval" in found.helped


def test_the_closing_lines_are_the_verdict_the_files_and_the_next_step(run):
    lines = list(summary_lines(run))
    titles = [line.split("  ")[0] for line in lines if line]
    # The fabricated responses have no tokens, so there is no line of their cost.
    assert titles[:3] == ["decided", "labels", "held-out"]
    assert lines[-1] == f"next: open {run.path / 'report.html'}"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"mean": 0.01, "low": -0.02, "high": 0.04}, "no change beyond chance"),
        ({"mean": -0.05, "low": -0.08, "high": -0.02}, "training did harm"),
    ],
)
def test_chance_and_harm_are_named(tmp_path, change, words):
    run = make_run(tmp_path / "run")
    run = with_facts(run, "evaluate_after", difference=change)
    assert verdict(run).helped.startswith(words)


def test_a_budget_that_is_all_probes_is_named(tmp_path):
    run = make_run(
        tmp_path / "run", "triage", 60, labels={"budget": 12}, calibrate={"num_probes": 12}
    )
    limits = " ".join(verdict(run).limits)
    assert "12 of 12 labels were probes, which leaves 0 to choose with" in limits


def test_a_run_that_has_not_begun_has_no_verdict(tmp_path):
    run = make_run(tmp_path / "run", "pool", 60)
    assert list(verdict(run).lines()) == [("labels", "0 of 18 used")]


@pytest.mark.parametrize(("share", "is_named"), [(1.0, True), (0.9, True), (0.7, False)])
def test_a_ranking_with_most_questions_at_one_place_is_named(run, share, is_named):
    triage = run.read_table("triage", made_by="triage")
    scores = np.arange(len(triage), dtype=float)
    scores[: int(share * len(triage))] = -1.0
    tied = triage.set_column(triage.schema.get_field_index("score"), "score", pa.array(scores))
    found = " ".join(_of_the_ranking(run, tied))
    assert ("the ranking says" in found) == is_named
    assert ("144 of 160 questions" in found) == (share == 0.9)


@pytest.mark.parametrize(("rho", "is_named"), [(0.7, True), (0.3, False)])
def test_an_estimator_that_ranks_where_the_driving_one_does_not_is_named(tmp_path, rho, is_named):
    run = make_run(tmp_path / "run", "triage")
    found = {"best_single": "entropy_mean", "single_rho": rho, "rho": rho, "offered": False}
    evidence = run.read_table("evidence", made_by="calibrate")
    right = np.array(evidence["num_correct"])
    blind = np.tile([0.1, 0.9], len(evidence))[np.argsort(np.argsort(right, kind="stable"))]
    for scores, is_blind in ((-right.astype(float), False), (blind, True)):
        place = evidence.schema.get_field_index("score")
        run.write_table("evidence", evidence.set_column(place, "score", pa.array(scores)))
        run = with_facts(run, "calibrate", combination=found)
        limits = " ".join(verdict(run).limits)
        assert ("--score.estimator entropy_mean ranks by it" in limits) == (is_blind and is_named)
    run = with_facts(run, "calibrate", combination=found | {"offered": True})
    limits = " ".join(verdict(run).limits)
    assert ("--score.estimator combination ranks by it" in limits) == is_named
    assert "entropy_mean" not in limits
