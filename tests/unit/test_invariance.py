"""Batch size must not change a result: greedy tokens, pivots and routes on the embedded model."""

import numpy as np
import pytest

from pivottrace.estimators import ESTIMATORS
from pivottrace.pipeline import run_step
from pivottrace.run import readings

STAGES = ("pool", "greedy", "trace", "score", "sample", "calibrate", "triage")


def finish(run):
    for stage in STAGES:
        run_step(run, stage)
    return run


@pytest.mark.slow
def test_batch_sizes_1_7_64_agree(make_run, capsys):
    reference = finish(make_run("b64", rollouts={"batch_size": 64}, trace={"batch_size": 64}))
    tokens = reference.read_parts("rollouts_greedy", "greedy", ["question_id", "tokens"])
    scores = reference.read_table("scores", made_by="score")
    routes = reference.read_table("triage", made_by="triage")
    for size in (1, 7):
        run = make_run(f"b{size}", rollouts={"batch_size": size}, trace={"batch_size": size})
        for stage in ("pool", "greedy", "trace", "score"):
            run_step(run, stage)
        assert run.read_parts("rollouts_greedy", "greedy", ["question_id", "tokens"]).equals(tokens)
        # Sampled rollouts draw from one stream a batch; triage is compared on the same samples.
        (run.round_path / "rollouts_sampled").mkdir()
        for path in (reference.round_path / "rollouts_sampled").glob("*.parquet"):
            (run.round_path / "rollouts_sampled" / path.name).write_bytes(path.read_bytes())
        for stage in STAGES[4:]:
            run_step(run, stage)
        mine = run.read_table("scores", made_by="score")
        for column in ("onsets", "peaks", "onset_density", "peak_count", "question_onset_density"):
            assert mine[column].equals(scores[column]), column
        for name, theirs in readings.estimator_scores(reference, list(ESTIMATORS)).items():
            ours = readings.estimator_scores(run, [name])[name]
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5, err_msg=name)
        table = run.read_table("triage", made_by="triage")
        for column in ("question_id", "route", "reason", "rank"):
            assert table[column].equals(routes[column]), column
    margin = reference.stage_facts("score")["smallest_top2_margin"]
    with capsys.disabled():
        print(f"\nsmallest top-two logit margin over the greedy traces: {margin:.2e}")
    assert margin > 0
