"""The oracle's triage leaves what the stages leave, so that nothing after it can tell."""

import report_run

from pivottrace.experiments.rival_routes import route_by_truth

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
