"""The bfloat16 copy that samples during training on a CPU that is fast in it."""

import copy

import pytest
import torch
from peft import LoraConfig, get_peft_model
from training_run import config, train

from pivottrace.training import half_copy, trl_config
from pivottrace.training.half_copy import sampling_from_copy
from pivottrace.training.trl import quiet_libraries

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def samplers(monkeypatch):
    """The models that have sampled, as (dtype, weights of the moment)."""
    seen = []

    def generate(model, **arguments):
        seen.append((model.dtype, copy.deepcopy(model.state_dict())))
        return own(model, **arguments)

    own = half_copy.generate_compacting
    monkeypatch.setattr(half_copy, "generate_compacting", generate)
    return seen


def asked(model):
    ids = torch.tensor([[3, 4, 5]])
    settings = copy.copy(model.generation_config)
    settings.max_new_tokens, settings.do_sample = 3, False
    return model.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), generation_config=settings
    )


def test_the_copy_has_the_weights_of_the_moment_in_bfloat16(start, samplers):
    model = copy.deepcopy(start)
    with sampling_from_copy(model):
        asked(model)
        with torch.no_grad():
            model.lm_head.weight.mul_(2)  # tied to the embedding
        asked(model)
    assert "generate" not in vars(model)
    (kind, before), (_, after) = samplers
    assert kind == torch.bfloat16
    assert before.keys() == start.state_dict().keys()
    assert all(torch.equal(before[n], w.bfloat16()) for n, w in start.state_dict().items())
    assert all(torch.equal(after[n], w.bfloat16()) for n, w in model.state_dict().items())
    assert not torch.equal(before["model.embed_tokens.weight"], after["model.embed_tokens.weight"])
    assert model.dtype == torch.float32


def test_adapters_are_merged_into_the_copy_and_stay_apart_in_the_model(start, samplers):
    model = copy.deepcopy(start)
    with quiet_libraries(), sampling_from_copy(model):
        adapted = get_peft_model(model, LoraConfig(r=2, target_modules="all-linear"))
        torch.manual_seed(0)
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                weight.data.normal_(0, 0.1)
        asked(adapted)
    ((_, taken),) = samplers
    merged = adapted.merge_and_unload().state_dict()
    assert all(torch.equal(taken[name], weight.bfloat16()) for name, weight in merged.items())
    assert not torch.equal(
        taken["model.layers.0.mlp.up_proj.weight"],
        start.state_dict()["model.layers.0.mlp.up_proj.weight"].bfloat16(),
    )


def test_the_frequencies_of_positions_keep_float32(start):
    half = half_copy._half_copy(start)
    assert half.model.rotary_emb.inv_freq.dtype == torch.float32
    assert half.generation_config is start.generation_config


@pytest.mark.parametrize(
    ("fast", "precision", "copies"),
    [(True, "bfloat16", True), (False, "bfloat16", False), (True, "float32", False)],
)
def test_training_samples_from_a_copy_where_the_cpu_is_fast_in_bfloat16(
    start, tokenizer, tmp_path, monkeypatch, samplers, fast, precision, copies
):
    monkeypatch.setattr(trl_config, "_has_bfloat16_products", lambda: fast)
    cfg = config(steps=3, precision=precision)
    train(start, tokenizer, tmp_path, cfg=cfg)
    assert len(samplers) == (3 if copies else 0)  # one per step
    if copies:
        first, last = samplers[0][1], samplers[-1][1]
        assert any(not torch.equal(first[name], last[name]) for name in first), "it follows"
