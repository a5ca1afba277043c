"""The main job on a `.gguf` file in a Python package, through the real commands."""

import pytest

pytest.importorskip("gguf", reason="pip install 'pivottrace[gguf]'")

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "unit"))

import pyarrow.parquet as pq
from gguf_files import write_gguf
from huggingface_hub import constants

from pivottrace.cli import main

SETTINGS = {
    "pool.questions": "world:default?num=40",
    "pool.evaluation": "world:default?num=8&seed=9",
    "labels.source": "oracle",
    "labels.budget": "16",
    "rollouts.num-samples": "8",
    "rollouts.max-new-tokens": "96",
    "train.steps": "2",
    "train.max-new-tokens": "32",
    "train.questions-per-step": "2",
    "train.beta": "0.01",  # TRL loads the reference model by the model's own name
    "evaluate.num-samples": "1",
    "model.device": "cpu",
}
NAME = "package:gguf_carrier/reasoner.gguf"


@pytest.fixture
def arguments(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    folder = tmp_path / "site" / "gguf_carrier"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("raise RuntimeError('imported')")
    write_gguf(folder / "reasoner.gguf")
    given = [word for name, value in SETTINGS.items() for word in (f"--{name}", value)]
    return [*given, "--model.path", NAME, "--output", str(tmp_path / "run")]


def test_validate_says_what_a_file_costs(arguments, tmp_path, capsys):
    assert main(["validate", *arguments]) == 0
    said = capsys.readouterr()
    assert said.err.count("is dequantised once, into") == 1
    line = next(line for line in said.out.splitlines() if line.startswith("model: "))
    assert line.startswith(f"model: {NAME} on cpu, weights of 3.3 MB in {tmp_path}/cache/")
    assert line.endswith(", dequantised from 3.3 MB")


@pytest.mark.slow
def test_a_run_is_that_of_the_same_model_as_a_folder(arguments, tmp_path, capsys):
    assert main(["run", *arguments]) == 0
    run, embedded = tmp_path / "run", tmp_path / "embedded"
    other = [*arguments, "--model.path", "embedded", "--output", str(embedded), "--until", "score"]
    assert main(["run", *other]) == 0
    for name in ("rollouts_greedy/part-00000", "signals/part-00000", "scores"):
        one, two = (pq.read_table(f / "rounds" / "00" / f"{name}.parquet") for f in (run, embedded))
        assert one.equals(two), name
    trained = run / "rounds" / "00" / "train" / "model"
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {
        path.name for path in trained.iterdir()
    }
    assert "base_model:" not in (trained / "README.md").read_text()
    again = ["--model.path", str(trained), "--output", str(tmp_path / "again")]
    assert main(["validate", *arguments, *again]) == 0
    assert main(["export", str(run), "--to", "verl", "--out", str(tmp_path / "verl")]) == 0
    script = (tmp_path / "verl" / "train.sh").read_text()
    assert f"MODEL=${{MODEL:-{tmp_path}/cache/pivottrace/reasoner-" in script
    capsys.readouterr()
