"""Weights and vocabulary that fit a tokenizer, and those that do not."""

import copy

import pytest
import torch
from tokenizers import AddedToken
from training_run import WORDS, build_model, build_tokenizer

from pivottrace.config import ModelConfig
from pivottrace.errors import ModelError
from pivottrace.models import template_trial
from pivottrace.models.generate import TransformersSampler
from pivottrace.models.load import load_model
from pivottrace.models.sampler import Sampling
from pivottrace.models.template_trial import refuse_endless_template
from pivottrace.models.weights import refuse_small_vocabulary, refuse_unfinite

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_found_in_any_type(start, dtype, number):
    model = copy.deepcopy(start).to(dtype)
    refuse_unfinite(model, "m")
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[-1, -1] = number
    with pytest.raises(ModelError, match=r"m: the tensor 'model\.layers\.1\.mlp\.up_proj\.weight'"):
        refuse_unfinite(model, "m")


def test_buffers_count_and_whole_numbers_do_not(start):
    model = copy.deepcopy(start)
    model.register_buffer("steps", torch.zeros(2, dtype=torch.int64))
    model.register_buffer("empty", torch.zeros(0))
    refuse_unfinite(model, "m")
    model.register_buffer("scale", torch.tensor([1.0, float("nan")]))
    with pytest.raises(ModelError, match="the tensor 'scale' holds NaN"):
        refuse_unfinite(model, "m")


def test_a_special_token_without_a_role_needs_no_embedding():
    """As in Gemma 3 1B, whose tokenizer has an image token that the model lacks."""
    tokenizer, model = build_tokenizer("{{ messages[0]['content'] }}"), build_model()
    tokenizer.add_tokens([AddedToken("<image>", special=True)])
    assert len(tokenizer) == len(WORDS) + 1 == model.config.vocab_size + 1
    refuse_small_vocabulary(model, tokenizer, "m")
    settings = Sampling(num_samples=1, temperature=None, max_new_tokens=2)
    sampler = TransformersSampler(model, tokenizer)
    assert len(sampler.sample([[8, 9]], settings)) == 1
    with pytest.raises(ModelError, match=r"'<image>' with id 19, and the model has only 19 emb"):
        sampler.sample([[8, 9], [8, 19]], settings)
    tokenizer.pad_token = "<image>"
    with pytest.raises(ModelError, match=r"m: the tokenizer has the token '<image>' with id 19"):
        refuse_small_vocabulary(model, tokenizer, "m")


def test_an_added_word_needs_an_embedding(tmp_path):
    tokenizer = build_tokenizer()
    tokenizer.add_tokens(["k"])
    tokenizer.save_pretrained(tmp_path)
    build_model().save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="the token 'k' with id 19, and the model has only 19 emb"):
        load_model(ModelConfig(path=str(tmp_path)))


def test_more_embeddings_than_tokens_are_common(tmp_path):
    tokenizer, model = build_tokenizer(), build_model()
    model.resize_token_embeddings(32)
    tokenizer.save_pretrained(tmp_path)
    model.save_pretrained(tmp_path)
    assert load_model(ModelConfig(path=str(tmp_path)))[0].config.vocab_size == 32


# The chat template's trial ------------------------------------------------------------------------


def test_a_template_has_a_memory_limit(monkeypatch):
    monkeypatch.setattr(template_trial, "MEMORY_BYTES", 50_000_000)
    text = "{{ ('a' * 60000000) | length }}"
    with pytest.raises(ModelError, match=r"m: the chat template takes more than 0\.1 GB for one"):
        refuse_endless_template(build_tokenizer(text), "m")


@pytest.mark.parametrize("template", ["{{ raise_exception('no') }}", "{% for", None])
def test_a_template_that_refuses_is_left_to_the_rendering(template):
    refuse_endless_template(build_tokenizer(template), "m")
