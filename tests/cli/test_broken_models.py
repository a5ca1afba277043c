"""Broken model folders through the real commands: one line before anything is asked of the model.

Each is the embedded reasoner with one change.
"""

import json
import shutil
from importlib.resources import files

import pytest
import torch
from safetensors.torch import load_file, save_file

from pivottrace.cli import main
from pivottrace.models import template_trial

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
EMBEDDINGS, LAYER = "model.embed_tokens.weight", "model.layers.2.mlp.up_proj.weight"
NORM = "model.norm.weight"


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "model"
    shutil.copytree(str(files("pivottrace.world") / "reasoner"), path)
    return path


@pytest.fixture
def refused(tmp_path, capsys, folder):
    """Call a command with the model, and return the one line that it ends with."""

    def call(command):
        arguments = ["--questions", "world:default?num=4", "--labels.source", "oracle"]
        arguments += ["--rollouts.max-new-tokens", "32", "--train.max-new-tokens", "32"]
        until = ["--until", "greedy"] if command == "run" else []
        output = ["--output", str(tmp_path / "run"), "--model", str(folder)]
        assert main([command, *arguments, *output, *until]) == 2
        errors = capsys.readouterr().err.splitlines()
        assert not list(tmp_path.glob("run/rounds/00/*/*"))
        assert [line for line in errors if line[:2] != "· "] == errors[-1:]
        assert errors[-1].startswith(f"error: {folder}: ")
        return errors[-1]

    return call


def set_config(folder, **values):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def set_tensors(folder, change):
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


def set_number(folder, name, number):
    set_tensors(folder, lambda tensors: tensors[name].view(-1)[0].fill_(number))


def set_index(folder, content):
    (folder / WEIGHTS).rename(folder / "weights.safetensors")
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / INDEX).write_text(text)


def fewer_rows(folder):
    """Weights and config.json agree, and the tokenizer has 20 tokens more."""
    set_config(folder, vocab_size=1004)

    def change(tensors):
        tensors[EMBEDDINGS] = tensors[EMBEDDINGS][:1004].contiguous()

    set_tensors(folder, change)


def outside(folder):
    name = f"../{WEIGHTS}"
    set_index(folder, {"weight_map": dict.fromkeys(load_file(folder / WEIGHTS), name)})
    (folder / "weights.safetensors").rename(folder / name)


def cut(folder):
    weights = folder / WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-1000])


CASES = {
    "a tensor is missing": (
        lambda f: set_tensors(f, lambda tensors: tensors.pop(LAYER)),
        f"the weights lack the tensor '{LAYER}' of a Qwen3ForCausalLM. Copy or save them again",
    ),
    "a layer is missing": (
        lambda f: set_config(f, num_hidden_layers=5, layer_types=["full_attention"] * 5),
        "the weights lack the tensor 'model.layers.4.input_layernorm.weight' and 10 more",
    ),
    "the embeddings are missing": (
        lambda f: set_tensors(f, lambda tensors: tensors.pop(EMBEDDINGS)),
        "the weights lack the tensor 'lm_head.weight' and 1 more",
    ),
    "a layer too many": (
        lambda f: set_config(f, num_hidden_layers=3, layer_types=["full_attention"] * 3),
        "have the tensor 'model.layers.3.input_layernorm.weight' and 10 more, which a Qwen3ForCau",
    ),
    "a tensor too many": (
        lambda f: set_tensors(f, lambda tensors: tensors.update(v_head=torch.zeros(3))),
        "the weights have the tensor 'v_head', which a Qwen3ForCausalLM with this config.json does",
    ),
    "another shape": (
        lambda f: set_config(f, vocab_size=1000),
        f"'{EMBEDDINGS}' has the shape [1024, 128], and config.json makes it [1000, 128]. Put",
    ),
    "NaN": (
        lambda f: set_number(f, NORM, float("nan")),
        f"the tensor '{NORM}' holds NaN or infinity. Copy the weights again",
    ),
    "infinity": (
        lambda f: set_number(f, LAYER, float("-inf")),
        f"the tensor '{LAYER}' holds NaN or infinity. Copy the weights again",
    ),
    "fewer rows than tokens": (
        fewer_rows,
        "with id 1023, and the model has only 1004 embeddings (vocab_size). Put the tokenizer",
    ),
    "a field of another type": (
        lambda f: set_config(f, hidden_size="big"),
        "config.json cannot be used: Field 'hidden_size' expected int, got str (value: 'big'). Co",
    ),
    "a field of another name": (
        lambda f: set_config(f, hidden_act="nosuch"),
        "the model cannot be loaded: KeyError: 'nosuch'. Check config.json",
    ),
    "fields that do not go together": (
        lambda f: set_config(f, num_attention_heads=0),
        "the model cannot be loaded: ZeroDivisionError: integer division or modulo by zero. Check",
    ),
    "another dtype": (
        lambda f: set_config(f, dtype="float17"),
        "config.json cannot be used: module 'torch' has no attribute 'float17'. Correct it",
    ),
    "no JSON": (
        lambda f: (f / "config.json").write_text("{"),
        "config.json cannot be used: It looks like the config file at",
    ),
    "no config.json": (
        lambda f: (f / "config.json").unlink(),
        "config.json is missing. Save the model there with model.save_pretrained",
    ),
    "a file outside": (outside, f"names '../{WEIGHTS}', a file outside the model folder. Put all"),
    "a list as index": (lambda f: set_index(f, [1]), "it has no weight_map from tensors to files"),
    "numbers in the index": (
        lambda f: set_index(f, {"weight_map": {NORM: 3}}),
        "it has no weight_map from tensors to files. Save the model again",
    ),
    "an index that is no JSON": (lambda f: set_index(f, "{"), f"{INDEX} cannot be used: Expecting"),
    "a file of the index is missing": (
        lambda f: set_index(f, {"weight_map": {NORM: "part-1.safetensors"}}),
        "part-1.safetensors is missing. Save the model's weights",
    ),
    "cut weights": (cut, "the weights are torn: "),
    "no weights": (lambda f: (f / WEIGHTS).unlink(), f"{WEIGHTS} is missing. Save the model's"),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), "has no tokenizer (tokenizer.json"),
    "a tokenizer that is no JSON": (
        lambda f: (f / "tokenizer.json").write_text("{"),
        "the tokenizer cannot be loaded: Expecting property name",
    ),
    "a tokenizer of another kind": (
        lambda f: (f / "tokenizer.json").write_text('{"added_tokens": [], "model": {"type": 3}}'),
        "the tokenizer cannot be loaded: ",
    ),
}


@pytest.mark.parametrize("command", ["validate", "run"])
@pytest.mark.parametrize("name", CASES)
def test_a_broken_folder_is_refused_in_one_line(folder, refused, name, command):
    change, words = CASES[name]
    change(folder)
    assert words in refused(command)


@pytest.mark.parametrize("command", ["validate", "run"])
def test_a_chat_template_has_a_time_limit(folder, refused, monkeypatch, command):
    """This one ends by itself after about a second."""
    loop = "{% for a in range(4000) %}{% for b in range(4000) %}{% endfor %}{% endfor %}"
    (folder / "chat_template.jinja").write_text(loop + "{{ messages[0]['content'] }}")
    monkeypatch.setattr(template_trial, "SECONDS", 0.05)
    assert "the chat template takes more than 0.05 s for one question. Put" in refused(command)


def test_tied_weights_and_old_buffers_are_no_fault(folder):
    """Such files are common: a head that is saved although it is tied, and rotary frequencies."""

    def change(tensors):
        tensors["lm_head.weight"] = tensors[EMBEDDINGS].clone()
        tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.zeros(16)

    set_tensors(folder, change)
    limits = ["--rollouts.max-new-tokens", "32", "--train.max-new-tokens", "32"]
    source = ["--questions", "world:default?num=4", "--labels.source", "oracle"]
    assert main(["validate", *source, *limits, "--model", str(folder)]) == 0
