"""Plans and audits on a fabricated run, and the numbers behind them."""

import csv
import json
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import report_run

from pivottrace.cli import main
from pivottrace.commands.audit import audit
from pivottrace.commands.plan import cost_model, make_plan
from pivottrace.commands.printing import plan_lines
from pivottrace.errors import ConfigError
from pivottrace.labels import budget, intake
from pivottrace.labels.store import Given
from pivottrace.routing.budgets import CostModel
from pivottrace.routing.label_errors import wrong_label_chance
from pivottrace.routing.probes import rank_fractions
from pivottrace.routing.weighting import combine
from pivottrace.run import combination, readings
from pivottrace.run.directory import RunDir
from pivottrace.stages import calibrate


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory) -> RunDir:
    return report_run.make_run(tmp_path_factory.mktemp("plan") / "run", "calibrate")


def test_a_plan_adds_up(calibrated) -> None:
    rows = make_plan(calibrated).to_pylist()
    assert [row["budget"] for row in rows] == pytest.approx(np.arange(0, 1.01, 0.05))
    probes = calibrated.stage_facts("calibrate")["num_probes"]
    bought = set(calibrated.read_table("evidence", "calibrate")["question_id"].to_pylist())
    for row in rows:
        assert sum(row[r] for r in ("annotate", "weak", "discard", "defer")) == 160
        assert probes <= row["labels"] <= max(int(160 * row["budget"] + 1e-9), probes)
        assert row["annotate"] <= row["labels"]
        assert row["learning_low"] <= row["learning_high"]
        assert 0 <= (row["wrong_votes"] or 0) <= 1
    learning = [row["learning"] for row in rows]
    assert learning == sorted(learning)  # a label more never teaches less
    assert rows[0]["labels"] == len(bought)
    # Labels replace votes, until none would teach enough beyond its vote.
    weak = [row["weak"] for row in rows]
    assert weak == sorted(weak, reverse=True) and weak[0] > weak[-1]
    assert rows[-1]["labels"] == max(row["labels"] for row in rows) < 160


def test_a_plan_repeats_and_is_written_four_ways(calibrated) -> None:
    make_plan(calibrated)
    paths = [calibrated.round_path / f"plan.{kind}" for kind in ("parquet", "csv", "json", "svg")]
    first = [path.read_bytes() for path in paths]
    table = make_plan(calibrated)
    assert [path.read_bytes() for path in paths] == first
    assert pl.read_csv(paths[1])["annotate"].to_list() == table["annotate"].to_pylist()
    assert len(json.loads(paths[2].read_text())["rows"]) == 21
    assert b"<svg" in first[3]


def test_a_plan_of_a_budget_is_what_triage_then_does(tmp_path, calibrated) -> None:
    run = report_run.make_run(tmp_path / "run", "triage")  # a budget of 30 %
    plan = {round(row["budget"], 2): row for row in make_plan(run).to_pylist()}[0.3]
    assert {route: plan[route] for route in run.stage_facts("triage")["counts"]} == (
        run.stage_facts("triage")["counts"]
    )


def test_costs_come_from_the_runs_own_rates(calibrated) -> None:
    costs = cost_model(calibrated)
    assert costs.response_tokens == 1  # the fabricated samples have one token each
    assert costs.prompt_tokens == 2
    tokens = sum(
        len(words) for i, (words, _) in enumerate(report_run.World(160, None).traces) if i != 11
    )
    assert costs.generated_per_s == pytest.approx((tokens + 160 * 8) / 41.2)
    assert costs.traced_per_s == pytest.approx((tokens + 320) / 6.3)
    model = CostModel(100.0, 1000.0, 10.0, 40.0, 8)
    assert model.tokens(5) == 1600
    assert model.seconds(5) == pytest.approx(1600 / 100 + 3 * (1600 + 400) / 1000)


def test_without_labels_only_counts(tmp_path, capsys) -> None:
    evenly = {"num_probes": 40, "draw": "systematic"}
    run = report_run.make_run(tmp_path / "run", "sample", calibrate=evenly)
    assert main(["plan", str(run.path)]) == 0
    printed = capsys.readouterr().out
    assert "no probe's label yet, so correctness is unknown" in printed
    assert f"next: pivottrace run {run.path} --until calibrate" in printed
    rows = pl.read_parquet(run.round_path / "plan.parquet")
    # Below the 40 probes that the settings ask for a run refuses to begin.
    assert rows["learning"].null_count() == rows["wrong_votes"].null_count() == 16
    assert rows["annotate"].to_list()[:3] == [40, 48, 56]
    assert rows["labels"].to_list() == [min(8 * i, 159) for i in range(5, 21)]
    # 40 probes along the ranking are paid first, so the top of it is annotated less far down: at
    # 50 %, 40 labels beside the probes, of which half lie in the top half already.
    assert rows["annotate"].to_list()[5] == 80
    assert rows["defer"].to_list()[5] == pytest.approx(20, abs=2)
    assert "are paid from each budget first" in printed
    assert not (run.path / "labels.sqlite").exists() or not calibrate_labels(run)


def test_more_probes_than_questions_are_refused(tmp_path, capsys) -> None:
    run = report_run.make_run(tmp_path / "run", "sample", calibrate={"num_probes": 200})
    assert main(["plan", str(run.path)]) == 2
    assert "calibrate.num_probes = 200 is more than the 160" in capsys.readouterr().err


def calibrate_labels(run: RunDir) -> int:
    return len(budget.bought(run))


def test_the_plan_is_printed(calibrated, capsys) -> None:
    assert main(["plan", str(calibrated.path)]) == 0
    printed = capsys.readouterr().out
    assert printed.count(" %") > 21
    assert "labels: the 40 labelled probes" in printed
    assert "to choose another row, continue with --budget SHARE" in printed
    assert printed.strip().endswith(f"next: pivottrace run {calibrated.path}")


@pytest.mark.parametrize("command", ["plan", "audit", "status", "report"])
def test_without_a_run_the_command_itself_is_named(command, capsys) -> None:
    assert main([command]) == 2
    assert f"for instance: pivottrace {command} runs/my" in capsys.readouterr().err


def test_a_plan_says_how_many_samples_were_taken(tmp_path, capsys) -> None:
    run = report_run.make_run(tmp_path / "run", "sample")
    assert main(["plan", str(run.path)]) == 0
    line = "samples taken of the pool: 1,280 of 1,280 possible (8 for 160 questions)"
    assert line in capsys.readouterr().out.splitlines()
    counts = {"16": 60, "4": 70, "8": 30}
    run.mark_done("sample", samples_taken=1480, samples_possible=2560, questions_by_samples=counts)
    told = "1,480 of 2,560 possible (4 for 70 questions, 8 for 30, 16 for 60)"
    assert readings.samples_taken(run) == told


def test_a_plan_before_votes_names_the_command(tmp_path, capsys) -> None:
    run = report_run.make_run(tmp_path / "run", "trace")
    assert main(["plan", str(run.path)]) == 1
    assert f"pivottrace run {run.path} --until sample" in capsys.readouterr().err


def spoiled(path, monkeypatch, count: int, **sections) -> tuple[RunDir, set[str]]:
    """A run in which some labels of questions that the model has mastered are wrong."""
    run = report_run.make_run(
        path, "sample", labels={"budget": 0.6}, calibrate={"num_probes": 64}, **sections
    )
    votes = run.read_table("votes", "sample").to_pylist()
    sure = [r["question_id"] for r in votes if r["vote_share"] == 1.0]
    pool = run.read_table("pool", "run").to_pylist()
    truth = {row["id"]: row["answer"] for row in pool}
    mastered = {
        i for i in sure if truth[i] == {r["question_id"]: r["vote_answer"] for r in votes}[i]
    }
    obtain = calibrate.obtain
    planted: set[str] = set()

    def lie(run, ids, purpose):
        chosen = [i for i in ids if i in mastered][:count]
        planted.update(chosen)
        intake.take_in(run, [Given(i, "999", "column", purpose) for i in chosen])
        return obtain(run, ids, purpose)

    monkeypatch.setattr(calibrate, "obtain", lie)
    calibrate.run(run)
    return run, planted


def test_planted_wrong_labels_are_found_first(tmp_path, monkeypatch, capsys) -> None:
    run, planted = spoiled(tmp_path / "run", monkeypatch, 3)
    assert len(planted) == 3
    suspects = audit(run)
    assert {s.question_id for s in suspects[:3]} == planted
    chances = [s.label_wrong for s in suspects]
    assert chances == sorted(chances, reverse=True)
    for suspect in suspects[:3]:
        assert suspect.label == "999"
        assert suspect.vote_share == 1.0
        assert suspect.vote_right > 0.6
        assert "marbles" in suspect.question
    with (run.path / "audit.csv").open(encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    assert {row["question_id"] for row in rows[:3]} == planted
    assert main(["audit", str(run.path), "--label-error", "0.2"]) == 0
    printed = capsys.readouterr().out
    assert "999 → " in printed
    assert audit(run, 0.2)[0].label_wrong > suspects[0].label_wrong


def test_under_a_combination_a_probe_is_judged_where_its_own_label_has_not_moved_it(
    tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr(
        combination, "combine", lambda *a, **k: replace(combine(*a, **k), offered=True)
    )
    asked = {"score": {"estimator": "combination"}}
    sound, _ = spoiled(tmp_path / "sound", monkeypatch, 0, **asked)
    run, planted = spoiled(tmp_path / "run", monkeypatch, 1, **asked)
    (suspect_id,) = planted
    before, after = (
        {row["question_id"]: row for row in r.read_table("evidence", "calibrate").to_pylist()}
        for r in (sound, run)
    )
    assert (before[suspect_id]["num_correct"], after[suspect_id]["num_correct"]) == (8, 0)
    # The wrong label moves the ranking, and so the others, but not the probe that has it.
    assert after[suspect_id]["rank"] == before[suspect_id]["rank"]
    assert sum(after[i]["rank"] != before[i]["rank"] for i in after) > 10
    ids, scores = readings.driving_scores(run)
    seen = rank_fractions(scores)[[ids.index(suspect_id)]]
    unseen = np.array([after[suspect_id]["rank"]])
    assert seen[0] > unseen[0]  # the fit that knows the label takes the question for harder
    (suspect, *_) = audit(run)
    assert (suspect.question_id, suspect.label, suspect.vote_share) == (suspect_id, "999", 1.0)
    # Nor does it move the chance that its own vote is right, but the others' chances.
    assert suspect.vote_right == after[suspect_id]["predicted"] == before[suspect_id]["predicted"]
    assert sum(after[i]["predicted"] != before[i]["predicted"] for i in after) > 40


def test_sound_labels_are_not_suspected(calibrated, capsys) -> None:
    assert [s for s in audit(calibrated) if s.label_wrong > 0.3] == []
    assert main(["audit", str(calibrated.path), "--label-error", "x"]) == 2
    assert "give a share, such as 0.05" in capsys.readouterr().err


def test_an_audit_without_probes_says_so(tmp_path, capsys) -> None:
    run = report_run.make_run(tmp_path / "run", "sample")
    assert main(["audit", str(run.path)]) == 1
    assert f"pivottrace run {run.path} --until calibrate" in capsys.readouterr().err


def test_chances_by_bayes() -> None:
    # Of 1,000 questions with m = 0.9 and e = 0.1: 100 wrong labels, all contradicted; 900 right
    # ones, of which 90 meet a wrong vote.
    assert wrong_label_chance([0.9], 0.1)[0] == pytest.approx(100 / 190)
    np.testing.assert_allclose(wrong_label_chance([0.0, 1.0], 0.1), [0.1, 1.0])
    with pytest.raises(ConfigError, match="between 0 and 1"):
        wrong_label_chance([0.5], 0.0)


def test_another_row_of_the_plan_is_the_same_run_with_its_budget(tmp_path, capsys) -> None:
    run = report_run.make_run(tmp_path / "run", "calibrate", train={"enabled": False})
    place = str(run.path)
    plan = {round(row["budget"], 2): row for row in make_plan(run).to_pylist()}[0.5]
    probes = run.read_table("probes", "calibrate").to_pylist()
    assert main(["triage", place, "--budget", "0.2"]) == 2
    message = capsys.readouterr().err
    assert "labels.budget = 0.2 allows 32 labels, and 40 are bought already" in message
    assert "Give at least 40" in message
    assert not RunDir.open(run.path).is_done("triage")
    assert main(["triage", place, "--budget", "0.5"]) == 0
    facts = RunDir.open(run.path).stage_facts("triage")
    assert facts["counts"] == {route: plan[route] for route in facts["counts"]}
    assert (facts["labels_allowed"], facts["labels_planned"]) == (80, plan["labels"])
    assert run.read_table("probes", "calibrate").to_pylist() == probes
    capsys.readouterr()
    assert main(["run", place, "--budget", "0.6"]) == 0  # nothing that costs much is made again
    assert "labels.budget was 0.5 and is 0.6" in capsys.readouterr().err
    assert RunDir.open(run.path).stage_facts("triage")["labels_allowed"] == 96


FEW = {"enabled": False, "steps": 15, "questions_per_step": 16}  # 60 places


def test_a_plan_with_few_places_says_what_that_does_to_learning(tmp_path, capsys) -> None:
    run = report_run.make_run(tmp_path / "run", "calibrate", train=FEW)
    assert main(["plan", str(run.path)]) == 0
    assert "places: votes are added only up to 60 rows" in capsys.readouterr().out
    run.config.train.steps = 400
    assert not any(line.startswith("places") for line in plan_lines(run, make_plan(run)))


def test_other_steps_before_the_labels_route_the_pool_again(tmp_path, capsys) -> None:
    few = {"enabled": False, "steps": 5, "questions_per_step": 4}
    run = report_run.make_run(tmp_path / "run", "triage", train=few, labels={"budget": 0.26})
    place, before = str(run.path), run.stage_facts("triage")
    assert (before["most_rows"], before["counts"]["weak"]) == (5, 0)
    assert main(["run", place, "--train.steps", "6"]) == 0  # the labelled rows are more than 6
    assert "places" not in capsys.readouterr().err
    assert main(["run", place, "--train.steps", "400", "--train.learning-rate", "1e-4"]) == 0
    assert "left places for 5 rows and leave 400 now" in capsys.readouterr().err
    after = RunDir.open(run.path).stage_facts("triage")
    assert after["most_rows"] == 400 and after["counts"]["weak"] > 0
    assert after["counts"]["annotate"] == before["counts"]["annotate"]
    assert main(["run", place, "--train.questions-per-step", "5"]) == 0  # no vote waits for a place
    assert "places" not in capsys.readouterr().err
    assert main(["run", place, "--train.steps", "5", "--budget", "0.27"]) == 0
    assert "labels.budget was 0.26 and is 0.27" in capsys.readouterr().err
    assert RunDir.open(run.path).stage_facts("triage")["counts"]["weak"] == 0


def test_other_steps_after_the_labels_leave_the_routes_and_say_so(tmp_path, capsys) -> None:
    few = {"enabled": False, "steps": 5, "questions_per_step": 4}
    run = report_run.make_run(tmp_path / "run", "label", train=few, labels={"budget": 0.26})
    routes = run.table_path("triage").read_bytes()
    assert main(["run", str(run.path), "--train.steps", "400"]) == 0
    told = capsys.readouterr().err
    assert "the routes stay as they are" in told
    assert f"pivottrace redo {run.path} calibrate" in told
    assert run.table_path("triage").read_bytes() == routes
    assert main(["redo", str(run.path), "calibrate"]) == 0
    assert main(["run", str(run.path)]) == 0
    assert RunDir.open(run.path).stage_facts("triage")["counts"]["weak"] > 0


def test_a_budget_after_one_of_zero_has_no_probes_to_stand_on(tmp_path, capsys) -> None:
    run = report_run.make_run(
        tmp_path / "run", "calibrate", labels={"budget": 0}, calibrate={"num_probes": None}
    )
    assert main(["triage", str(run.path), "--budget", "0.3"]) == 2
    assert "calibrated with a budget of 0, so without a probe" in capsys.readouterr().err
    assert main(["triage", str(run.path), "--budget", "0"]) == 0


def test_what_ranks_the_pool_is_chosen_until_the_first_probe_is_labelled(tmp_path, capsys) -> None:
    fixed = {"num_samples": 8, "sampling": "fixed"}
    run = report_run.make_run(tmp_path / "run", "sample", rollouts=fixed)
    other = report_run.make_run(
        tmp_path / "other",
        "sample",
        rollouts=fixed,
        score={"estimator": "entropy_mean"},
        pivots={"reading": "onset", "statistic": "density"},
    )
    scores = [r.read_table("scores", "score") for r in (run, other)]
    # Every estimator, whichever ranks; as texts, in which a NaN equals another.
    assert str(scores[0].to_pylist()) == str(scores[1].to_pylist())
    for settings in (["--pivots.reading", "onset"], ["--score.estimator", "entropy_mean"]):
        assert main(["score", str(run.path), *settings]) == 0
    assert main(["calibrate", str(run.path)]) == 0
    drawn = RunDir.open(run.path).read_table("probes", "calibrate").to_pylist()
    column = dict(
        zip(*scores[0].select(["question_id", "entropy_mean"]).to_pydict().values(), strict=True)
    )
    assert [row["score"] for row in drawn] == [column[row["question_id"]] for row in drawn]
    capsys.readouterr()
    assert main(["triage", str(run.path), "--score.estimator", "length"]) == 2
    message = capsys.readouterr().err
    assert "score.estimator: was 'entropy_mean', now 'length' (used by calibrate)" in message
