"""The engine: output unchanged, no T x T tensor, any mask exact, and refusals by name."""

import logging
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pivottrace.attention.engine import ATTENTION_NAME, _announce_fallback, trace_attention
from pivottrace.attention.row_statistics import AttentionDistance, FarMass
from pivottrace.attention.tracing import trace_responses
from pivottrace.errors import ConfigError, ModelError

pytestmark = pytest.mark.usefixtures("one_thread")

SHAPE = {
    "vocab_size": 61,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
    "initializer_range": 0.25,
}


def build_model(family: str = "Llama", **overrides: object) -> transformers.PreTrainedModel:
    config = getattr(transformers, f"{family}Config")(**(SHAPE | overrides))
    torch.manual_seed(7)
    return getattr(transformers, f"{family}ForCausalLM")(config).eval()


def padded_inputs(side: str, batch: int = 3, length: int = 150) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(5)
    mask = torch.ones(batch, length, dtype=torch.long)
    for row in range(1, batch):
        pads = slice(0, 40 * row) if side == "left" else slice(length - 40 * row, length)
        mask[row, pads] = 0
    return {
        "input_ids": torch.randint(0, 61, (batch, length), generator=generator),
        "attention_mask": mask,
        "position_ids": (mask.cumsum(-1) - 1).clamp(min=0),
        "use_cache": False,
    }


@torch.no_grad()
def run_traced(model: Any, **inputs: Any) -> tuple[dict[int, torch.Tensor], torch.Tensor]:
    """Each layer's (B, H, T) far mass, and the logits."""
    with trace_attention(model, [FarMass(), AttentionDistance()], per_head=True) as t:
        logits = model(**inputs).logits
    return t.per_head(FarMass()), logits


@torch.no_grad()
def eager_far_mass(model: Any, sink: int = 0, **inputs: Any) -> torch.Tensor:
    """(L, B, H, T) far mass by a dense mask on eager attention's own matrices."""
    model.set_attn_implementation("eager")
    matrices = torch.stack(model(**inputs, output_attentions=True).attentions)
    model.set_attn_implementation("sdpa")
    length = matrices.shape[-1]
    is_far = torch.ones(length, length, dtype=torch.bool).tril(-10)
    is_far[:, sink] = False
    return (matrices * is_far).sum(-1)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize(("family", "shape"), [("Llama", {}), ("Mistral", {"sliding_window": 30})])
def test_output_equals_sdpa(family: str, shape: dict, side: str) -> None:
    model = build_model(family, **shape)
    inputs = padded_inputs(side)
    with torch.no_grad():
        expected = model(**inputs).logits
    layers, logits = run_traced(model, **inputs)
    real = inputs["attention_mask"].bool()
    assert float((logits - expected)[real].abs().max()) < 1e-5 * float(expected.abs().max())
    for far_mass in layers.values():
        assert float(far_mass.transpose(1, 2)[~real].abs().max()) == 0.0
    assert model.config._attn_implementation == "sdpa"


class _LargestTensor(TorchDispatchMode):
    """Records the greatest number of elements of any tensor that an operation returns."""

    largest = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        sizes = [leaf.numel() for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)]
        self.largest = max(self.largest, *sizes, 0)
        return result


@pytest.mark.parametrize(("family", "shape"), [("Llama", {}), ("Mistral", {"sliding_window": 30})])
def test_no_tensor_grows_with_the_square_of_the_length(family: str, shape: dict) -> None:
    model = build_model(family, **shape)
    tokens = torch.randint(0, 61, (1024,)).tolist()

    def largest_of_trace(length: int, batch: int) -> int:
        with _LargestTensor() as recorder:
            trace_responses(
                model, [(tokens[:100], tokens[100 : length - row]) for row in range(batch)]
            )
        return recorder.largest

    # One sequence: all four heads together stay below one head's T x T.
    assert largest_of_trace(512, batch=1) < 512 * 512
    assert largest_of_trace(512, batch=2) < 2 * 512 * 512
    assert largest_of_trace(1024, batch=2) <= 2.5 * largest_of_trace(512, batch=2)

    model.set_attn_implementation("eager")  # the recorder would notice
    with torch.no_grad(), _LargestTensor() as recorder:
        model(torch.tensor([tokens[:512]]), use_cache=False)
    assert recorder.largest >= 4 * 512 * 512


def test_padding_between_tokens_and_ready_made_masks_are_exact() -> None:
    model = build_model()
    inputs = padded_inputs("left", batch=2, length=90)
    inputs["attention_mask"][0, 20:30] = 0
    inputs["attention_mask"][1] = 1
    layers, _ = run_traced(model, **inputs)
    real = inputs["attention_mask"].bool()
    expected = eager_far_mass(model, **inputs)
    for layer, far_mass in layers.items():
        difference = (far_mass - expected[layer]).transpose(1, 2)[real]
        assert float(difference.abs().max()) < 1e-5

    additive = torch.zeros(2, 1, 90, 90).masked_fill(~torch.ones(90, 90).tril().bool(), -torch.inf)
    additive += torch.randn(2, 1, 90, 90, generator=torch.Generator().manual_seed(1))
    ready = {"input_ids": inputs["input_ids"], "attention_mask": additive, "use_cache": False}
    layers, _ = run_traced(model, **ready)
    expected = eager_far_mass(model, **ready)
    for layer, far_mass in layers.items():
        assert float((far_mass - expected[layer]).abs().max()) < 1e-5


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-6), (torch.bfloat16, 2e-2), (torch.float16, 3e-3)]
)
@pytest.mark.parametrize("family", ["Llama", "Mistral"])
def test_other_floating_types(family: str, dtype: torch.dtype, tolerance: float) -> None:
    # Eager softmax is float32 for float64 too. Weights of ordinary size: in half precision large
    # ones make eager attention itself inexact.
    shape = {"sliding_window": 30} if family == "Mistral" else {}
    model = build_model(family, **shape, initializer_range=0.05).to(dtype)
    inputs = padded_inputs("left", batch=1)
    layers, _ = run_traced(model, **inputs)
    expected = eager_far_mass(model, **inputs)
    for layer, far_mass in layers.items():
        assert float((far_mass - expected[layer]).abs().max()) < tolerance


@pytest.mark.parametrize("name", ["Bloom", "Mpt", "Falcon"])
def test_models_that_bypass_the_interface_are_refused_by_name(name: str) -> None:
    shape = {"vocab_size": 61, "hidden_size": 32, "num_hidden_layers": 2}
    heads = {"n_heads": 4, "d_model": 32, "n_layers": 2} if name == "Mpt" else {}
    heads = heads or {"num_attention_heads": 4, "n_head": 4}
    config = getattr(transformers, f"{name}Config")(**(shape | heads))
    model = getattr(transformers, f"{name}ForCausalLM")(config).eval()
    before = model.config._attn_implementation
    with pytest.raises(ModelError, match=f"{name}ForCausalLM does not route its attention"):
        trace_responses(model, [([1, 2], [3])])
    assert model.config._attn_implementation == before


def test_a_layer_that_bypasses_the_interface_is_noticed() -> None:
    model = build_model()
    attention = model.model.layers[1].self_attn
    attention.forward = lambda hidden_states, **kwargs: (hidden_states, None)
    with pytest.raises(ModelError, match=r"LlamaForCausalLM: its attention of layers \[1\]"):
        trace_responses(model, [([1, 2], [3])])
    for layer in model.model.layers:
        layer.self_attn.forward = attention.forward
    with pytest.raises(ModelError, match="its attention did not run through"):
        trace_responses(model, [([1, 2], [3])])


def test_what_would_not_be_exact_is_refused() -> None:
    model = build_model(attention_dropout=0.5)
    ids = torch.tensor([[1, 2, 3]])
    with pytest.raises(ModelError, match="depends on position_bias"):
        run_traced(model, input_ids=ids, use_cache=False, position_bias=torch.zeros(1, 1, 3, 3))
    with pytest.raises(ModelError, match="bidirectional"):
        run_traced(model, input_ids=ids, use_cache=False, is_causal=False)
    with pytest.raises(ModelError, match=r"call model\.eval"):
        run_traced(model.train(), input_ids=ids, use_cache=False)
    model.eval().set_attn_implementation(ATTENTION_NAME)
    with pytest.raises(ModelError, match="works only inside trace_attention"):
        model(ids)


def test_encoder_decoders_and_impossible_windows_are_refused() -> None:
    config = transformers.T5Config(
        vocab_size=61, d_model=32, d_kv=8, d_ff=48, num_layers=1, num_heads=4
    )
    model = transformers.T5ForConditionalGeneration(config)
    with pytest.raises(ModelError, match="encoder-decoder"):
        run_traced(model)
    with pytest.raises(ConfigError, match="window=0"):
        AttentionDistance(0)


def test_the_slower_path_is_announced_once(caplog: pytest.LogCaptureFixture) -> None:
    _announce_fallback.cache_clear()
    model = build_model("Mistral", sliding_window=30)
    with caplog.at_level(logging.WARNING, logger="pivottrace"):
        for _ in range(2):
            trace_responses(model, [([1] * 50, [3] * 20)])
        trace_responses(build_model(), [([1] * 50, [3] * 20)])
    announced = [r.getMessage() for r in caplog.records if r.name.startswith("pivottrace")]
    assert len(announced) == 1
    assert "MistralForCausalLM: a mask other than causal" in announced[0]


def test_short_input_of_a_sliding_window_model_takes_the_fast_path(
    caplog: pytest.LogCaptureFixture,
) -> None:
    _announce_fallback.cache_clear()
    model = build_model("Mistral", sliding_window=200)
    with caplog.at_level(logging.WARNING, logger="pivottrace"):
        layers, _ = run_traced(model, **padded_inputs("left", batch=1))
    assert not caplog.records
    expected = eager_far_mass(model, **padded_inputs("left", batch=1))
    for layer, far_mass in layers.items():
        np.testing.assert_allclose(far_mass, expected[layer], rtol=0, atol=1e-5)
