"""The labels of a run: what they say of its answers, the fit on them, and how the run tells it."""

import numpy as np
import pyarrow as pa
import pytest
import report_run

from pivottrace.commands.status import notes
from pivottrace.errors import RunDirError
from pivottrace.pipeline import unfinished
from pivottrace.report import build_report
from pivottrace.routing.probes import LEAST_VALUE, inclusion_chances, rank_order
from pivottrace.routing.vote_check import check_votes
from pivottrace.routing.vote_model import NONE
from pivottrace.run import readings
from pivottrace.run.directory import RunDir
from pivottrace.run.storage import read_json, write_json
from pivottrace.stages import calibrate, triage
from pivottrace.stages.vote_fit import value_before_labels


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> RunDir:
    return report_run.make_run(tmp_path_factory.mktemp("fit") / "run", "triage")


def rows_of(run: RunDir, name: str, made_by: str = "calibrate") -> dict[str, dict]:
    table = run.read_table(name, made_by=made_by).to_pylist()
    return {row["question_id"]: row for row in table}


def test_the_right_class_is_the_class_that_the_label_agrees_with(run) -> None:
    votes, evidence = rows_of(run, "votes", "sample"), rows_of(run, "evidence")
    seen = set()
    for question_id, row in evidence.items():
        vote, place = votes[question_id], row["right_class"]
        sizes = vote["class_counts"]
        if row["num_correct"]:
            assert sizes[place] == row["num_correct"]
            kind = "sampled"
        elif row["greedy_right"]:
            assert place == vote["greedy_class"] == len(sizes)
            kind = "greedy only"
        else:
            assert place == NONE
            kind = "none"
        seen.add(kind)
        if row["vote_right"]:
            assert place == 0
        assert row["greedy_right"] == (place == vote["greedy_class"] != -1)
    assert {"sampled", "none"} <= seen


def test_the_model_is_stored_and_checked_out_of_fold(run) -> None:
    rows = list(rows_of(run, "evidence").values())
    facts, model = run.stage_facts("calibrate")["vote_model"], readings.vote_model(run)
    assert model.num_labels == facts["num_labels"] == len(rows) == 40
    assert list(model.names) == readings.trace_estimators(run)
    assert model.names[0] == "peak_count"
    assert facts["values"]["gamma"] == pytest.approx(model.values[0], abs=1e-4)
    voted = [
        row["vote"] for row in rows_of(run, "triage").values() if row["vote_share"] is not None
    ]
    assert facts["check"]["num"] == check_votes(rows, voted)["num"]
    assert facts["check"]["log_loss"] == check_votes(rows, voted)["log_loss"]
    assert all(0 <= row["predicted"] <= 1 for row in rows)
    assert [row["predicted"] for row in rows] != [row["predicted_by_votes"] for row in rows]
    routes = rows_of(run, "triage", "triage")
    votes = np.array([routes[row["question_id"]]["vote"] for row in rows])
    apart = np.abs(votes - [row["predicted"] for row in rows])
    assert 0 < apart.mean() < 0.1  # the fit of all labels is near the fits without a fold


def test_probes_are_drawn_with_the_chances_that_are_stored(run) -> None:
    ids, scores = readings.driving_scores(run)
    order = rank_order(scores)
    value = value_before_labels(run)
    assert ((value >= 0) & (value <= 0.25)).all() and value[11] == 0  # 11 has failed
    chances = inclusion_chances(value[order] + LEAST_VALUE, 40)
    by_id = {ids[i]: chance for i, chance in zip(order, chances, strict=True)}
    for question_id, row in rows_of(run, "probes").items():
        assert row["chance"] == pytest.approx(by_id[question_id])


def test_calibration_repeats_and_reads_no_answer_beyond_its_labels(run, tmp_path) -> None:
    other = report_run.make_run(tmp_path / "other", "sample")
    bought = set(rows_of(run, "probes"))
    pool = other.read_table("pool", "run")
    told = [
        row["answer"] if row["id"] in bought else "1234567"
        for row in pool.select(["id", "answer"]).to_pylist()
    ]
    place = pool.schema.get_field_index("answer")
    other.write_table("pool", pool.set_column(place, "answer", pa.array(told)))
    for stage in (calibrate, triage):
        stage.run(other)
    model = readings.VOTE_MODEL
    assert (other.round_path / model).read_bytes() == (run.round_path / model).read_bytes()
    for name in ("probes", "evidence", "calibration", "triage"):
        one, two = (r.table_path(name).read_bytes() for r in (run, other))
        assert one == two, name


def test_a_run_without_labels_has_no_model(tmp_path) -> None:
    none = {"labels": {"budget": 0}, "calibrate": {"num_probes": None}}
    run = report_run.make_run(tmp_path / "run", "triage", **none)
    assert readings.vote_model(run) is None
    assert run.stage_facts("calibrate")["vote_model"] is None
    assert set(rows_of(run, "triage", "triage")["q-0000"]) >= {"vote", "label_gain"}
    told = list(notes(run))
    assert any("nothing is known of its vote" in note for note in told)


def test_a_model_of_another_version_is_refused_with_the_cure(tmp_path) -> None:
    run = report_run.make_run(tmp_path / "run", "triage")
    path = run.round_path / readings.VOTE_MODEL
    stored = read_json(path)
    write_json(path, stored | {"values": stored["values"][1:]})
    with pytest.raises(RunDirError, match=f"another version.* pivottrace redo {run.path} calibr"):
        readings.vote_model(run)


def test_an_empty_weak_route_and_questions_put_off_say_why(tmp_path) -> None:
    run = report_run.make_run(
        tmp_path / "run", "triage", triage={"least_gain": 0.24}, labels={"budget": 0.26}
    )
    assert run.stage_facts("triage")["counts"]["weak"] == 0
    told = list(notes(run))
    assert any("no question is trained on its own vote" in n and "0.24" in n for n in told)
    floor = report_run.make_run(
        tmp_path / "floor",
        "triage",
        triage={"vote_floor": 0.99, "vote_alpha": 0.01},
        calibrate={"num_probes": 24, "draw": "systematic"},
    )
    told = list(notes(floor))
    assert any("do not prove triage.vote_floor = 0.99" in note for note in told)
    unreliable = "votes as risky as this one are not proven reliable"
    assert any("are put off" in note and unreliable in note for note in told)
    page = build_report(floor, unfinished(floor), report_run.decode).read_text()
    assert unreliable in page


def test_votes_without_a_place_in_training_say_so(tmp_path) -> None:
    few = {"steps": 5, "questions_per_step": 4}  # 20 questions: 5 rows seen four times
    run = report_run.make_run(tmp_path / "run", "triage", train=few, labels={"budget": 0.26})
    facts = run.stage_facts("triage")
    assert facts["most_rows"] == 5 < facts["counts"]["annotate"]
    assert facts["counts"]["weak"] == 0 < facts["put_off"]["defer_no_place"]
    told = list(notes(run))
    assert any("no place beside the labelled questions" in n and "up to 5 rows" in n for n in told)
    page = build_report(run, unfinished(run), report_run.decode).read_text()
    assert "have all places (triage.most_rows)" in page
    assert "votes find no place beside the labelled questions" in page


def test_most_rows_overrides_the_steps(tmp_path) -> None:
    settings = {"train": {"steps": 5}, "labels": {"budget": 0.26}, "triage": {"most_rows": 10_000}}
    run = report_run.make_run(tmp_path / "run", "triage", **settings)
    assert run.stage_facts("triage")["most_rows"] == 10_000
    assert run.stage_facts("triage")["counts"]["weak"] > 0


def test_the_report_shows_predicted_against_observed(run) -> None:
    page = build_report(run, unfinished(run), report_run.decode).read_text()
    assert "predicted chance that the vote is right" in page
    assert "samples and trace" in page and "samples alone" in page
