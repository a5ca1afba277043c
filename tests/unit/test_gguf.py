"""A `.gguf` file is the model that its writer had, or it is refused."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from gguf_files import REASONER, gguf, reasoner_metadata, reasoner_tensors, write_gguf
from huggingface_hub import constants
from transformers import Qwen3Config

from pivottrace.config import ModelConfig
from pivottrace.errors import ConfigError, ModelError, OutOfDiskError
from pivottrace.models import gguf_folder
from pivottrace.models.digests import digests
from pivottrace.models.gguf_reading import _other_settings, read_gguf
from pivottrace.models.load import check_weights, load_model
from pivottrace.models.places import place_of

pytestmark = pytest.mark.usefixtures("one_thread")
EMBEDDINGS, LAYER = "token_embd.weight", "blk.2.ffn_up.weight"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "pivottrace"


def loaded(path):
    return load_model(ModelConfig(path=str(path), device="cpu"))


def test_the_same_weights_and_tokens_have_the_same_digests(tmp_path):
    embedded, tokenizer = load_model(ModelConfig(device="cpu"))
    model, its_tokenizer = loaded(write_gguf(tmp_path / "m.gguf"))
    ours, theirs = digests(embedded, tokenizer), digests(model, its_tokenizer)
    assert theirs["model_digest"] == ours["model_digest"]
    assert its_tokenizer.get_vocab() == tokenizer.get_vocab()
    text = "<|user|>Ann has 12 red apples.<|end|><|assistant|>"
    assert its_tokenizer(text)["input_ids"] == tokenizer(text)["input_ids"]
    assert its_tokenizer.chat_template == tokenizer.chat_template
    assert model.generation_config.eos_token_id == [1] and its_tokenizer.pad_token_id == 0
    assert model.config.tie_word_embeddings and model.dtype == torch.float32


@pytest.mark.parametrize("kind", ["F16", "Q8_0", "Q4_0", "Q4_1", "Q5_1"])
def test_weights_are_what_the_writers_own_package_unpacks(tmp_path, kind):
    model, _ = loaded(write_gguf(tmp_path / "m.gguf", kind=kind))
    wanted = gguf.GGMLQuantizationType[kind]
    stored = gguf.dequantize(gguf.quantize(reasoner_tensors()[LAYER], wanted), wanted)
    assert torch.equal(model.model.layers[2].mlp.up_proj.weight, torch.from_numpy(stored))


def test_a_folder_is_made_once_for_each_state_of_a_file(tmp_path, cache, capsys):
    path = write_gguf(tmp_path / "m.gguf")
    config = ModelConfig(path=str(path), device="cpu")
    folder = place_of(config)
    said = capsys.readouterr().err
    assert f"note: {path} is dequantised once, into {folder}: 3 MB become 3 MB" in said
    assert place_of(config) == folder and "dequantised" not in capsys.readouterr().err
    words = check_weights(config)
    assert words == f"weights of 3.3 MB in {folder}, dequantised from 3.3 MB"
    (cache / os.path.basename(folder) / "model.safetensors").write_bytes(b"cut")
    assert place_of(config) == folder and "dequantised" in capsys.readouterr().err
    write_gguf(path, kind="Q8_0")
    assert place_of(config) == folder and "1 MB become 3 MB" in capsys.readouterr().err
    assert len([p for p in cache.iterdir() if p.is_dir()]) == 1, "the old folder is gone"


def test_processes_that_want_a_folder_at_once_make_it_once(tmp_path):
    path = write_gguf(tmp_path / "m.gguf")
    code = (
        "import sys; from pivottrace.config import ModelConfig; "
        "from pivottrace.models.places import place_of; place_of(ModelConfig(path=sys.argv[1]))"
    )
    both = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(path)],
            env=os.environ | {"HF_HOME": str(tmp_path / "shared")},
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    said = [process.communicate()[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert "".join(said).count("is dequantised once") == 1


def test_every_token_that_ends_a_turn_ends_a_response(tmp_path):
    path = write_gguf(tmp_path / "m.gguf", metadata={"tokenizer.ggml.eot_token_id": 3})
    assert loaded(path)[0].generation_config.eos_token_id == [1, 3]


def test_digits_are_split_as_the_file_says(tmp_path):
    """Two spaces before a digit are one token then; transformers alone makes two of them."""
    tokens = [*reasoner_metadata()["tokenizer.ggml.tokens"]]
    tokens[-1] = "ĠĠ"
    merges = ["Ġ Ġ", *reasoner_metadata()["tokenizer.ggml.merges"][:-1]]
    values = {"tokenizer.ggml.tokens": tokens, "tokenizer.ggml.merges": merges}
    values["tokenizer.ggml.pre"] = "smollm"
    _, tokenizer = loaded(write_gguf(tmp_path / "m.gguf", metadata=values))
    assert tokenizer.tokenize("a  25 b") == ["a", "ĠĠ", "2", "5", "Ġb"]


@pytest.mark.parametrize("adds", [True, False])
def test_plain_text_begins_as_the_file_says(tmp_path, adds):
    values = {"tokenizer.ggml.bos_token_id": 2, "tokenizer.ggml.add_bos_token": adds}
    _, tokenizer = loaded(write_gguf(tmp_path / "m.gguf", metadata=values))
    assert (tokenizer("a")["input_ids"][0] == 2) == adds and tokenizer.bos_token == "<|system|>"
    assert tokenizer("a", add_special_tokens=False)["input_ids"] != [2]


def test_without_a_template_questions_are_plain_text(tmp_path):
    path = write_gguf(tmp_path / "m.gguf", metadata={"tokenizer.chat_template": None})
    assert loaded(path)[1].chat_template is None


def nan():
    array = reasoner_tensors()["output_norm.weight"].copy()
    array[0] = np.nan
    return {"output_norm.weight": array}


def more_tokens():
    """Eight tokens more than rows, as a converter leaves them that forgot to resize."""
    tokens = [*reasoner_metadata()["tokenizer.ggml.tokens"], *(f"more{i}" for i in range(8))]
    kinds = [*reasoner_metadata()["tokenizer.ggml.token_type"], *[1] * 8]
    return {
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": kinds,
        "qwen3.vocab_size": 1024,
    }


CASES = {
    "a tensor is missing": (
        {"tensors": {LAYER: None}},
        "it has too little for a Qwen3ForCausalLM: the tensor 'model.layers.2.mlp.up_proj.weight'",
    ),
    "a layer is missing": (
        {"metadata": {"qwen3.block_count": 5}},
        "it has too little for a Qwen3ForCausalLM: the tensor 'model.la",
    ),
    "a layer too many": (
        {"metadata": {"qwen3.block_count": 3}},
        r"it holds [\d,]+ numbers, and transformers reads [\d,]+ of them into a Qwen3ForCausalLM",
    ),
    "another shape": (
        {"metadata": {"qwen3.feed_forward_length": 256}},
        r"has the shape \[128, 320\], and its metadata make it \[128, 256\]",
    ),
    "NaN": ({"tensors": nan()}, "the tensor 'model.norm.weight' holds NaN or infinity"),
    "tokens without a row": (
        {"metadata": more_tokens()},
        "the token 'more7' with id 1031, and the model has only 1024 embeddings",
    ),
    "scaled positions": (
        {"metadata": {"qwen3.rope.scaling.type": "yarn"}},
        r"its positions are scaled \(yarn\), and transformers does not read that",
    ),
    "factors of positions": (
        {"tensors": {"rope_freqs.weight": np.ones(16, dtype=np.float32)}},
        r"its positions are scaled \(rope_freqs.weight\), and transformers does not",
    ),
    "heads that turn in part": (
        {"metadata": {"qwen3.rope.dimension_count": 16}},
        "its rope.dimension_count is 16, and transformers takes 32",
    ),
    "a window": (
        {"metadata": {"qwen3.attention.sliding_window": 64}},
        "its attention.sliding_window is 64, and transformers takes none",
    ),
    "an unknown split": (
        {"metadata": {"tokenizer.ggml.pre": "bloom"}},
        "splits texts by tokenizer.ggml.pre = 'bloom', which transformers does not know",
    ),
    "one of several parts": (
        {"metadata": {"split.count": 3}},
        "it is one of 3 parts of a model. Merge them with llama.cpp's llama-gguf-split --merge",
    ),
    "another architecture": (
        {"architecture": "clip"},
        "transformers cannot read it: GGUF model with architecture clip is not supported yet",
    ),
    "no tokenizer": (
        {"metadata": {"tokenizer.ggml.model": None, "tokenizer.ggml.tokens": None}},
        "transformers cannot read it: ",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_file_of_another_model_is_refused(tmp_path, cache, name):
    changes, words = CASES[name]
    path = write_gguf(tmp_path / "m.gguf", **changes)
    with pytest.raises(ModelError, match=f"{path}: .*{words}") as refused:
        loaded(path)
    assert "\n" not in str(refused.value)
    assert not list(cache.glob(".*.part"))


def test_settings_that_transformers_takes_from_elsewhere_are_named(tmp_path):
    reader = read_gguf(write_gguf(tmp_path / "m.gguf"), "m")
    same = Qwen3Config.from_pretrained(REASONER)
    assert list(_other_settings(reader, same)) == []
    rope = {"rope_type": "default", "rope_theta": 1e6}
    other = Qwen3Config(rope_parameters=rope, rms_norm_eps=1e-5, max_position_embeddings=1024)
    assert list(_other_settings(reader, other)) == [
        "its rope.freq_base is 10000, and transformers takes 1e+06",
        "its attention.layer_norm_rms_epsilon is 1e-06, and transformers takes 1e-05",
    ]


@pytest.mark.parametrize("share", [0.0, 0.0001, 0.01, 0.5, 0.999])
def test_a_cut_file_is_refused(tmp_path, share):
    path = write_gguf(tmp_path / "m.gguf")
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(ModelError, match=f"{path}: this is no whole GGUF file: .* download it ag"):
        loaded(path)


def test_places_that_are_no_gguf_file(tmp_path, monkeypatch):
    with pytest.raises(ModelError, match=r"no\.gguf: no such file\. .*hf download REPOSITORY FILE"):
        place_of(ModelConfig(path="no.gguf"))
    (tmp_path / "m.gguf").write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(ModelError, match="this is no whole GGUF file: GGUF magic invalid"):
        place_of(ModelConfig(path=str(tmp_path / "m.gguf")))


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    path = write_gguf(tmp_path / "m.gguf")
    monkeypatch.setattr("pivottrace.plugins.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"needs gguf, .*pip install 'pivottrace\[gguf\]'"):
        place_of(ModelConfig(path=str(path)))


def test_a_disk_without_room_and_a_place_that_cannot_be_written(tmp_path, monkeypatch, cache):
    config = ModelConfig(path=str(write_gguf(tmp_path / "m.gguf")))
    with monkeypatch.context() as small:
        small.setattr(gguf_folder.shutil, "disk_usage", lambda path: type("U", (), {"free": 9}))
        with pytest.raises(OutOfDiskError, match=r"3 MB become 3 MB, and the disk of .* no room"):
            place_of(config)
    cache.parent.mkdir(exist_ok=True)
    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path / "m.gguf"))
    with pytest.raises(ModelError, match=r"cannot be written: .*Set HF_HOME to a folder"):
        place_of(config)
