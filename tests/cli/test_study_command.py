"""`pivottrace study` through the real command, on two small pools of the embedded world."""

import csv
import json

import numpy as np
import pytest

from pivottrace.cli import main
from pivottrace.ingest.questions import read_questions
from pivottrace.run.directory import RunDir
from pivottrace.study.far_mass import Tracer
from pivottrace.study.pivot_scores import PivotSettings, pivot_scores

SMALL = [
    "--rollouts.num-samples",
    "4",
    "--rollouts.max-new-tokens",
    "128",
    "--train.enabled",
    "false",
    "--study.truth-samples",
    "4",
    "--study.resamples",
    "50",
]


def write_pool(folder, name, questions, source="oracle"):
    path = folder / f"{name}.toml"
    path.write_text(
        f'output = "{folder / name}"\n[pool]\nquestions = "{questions}"\n'
        f'[labels]\nsource = "{source}"\n'
    )
    return str(path)


@pytest.mark.slow
def test_two_pools_and_again(tmp_path, capsys):
    pools = [
        write_pool(tmp_path, f"p{s}", f"world:default?split=development&num=16&seed={s}")
        for s in (3, 4)
    ]
    arguments = ["study", *pools, *SMALL, "--output", str(tmp_path / "out")]
    assert main([*arguments, "--grid"]) == 0
    assert "report results on other questions" in capsys.readouterr().err
    results = json.loads((tmp_path / "out" / "study.json").read_text())
    estimators = results["estimators"]
    assert [p["num_questions"] for p in results["pools"]] == [16, 16]
    assert {"onset_density", "consistency", "random", "oracle"} <= estimators.keys()
    assert estimators["oracle"]["spearman"]["value"] == pytest.approx(-1)
    assert estimators["length"]["spearman_given_length"]["value"] is None
    assert estimators["consistency"]["inferences"] == 4
    assert estimators["consistency"]["seconds"] > 0
    assert len(results["sensitivity"][0]["rows"]) == 9
    with (tmp_path / "out" / "grid.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len({tuple(list(row.values())[2:]) for row in rows}) == 2700
    page = (tmp_path / "out" / "study.md").read_text()
    assert "Re-checking was built into the world" in page
    assert "| p3 | whole pool | 16 | " in page and "| p4 | whole pool | 16 | " in page
    assert "| ψ 20 % | 0.812 |" in page
    assert "<svg" in (tmp_path / "out" / "study.svg").read_text()

    # Nothing is sampled again, no label was bought, and the figures repeat.
    run = RunDir.open(tmp_path / "p3")
    assert not (run.path / "labels.sqlite").exists()
    written = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.parquet")}
    assert main(arguments) == 0
    assert written == {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.parquet")}
    again = json.loads((tmp_path / "out" / "study.json").read_text())
    assert again["advantages"] == results["advantages"]

    # A forced pass over the stored responses gives the scores that the run has.
    scores = run.read_table("scores", made_by="score")
    ids = scores["question_id"].to_pylist()
    tracer = Tracer(run, ids)
    signals = tracer.means([10], {(10, "run"): tracer.run_heads})[10, "run"]
    traced = pivot_scores(signals, ids, tracer.reference_ids, PivotSettings.of(run.config))
    for name, values in traced.items():
        assert np.allclose(values, scores[name].to_numpy(zero_copy_only=False)), name

    changed = ["study", *pools, *SMALL, "--study.truth-samples", "8"]
    assert main(changed) == 2
    assert "study.truth_samples: was 4, now 8" in capsys.readouterr().err


def test_questions_without_answers_are_refused_before_the_model_is_loaded(tmp_path, capsys):
    file = tmp_path / "questions.jsonl"
    rows = [{"id": "a", "prompt": "1 + 1?", "answer": "2"}, {"id": "b", "prompt": "2 + 2?"}]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["study", write_pool(tmp_path, "p", file, "file")]) == 2
    assert "1 of 2 questions have an answer, and a study needs 16" in capsys.readouterr().err


@pytest.mark.slow
def test_a_half_labelled_pool(tmp_path, capsys):
    """Every second question has an answer, and nothing is asked about the others."""
    table = read_questions("world:default?split=development&num=36&seed=5")
    file = tmp_path / "half.jsonl"
    rows = [
        {"id": r["id"], "prompt": r["prompt"], "answer": r["answer"]} for r in table.to_pylist()
    ]
    for row in rows[1::2]:
        del row["answer"]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    pool = tmp_path / "half.toml"
    pool.write_text(f'output = "{tmp_path / "half"}"\n[pool]\nquestions = "{file}"\n')
    arguments = ["study", str(pool), *SMALL, "--labels.budget", "30"]
    assert main([*arguments, "--output", str(tmp_path / "out")]) == 0
    said = "half: 18 of 36 questions have an answer; the study is of these."
    assert f"verdict: {said}" in capsys.readouterr().out
    assert f"* **{said[0].upper()}{said[1:]}" in (tmp_path / "out" / "study.md").read_text()
    results = json.loads((tmp_path / "out" / "study.json").read_text())["pools"][0]
    assert (results["num_questions"], results["num_failed"], results["num_unanswered"]) == (
        18,
        0,
        18,
    )
    run, answered = RunDir.open(tmp_path / "half"), {row["id"] for row in rows[::2]}
    for name, stage in (("greedy", "greedy"), ("sampled", "sample"), ("truth", "truth")):
        made = run.read_parts(f"rollouts_{name}", stage, ["question_id"])
        assert set(made["question_id"].to_pylist()) == answered
    assert main(arguments) == 0
    assert main(["run", str(pool), "--until", "score"]) == 2
    assert "pool.only_answered: was True, now False" in capsys.readouterr().err


@pytest.mark.parametrize("split", ["evaluation", "held_out"])
def test_a_grid_on_questions_kept_for_reporting_is_refused(tmp_path, capsys, split):
    pool = write_pool(tmp_path, "p", f"world:default?split={split}&num=4")
    assert main(["study", pool, "--grid"]) == 2
    assert "reserved for reporting" in capsys.readouterr().err
    assert not (tmp_path / "p").exists()


def test_the_same_pool_twice_and_none_are_refused(tmp_path, capsys):
    pool = write_pool(tmp_path, "p", "world:default?num=4")
    assert main(["study", pool, pool]) == 2
    assert "give each its own `output`" in capsys.readouterr().err
    assert main(["study"]) == 2
    assert "needs a configuration" in capsys.readouterr().err
