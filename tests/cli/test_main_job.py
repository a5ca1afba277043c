"""The main job through the real command, on the embedded model."""

import json

import pyarrow.parquet as pq
import pytest

from pivottrace.cli import main
from pivottrace.run.directory import RunDir

pytestmark = pytest.mark.slow
SMALL = [
    "--rollouts.num-samples",
    "4",
    "--rollouts.max-new-tokens",
    "128",
    "--train.steps",
    "2",
    "--train.max-new-tokens",
    "128",
    "--train.learning-rate",
    "1e-4",
]


def test_the_whole_way_and_again(tmp_path, capsys):
    arguments = [
        "run",
        "--output",
        str(tmp_path / "run"),
        "--questions",
        "world:default?num=24&seed=3",
        "--evaluation",
        "world:default?split=evaluation&num=12",
        "--labels.source",
        "oracle",
        "--budget",
        "0.5",
        *SMALL,
    ]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "of 24 questions, " in printed
    assert "of 12 used" in printed and "responses on the pool" in printed
    assert "held-out" in printed
    assert printed.strip().endswith("report.html")

    run = RunDir.open(tmp_path / "run")
    triage = run.read_table("triage", made_by="triage").to_pylist()
    assert len(triage) == 24
    assert all(row["route"] and row["reason"] for row in triage)
    routed = [
        json.loads(line)["id"]
        for path in sorted((run.round_path / "routes").glob("*.jsonl"))
        for line in path.read_text().splitlines()
    ]
    assert sorted(routed) == sorted(row["question_id"] for row in triage)
    # The oracle answers only what it is asked: the pool has no answers.
    assert run.read_table("pool", made_by="run")["answer"].null_count == 24

    written = {p: p.stat().st_mtime_ns for p in run.path.rglob("*.parquet")}
    assert main(arguments) == 0
    assert written == {p: p.stat().st_mtime_ns for p in run.path.rglob("*.parquet")}


def test_people_label_and_the_run_goes_on(tmp_path, capsys):
    questions = tmp_path / "pool.jsonl"
    answers = {}
    with questions.open("w") as file:
        for i in range(6):
            text = f"Tom has {20 + i} coins in a jar. Tom spends {5 + i} coins on a hat. "
            answers[f"q{i}"] = "15"
            file.write(json.dumps({"id": f"q{i}", "prompt": text + f"How many coins {i}?"}) + "\n")
    arguments = [
        "run",
        "--output",
        str(tmp_path / "run"),
        "--questions",
        str(questions),
        "--labels.source",
        "file",
        "--budget",
        "1.0",
        "--calibrate.num-probes",
        "6",
        *SMALL,
    ]
    assert main(arguments) == 3
    waiting = capsys.readouterr().err
    assert "6 probe questions wait for true answers" in waiting
    assert f"pivottrace label import {tmp_path / 'run'}" in waiting

    table = tmp_path / "run" / "probes_to_label.csv"
    filled = tmp_path / "filled.csv"
    filled.write_text("id,answer\n" + "".join(f"{i},{a}\n" for i, a in answers.items()))
    assert table.read_text().count("\n") >= 7

    stranger = tmp_path / "stranger.csv"
    stranger.write_text("id,answer\nnobody,3\n")
    assert main(["label", "import", str(tmp_path / "run"), str(stranger)]) == 2
    assert "nobody" in capsys.readouterr().err

    assert main(["label", "import", str(tmp_path / "run"), str(filled)]) == 0
    assert main(arguments) == 0
    labels = pq.read_table(RunDir.open(tmp_path / "run").table_path("evidence"))
    assert len(labels) == 6


def test_a_random_model_on_gsm8k_ends_the_run_with_the_cause(tmp_path, gsm8k, capsys):
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    from pivottrace.config import ModelConfig
    from pivottrace.models.load import load_tokenizer

    tokenizer = load_tokenizer(ModelConfig())
    torch.manual_seed(0)
    model = Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=3,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=8,
            max_position_embeddings=2048,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    path = str(tmp_path / "run")
    arguments = ["run", "--output", path, "--model", str(tmp_path / "model")]
    arguments += ["--questions", str(gsm8k), "--pool.limit", "20", "--rollouts.num-samples", "4"]
    arguments += ["--rollouts.max-new-tokens", "24", "--train.max-new-tokens", "24"]
    for command in (arguments, ["run", path]):
        assert main(command) == 1
        error = capsys.readouterr().err.splitlines()[-1]
        assert error.startswith("error: no question can be used, because ")
        assert "responses were cut at rollouts.max_new_tokens = 24 before an answer: raise" in error
    run = RunDir.open(tmp_path / "run")
    assert (run.path / "report.html").is_file()
    assert run.is_done("greedy") and not run.begun_facts("trace")
    # The stages after it take such a pool all the same, one by one.
    for command, code in {"trace": 0, "score": 0, "sample": 1, "calibrate": 0, "triage": 0}.items():
        assert main([command, path]) == code
    triage = run.read_table("triage", made_by="triage").to_pylist()
    assert {row["route"] for row in triage} == {"defer"}
    assert {row["reason"] for row in triage} <= {"failed_truncated", "failed_no_answer"}
    assert not run.stage_facts("calibrate")["num_probes"]
