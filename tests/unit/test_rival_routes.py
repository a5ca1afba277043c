"""The oracle's triage leaves what the stages leave, so that nothing after it can tell."""

import report_run

from pivottrace.experiments.rival_routes import (
    route_by_truth,
    route_by_votes,
    route_triage_labelled,
)
from pivottrace.labels.budget import bought
from pivottrace.run.directory import RunDir
from pivottrace.stages import label

VERIFIER_FACTS = {"verifier_timeouts", "verifier_crashes"}


def test_the_oracle_records_every_fact_of_the_stages_that_it_stands_for(tmp_path):
    usual = report_run.make_run(tmp_path / "usual", "triage")
    by_truth = report_run.make_run(tmp_path / "oracle", "sample")
    route_by_truth(by_truth)
    facts = by_truth.stage_facts("calibrate")
    assert facts.keys() == usual.stage_facts("calibrate").keys() - VERIFIER_FACTS
    assert (facts["estimator"], facts["num_probes"], facts["labels_used"]) == ("oracle", 0, 0)
    assert by_truth.stage_facts("triage").keys() == usual.stage_facts("triage").keys()
    counts = by_truth.stage_facts("triage")["counts"]
    assert by_truth.stage_facts("triage")["labels_planned"] == counts["annotate"] > 0
    for name in ("probes", "evidence", "calibration", "triage"):
        table = by_truth.read_table(name, made_by="triage")
        assert table.schema == usual.read_table(name, made_by="triage").schema
    route_by_truth(by_truth)  # done already: nothing is written
    assert by_truth.stage_facts("calibrate") == facts


def test_the_bare_rule_labels_the_lowest_shares_and_trains_on_other_split_votes(tmp_path):
    run = report_run.make_run(tmp_path, "sample")
    route_by_votes(run)
    votes = run.read_table("votes", made_by="sample").to_pylist()
    rows = run.read_table("triage", made_by="triage").to_pylist()
    share = {v["question_id"]: v["vote_share"] for v in votes if v["vote_reason"] == "ok"}
    by_route = {}
    for row, vote in zip(rows, votes, strict=True):
        if vote["failure"] is None:
            own = share.get(row["question_id"], 0.0)
            by_route.setdefault(row["route"], []).append((own, row["pseudo_label"]))
    assert len(by_route["annotate"]) == int(0.3 * len(rows))
    highest = max(own for own, _ in by_route["annotate"])
    assert all(highest <= own < 1 and vote is not None for own, vote in by_route["weak"])
    assert {own for own, _ in by_route["discard"]} == {1.0}
    assert {row["weight"] for row in rows if row["route"] in ("annotate", "weak")} == {1.0}


def test_the_rows_that_the_triage_keeps_can_all_be_labelled(tmp_path):
    usual = report_run.make_run(tmp_path / "usual", "triage")
    num_probes = usual.read_table("probes", "calibrate").num_rows
    labelled = report_run.make_run(
        tmp_path / "labelled",
        "sample",
        labels={"budget": 1.0},
        triage={"annotate_fraction": 0.3},
        calibrate={"num_probes": num_probes},
    )
    route_triage_labelled(labelled)
    RunDir.create(labelled.config)  # its settings are those that it was routed under
    with labelled.locked():
        label.run(labelled)
    assert len(bought(labelled)) == labelled.stage_facts("triage")["labels_planned"]
    mine, theirs = (
        {row["question_id"]: row for row in run.read_table("triage", "triage").to_pylist()}
        for run in (labelled, usual)
    )
    kept = ("annotate", "weak")
    was_weak = [i for i, row in theirs.items() if row["route"] == "weak"]
    assert was_weak
    for question_id, row in theirs.items():
        assert (mine[question_id]["route"] == "annotate") == (row["route"] in kept)
    assert {mine[i]["weight"] for i in was_weak} == {1.0}
    assert {mine[i]["pseudo_label"] for i in was_weak} == {None}
