"""The bfloat16 copy that samples during training on a CPU that is fast in it."""

import copy

import pytest
import torch
from peft import LoraConfig, get_peft_model
from training_run import config, train
from transformers import XGLMConfig, XGLMForCausalLM

from pivottrace.models.generate import TransformersSampler
from pivottrace.models.sampler import Sampling
from pivottrace.training import trl_config
from pivottrace.training.half_copy import HalfCopy
from pivottrace.training.trl import quiet_libraries

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def taken_over(monkeypatch):
    """Each time that a copy took over the weights: (its dtype, its weights)."""
    seen = []

    def take_over(self):
        own(self)
        seen.append((self._half.dtype, copy.deepcopy(self._half.state_dict())))

    own = HalfCopy._take_over
    monkeypatch.setattr(HalfCopy, "_take_over", take_over)
    return seen


def asked(model):
    ids = torch.tensor([[3, 4, 5]])
    settings = copy.copy(model.generation_config)
    settings.max_new_tokens, settings.do_sample = 3, False
    return model.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), generation_config=settings
    )


def test_the_copy_has_the_weights_of_the_moment_in_bfloat16(start, taken_over):
    model = copy.deepcopy(start)
    half = HalfCopy(model)
    with half.sampling():
        asked(model)
    with torch.no_grad():
        model.lm_head.weight.mul_(2)  # tied to the embedding
    with half.sampling():
        asked(model)
    assert "generate" not in vars(model)
    (kind, before), (_, after) = taken_over
    assert kind == torch.bfloat16
    assert before.keys() == start.state_dict().keys()
    assert all(torch.equal(before[n], w.bfloat16()) for n, w in start.state_dict().items())
    assert all(torch.equal(after[n], w.bfloat16()) for n, w in model.state_dict().items())
    assert not torch.equal(before["model.embed_tokens.weight"], after["model.embed_tokens.weight"])
    assert model.dtype == torch.float32


def test_adapters_are_merged_into_the_copy_and_stay_apart_in_the_model(start, taken_over):
    model = copy.deepcopy(start)
    half = HalfCopy(model)
    with quiet_libraries():
        adapted = get_peft_model(model, LoraConfig(r=2, target_modules="all-linear"))
        torch.manual_seed(0)
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                weight.data.normal_(0, 0.1)
        with half.sampling():
            found = asked(adapted)
    ((_, taken),) = taken_over
    whole = adapted.merge_and_unload()
    assert torch.equal(found, asked(whole.bfloat16()))
    merged = whole.state_dict()
    assert all(torch.equal(taken[name], weight.bfloat16()) for name, weight in merged.items())
    assert not torch.equal(
        taken["model.layers.0.mlp.up_proj.weight"],
        start.state_dict()["model.layers.0.mlp.up_proj.weight"].bfloat16(),
    )


def test_the_copy_samples_and_the_model_does_not(start):
    model = copy.deepcopy(start)
    half, ran = HalfCopy(model), []
    for name, each in (("model", model), ("copy", half._half)):
        each.model.register_forward_pre_hook(lambda module, args, name=name: ran.append(name))
    with half.sampling():
        asked(model)
    assert set(ran) == {"copy"}
    asked(model)
    assert set(ran) == {"copy", "model"}


def test_buffers_that_are_added_to_the_states_have_their_format():
    torch.manual_seed(0)
    config = XGLMConfig(vocab_size=19, d_model=16, ffn_dim=32, num_layers=1, attention_heads=2)
    model = XGLMForCausalLM(config).eval()
    with HalfCopy(model).sampling():
        assert asked(model).shape == (1, 6)


def test_the_frequencies_of_positions_keep_float32(start):
    half = HalfCopy(start)._half
    assert half.model.rotary_emb.inv_freq.dtype == torch.float32
    assert half.generation_config is start.generation_config


@pytest.mark.parametrize(
    ("fast", "changes", "copies"),
    [
        (True, {"precision": "bfloat16"}, 3),
        (True, {"precision": "bfloat16", "lora_rank": 2}, 3),
        (False, {"precision": "bfloat16"}, 0),
        (True, {"precision": "float32"}, 0),
    ],
)
def test_training_samples_from_a_copy_where_the_cpu_is_fast_in_bfloat16(
    start, tokenizer, tmp_path, monkeypatch, taken_over, fast, changes, copies
):
    """It takes over once per step; a learning curve gets its samples from the model itself."""
    monkeypatch.setattr(trl_config, "cpu_multiplies", lambda _: fast)

    def evaluate(model):
        settings = Sampling(num_samples=2, temperature=1.0, max_new_tokens=30)
        TransformersSampler(model, tokenizer).sample([[3, 4, 5]], settings)
        return {"accuracy": 0.0}

    cfg = config(steps=3, evaluate_steps=1, **changes)
    train(start, tokenizer, tmp_path, cfg=cfg, evaluate=evaluate)
    assert len(taken_over) == copies
    if copies:
        first, last = taken_over[0][1], taken_over[-1][1]
        assert any(not torch.equal(first[name], last[name]) for name in first), "it follows"
