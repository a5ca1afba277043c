"""Broken model folders: `validate` and `run` refuse each before anything is asked of the model.

Each is the embedded reasoner with one change. All are harmless: the template that takes too long
ends by itself after about a second, and foreign code would only make a folder.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from safetensors.torch import load_file, save_file

from faults_bench import Bench, Row, call, unclear
from pivottrace.models import template_trial

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
EMBEDDINGS, LAYER = "model.embed_tokens.weight", "model.layers.2.mlp.up_proj.weight"
NORM = "model.norm.weight"
SHORT_S = 0.2  # in place of ten seconds, for the template that takes one
SLOW = "{% for a in range(4000) %}{% for b in range(4000) %}{% endfor %}{% endfor %}"
SOURCE = ("--questions", "world:default?num=4", "--labels.source", "oracle")
LIMITS = ("--rollouts.max-new-tokens", "32", "--train.max-new-tokens", "32")

Tensors = dict[str, torch.Tensor]


def change_config(folder: Path, **values: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def change_tensors(folder: Path, change: Callable[[Tensors], object]) -> None:
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


def without_a_third(folder: Path) -> None:
    def change(tensors: Tensors) -> None:
        for name in sorted(tensors)[2::3]:
            del tensors[name]

    change_tensors(folder, change)


def fewer_embeddings(folder: Path) -> None:
    """Weights and config.json agree, and the tokenizer has 20 tokens more."""

    def change(tensors: Tensors) -> None:
        tensors[EMBEDDINGS] = tensors[EMBEDDINGS][:1004].contiguous()

    change_tensors(folder, change)
    change_config(folder, vocab_size=1004)


def weights_outside(folder: Path) -> None:
    outside = f"../{folder.name}-outside.safetensors"
    names = dict.fromkeys(load_file(folder / WEIGHTS), outside)
    (folder / WEIGHTS).rename(folder / outside)
    (folder / INDEX).write_text(json.dumps({"weight_map": names}))


def cut(folder: Path) -> None:
    path = folder / WEIGHTS
    path.write_bytes(path.read_bytes()[:-1000])


def one_number(name: str, number: float) -> Callable[[Path], None]:
    def change(tensors: Tensors) -> None:
        tensors[name].view(-1)[0] = number

    return lambda folder: change_tensors(folder, change)


def slow_template(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text(SLOW + "{{ messages[0]['content'] }}")


def own_code(folder: Path) -> None:
    """A model class of the folder's own, which would make a folder if it ran."""
    (folder / "own.py").write_text(
        f"import os\nos.mkdir({str(folder / 'ran')!r})\nclass Own: ...\n"
    )
    names = {"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.Own"}
    change_config(folder, model_type="own", auto_map=names)


class Marker:
    """An object that would make a folder where somebody unpickles it."""

    def __init__(self, folder: Path) -> None:
        self.place = str(folder / "ran")

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.place,)


def pickled(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    torch.save({EMBEDDINGS: Marker(folder)}, folder / "pytorch_model.bin")


# Name → how to break the folder, and a word that the refusal has beside the folder's name.
CASES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a third of the tensors is missing": (without_a_third, "the weights lack the tensor '"),
    "a tensor is missing": (
        lambda f: change_tensors(f, lambda tensors: tensors.pop(LAYER)),
        f"'{LAYER}'",
    ),
    "a layer too many": (lambda f: change_config(f, num_hidden_layers=3), "layer"),
    "NaN": (one_number(NORM, float("nan")), f"'{NORM}' holds NaN"),
    "infinity": (one_number(LAYER, float("inf")), f"'{LAYER}' holds NaN or infinity"),
    "a vocabulary of another size": (lambda f: change_config(f, vocab_size=1000), EMBEDDINGS),
    "fewer embeddings than tokens": (fewer_embeddings, "vocab_size"),
    "a text in place of a number": (lambda f: change_config(f, hidden_size="big"), "hidden_size"),
    "no attention heads": (lambda f: change_config(f, num_attention_heads=0), "config.json"),
    "no config.json": (lambda f: (f / "config.json").unlink(), "config.json is missing"),
    "weights outside the folder": (weights_outside, "outside the model folder"),
    "cut weights": (cut, "the weights are torn"),
    "no weights": (lambda f: (f / WEIGHTS).unlink(), f"{WEIGHTS} is missing"),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), "tokenizer.json"),
    "a slow template": (slow_template, "chat template"),
    "code of its own": (own_code, "custom code"),
    "pickled weights": (pickled, WEIGHTS),
}


def broken_folders(bench: Bench) -> Iterator[Row]:
    """Each folder is refused in one line that names the tensor, the file or the field."""
    whole, failed = str(files("pivottrace.world") / "reasoner"), []
    for number, (name, (change, word)) in enumerate(CASES.items()):
        folder, output = bench.folder / f"model-{number}", bench.folder / f"model-run-{number}"
        shutil.copytree(whole, folder)
        change(folder)
        limit = SHORT_S if change is slow_template else template_trial.SECONDS
        for command, until in (("validate", ()), ("run", ("--until", "greedy"))):
            arguments = (*SOURCE, *LIMITS, "--output", output, "--model", folder)
            with patch.object(template_trial, "SECONDS", limit):
                code, told = call(command, *arguments, *until)
            fault = unclear(code, told)
            if not fault and (code != 2 or str(folder) not in told or word not in told):
                fault = f"code {code}: {told[-300:]}"
            if not fault and list(output.glob("rounds/00/*/*")):
                fault = "something was asked of the model"
            if (folder / "ran").exists():
                fault = "code of the folder ran"
            failed += [f"{name}, {command}: {fault}"] if fault else []
        shutil.rmtree(folder)
    note = f"{len(CASES)} folders; by `validate` and by `run`; foreign code did not run"
    yield Row("broken model folders", 2 * len(CASES), failed, note)


ROWS = (broken_folders,)
