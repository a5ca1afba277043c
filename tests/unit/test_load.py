"""Models and tokenizers are loaded, or refused with what is missing."""

import pytest
import torch
from huggingface_hub import constants
from training_run import build_model, build_tokenizer
from transformers import GenerationConfig

from pivottrace.config import ModelConfig
from pivottrace.errors import ModelError
from pivottrace.ingest import hub_access
from pivottrace.models.generate import TransformersSampler
from pivottrace.models.load import check_weights, load_model
from pivottrace.models.sampler import Sampling

pytestmark = pytest.mark.usefixtures("one_thread")


def save_without_special_tokens(folder, end):
    """A model folder whose tokenizer names neither padding nor end; `end` is the model's own."""
    tokenizer, model = build_tokenizer(), build_model()
    tokenizer.pad_token = tokenizer.eos_token = None
    tokenizer.save_pretrained(folder)
    model.config.eos_token_id = end
    model.generation_config = GenerationConfig(eos_token_id=end)
    model.save_pretrained(folder)
    return ModelConfig(path=str(folder))


@pytest.mark.parametrize("end", [1, [5, 1]])
def test_the_models_own_end_pads_where_the_tokenizer_names_none(tmp_path, end):
    model, tokenizer = load_model(save_without_special_tokens(tmp_path, end))
    assert tokenizer.pad_token_id == tokenizer.eos_token_id == 1
    settings = Sampling(num_samples=1, temperature=None, max_new_tokens=4)
    found = TransformersSampler(model, tokenizer).sample([[8, 9], [8]], settings)
    assert [len(responses) for responses in found] == [1, 1]


def test_a_model_that_names_no_end_anywhere_is_refused(tmp_path):
    config = save_without_special_tokens(tmp_path, None)
    with pytest.raises(ModelError, match=r"names a padding or an end-of-sequence.*Set tokenizer"):
        load_model(config)


def cached_model(cache, monkeypatch, without=()):
    """A Hub model in a cache, on a machine that cannot reach the Hub; its folder in the cache."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(hub_access, "_no_connection", lambda endpoint: f"{endpoint} is away")
    hub_access.tell_of_cache.cache_clear()
    repository = cache / "models--someone--model"
    folder = repository / "snapshots" / ("0" * 40)
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(folder.name)
    build_model().save_pretrained(folder)
    build_tokenizer().save_pretrained(folder)
    for name in without:
        (folder / name).unlink()
    return folder


def test_without_a_network_a_hub_model_comes_from_the_cache_at_once(tmp_path, monkeypatch, capsys):
    cached_model(tmp_path, monkeypatch)
    load_model(ModelConfig(path="someone/model"))
    said = capsys.readouterr().err
    assert said.count("is away; the copy of someone/model in the Hub's cache is used") == 1


@pytest.mark.parametrize("path", ["someone/other", "someone/model"])
def test_without_a_network_a_model_that_is_not_here_is_refused(tmp_path, monkeypatch, path):
    cached_model(tmp_path, monkeypatch, without=["model.safetensors"])
    with pytest.raises(ModelError, match=f"{path}: no such folder here, .* is away.*HTTPS_PROXY"):
        load_model(ModelConfig(path=path))


def test_weights_in_the_hubs_cache_are_checked_as_a_folders_are(tmp_path, monkeypatch):
    folder = cached_model(tmp_path, monkeypatch)
    monkeypatch.setattr(hub_access, "_no_connection", lambda endpoint: None)
    config = ModelConfig(path="someone/model")
    assert check_weights(config).startswith("weights of ")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    with pytest.raises(ModelError, match="torn"):
        check_weights(config)
    weights.unlink()
    assert check_weights(config).endswith("validate again after hf download someone/model")
    pinned = ModelConfig(path="someone/model", revision="v 1")
    assert check_weights(pinned).endswith("hf download someone/model --revision 'v 1'")


def test_a_revision_of_the_hub_is_found_again_by_the_models_name(tmp_path, monkeypatch):
    """TRL loads a reference model by that name alone, so it must not mean another revision."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    repository = tmp_path / "models--someone--model"
    (repository / "refs").mkdir(parents=True)
    model = build_model()
    for i, name in enumerate(("main", "step-1")):
        commit = str(i) * 40
        (repository / "refs" / name).write_text(commit)
        torch.nn.init.constant_(model.model.norm.weight, i)
        model.save_pretrained(repository / "snapshots" / commit)
        build_tokenizer().save_pretrained(repository / "snapshots" / commit)
    loaded, _ = load_model(ModelConfig(path="someone/model", revision="step-1"))
    again, _ = load_model(ModelConfig(path=loaded.config.name_or_path))
    assert loaded.model.norm.weight.mean() == again.model.norm.weight.mean() == 1


def test_the_home_folder_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    build_tokenizer().save_pretrained(tmp_path / "model")
    build_model().save_pretrained(tmp_path / "model")
    model, _ = load_model(ModelConfig(path="~/model"))
    assert model.config.name_or_path == str(tmp_path / "model")
