"""Tracing on a CUDA device: exact against eager attention there, and linear in memory."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import transformers
from architectures import ARCHITECTURES, VOCABULARY, build_model
from test_attention_architectures import (
    CANNOT_PACK,
    PROMPT,
    STATS,
    WINDOW,
    expected,
    matrices,
    padded,
)
from test_attention_fuzz import Case, dense_attention

from pivottrace.attention import (
    AttentionDistance,
    FarMass,
    FutureInfluence,
    Statistic,
    trace,
    trace_attention,
)
from pivottrace.attention.kernels import ScoreRule, fused_attention, why_not_fused
from pivottrace.attention.masks import describe_mask
from pivottrace.attention.reading import find_landmarks, read_band
from pivottrace.attention.row_statistics import Needs
from pivottrace.errors import ModelError

if not torch.cuda.is_available():
    pytest.skip("no CUDA device is at hand", allow_module_level=True)

TOLERANCES = {torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 2e-2}
HALF = [torch.bfloat16, torch.float16]


@pytest.fixture(autouse=True)
def full_float32() -> Iterator[None]:
    """No TF32: it keeps 10 bits of a float32 product's factors."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    yield
    torch.set_float32_matmul_precision(before)


def load(family: str, dtype: torch.dtype = torch.float32, **overrides: Any) -> Any:
    return build_model(family, **overrides).to("cuda", dtype)


def allowed(stat: Statistic, dtype: torch.dtype) -> float:
    """The greatest difference of a statistic; of a distance it is in tokens, up to the window."""
    return TOLERANCES[dtype] * (WINDOW if isinstance(stat, AttentionDistance) else 1)


def assert_equals_eager(
    traced: torch.Tensor, stat: Statistic, model: Any, tokens: torch.Tensor
) -> None:
    """Compare (T,) statistics of one sequence with its own eager matrices on the device."""
    dense = matrices(model, tokens.to(model.device)).cpu()
    error = float((traced - expected(stat, dense)).abs().max())
    assert error < allowed(stat, model.dtype), (stat, error)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("family", list(ARCHITECTURES))
def test_padded_batches_are_exact(family: str, side: str) -> None:
    model = load(family)
    tokens, mask = padded(side)
    traced = trace(model, tokens, mask, stats=STATS, prompt_lengths=[PROMPT] * 3)
    for row, real in enumerate(mask.bool()):
        for stat in STATS:
            assert_equals_eager(traced[stat][row][real], stat, model, tokens[row][real])


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("family", list(ARCHITECTURES))
def test_half_precision_stays_close_to_eager(family: str, dtype: torch.dtype) -> None:
    # Weights of ordinary size: in half precision large ones make eager attention itself inexact.
    model = load(family, dtype, initializer_range=0.05)
    tokens, mask = padded("left", (60,))
    traced = trace(model, tokens, mask, stats=STATS, prompt_lengths=[PROMPT])
    for stat in STATS:
        assert_equals_eager(traced[stat][0], stat, model, tokens[0])


@pytest.mark.parametrize("family", [name for name in ARCHITECTURES if name not in CANNOT_PACK])
def test_packed_rows_are_exact(family: str) -> None:
    model = load(family)
    tokens, mask = padded("right")
    sequences = [row[real] for row, real in zip(tokens, mask.bool(), strict=True)]
    positions = torch.cat([torch.arange(len(sequence)) for sequence in sequences])[None]
    traced = trace(
        model,
        torch.cat(sequences)[None],
        position_ids=positions,
        stats=STATS,
        prompt_lengths=torch.full((1, 3), PROMPT),
    )
    start = 0
    for sequence in sequences:
        for stat in STATS:
            rows = traced[stat][0, start : start + len(sequence)]
            assert_equals_eager(rows, stat, model, sequence)
        start += len(sequence)


def test_packing_that_a_model_does_not_know_is_refused() -> None:
    tokens = torch.randint(2, VOCABULARY, (1, 40))
    positions = torch.arange(20).repeat(2)[None]
    with pytest.raises(ModelError, match="does not keep packed sequences apart"):
        trace(load("GptOss"), tokens, position_ids=positions)


def assert_decodes_as_in_one_pass(model: Any, cache: str, lengths: tuple[int, ...]) -> None:
    tokens, mask = (x.cuda() for x in padded("left", lengths))
    with trace_attention(model, STATS) as traced:
        output = model.generate(
            tokens,
            attention_mask=mask,
            max_new_tokens=90,
            do_sample=False,
            pad_token_id=0,
            eos_token_id=None,
            cache_implementation=cache,
        )
    # 90 tokens: a full block of decoded queries, and a part of one.
    whole = torch.cat([mask, mask.new_ones(len(mask), 89)], dim=1)
    forced = trace(model, output[:, :-1], whole, stats=STATS, prompt_lengths=mask.sum(dim=1))
    real = whole.bool().cpu()
    for stat in STATS:
        assert traced[stat].shape == real.shape
        error = float((traced[stat] - forced[stat]).abs()[real].max())
        assert error < allowed(stat, model.dtype), (stat, error)


@pytest.mark.parametrize("cache", ["dynamic", "static"])
@pytest.mark.parametrize("family", list(ARCHITECTURES))
def test_decoding_gives_the_same_statistics(family: str, cache: str) -> None:
    # GPT-2's positions are derived from the mask by `generate` alone.
    lengths = (PROMPT,) * 3 if family == "GPT2" else (PROMPT, PROMPT - 5, 3)
    assert_decodes_as_in_one_pass(load(family), cache, lengths)


@pytest.mark.parametrize("cache", ["dynamic", "static"])
@pytest.mark.parametrize("dtype", HALF)
def test_decoding_in_half_precision(dtype: torch.dtype, cache: str) -> None:
    model = load("Llama", dtype, initializer_range=0.05)
    for lengths in ((PROMPT,) * 2, (PROMPT, 3), (PROMPT,)):
        assert_decodes_as_in_one_pass(model, cache, lengths)


def make_case(padding: torch.Tensor, past: int) -> Case:
    """Causal attention of the queries from `past` on over padded (B, S) keys."""
    batch, keys = padding.shape
    spec = describe_mask(
        {"batch_size": batch, "q_length": keys - past, "kv_length": keys, "q_offset": past}
        | {"attention_mask": padding.bool(), "device": padding.device}
    )
    sees = torch.ones(keys, keys, dtype=torch.bool, device=padding.device).tril()[past:]
    sees = sees & padding.bool()[:, None]
    bias = torch.zeros(sees.shape, dtype=torch.float64, device=padding.device)
    return Case(spec, bias.masked_fill(~sees, -torch.inf)[:, None], padding.long())


# Whole and padded sequences, and decoding: 301 and 300 keys are no multiples of 8, nor is a width
# of 36; 256 is the widest that flash attention takes.
@pytest.mark.parametrize("past", [0, 300])
@pytest.mark.parametrize("pads", [(0, 0), (0, 41), (7, 7)])
@pytest.mark.parametrize("shape", [(8, 8, 64), (14, 2, 64), (32, 8, 128), (4, 1, 256), (4, 2, 36)])
@pytest.mark.parametrize("dtype", list(TOLERANCES))
def test_the_fused_kernels_equal_a_dense_reference(
    dtype: torch.dtype, shape: tuple[int, int, int], pads: tuple[int, ...], past: int
) -> None:
    heads, key_heads, width = shape
    padding = torch.ones(len(pads), 301, dtype=torch.long, device="cuda")
    for row, left in enumerate(pads):
        padding[row, :left] = 0
    case, rule = make_case(padding, past), ScoreRule(width**-0.5)
    torch.manual_seed(5)
    query, key, value = (
        torch.randn(len(pads), number, length, width, device="cuda").to(dtype)
        for number, length in ((heads, 301 - past), (key_heads, 301), (key_heads, 301))
    )
    reason = why_not_fused(query, key, value, case.spec, rule)
    if reason is not None:
        assert (width % 8) or width > 256, reason
        return
    attended, lse = fused_attention(query, key, value, case.spec, rule)
    dense = dense_attention(query, key, case, rule)
    output = (dense @ value.double().repeat_interleave(heads // key_heads, dim=1)).transpose(1, 2)
    real = case.real
    assert float((attended[real].double() - output[real]).abs().max()) < TOLERANCES[dtype]
    needs = Needs(width=10, num_sinks=1, question=True)
    landmarks = find_landmarks(case.run_ids, 1, torch.full((len(pads), 1), 50))
    local = read_band(query, key, lse, rule.scaling, landmarks, needs, first_query=past)
    asked = (dense * landmarks.in_question[:, None, None]).sum(dim=-1)
    assert float((local.question.double() - asked).abs().max()) < TOLERANCES[dtype]
    places = torch.arange(past, 301, device="cuda")
    for row, left in enumerate(pads):
        sink = dense[row, :, :, left] * (places >= left)
        assert float((local.sinks[row, ..., 0].double() - sink).abs().max()) < TOLERANCES[dtype]
    for distance in range(10):
        keys = (places - distance).clamp(min=0)
        rows = dense.gather(-1, keys[:, None].expand(*dense.shape[:3], 1))[..., 0]
        rows = rows * (places >= distance)
        error = float((local.window[..., distance].double() - rows).abs().max())
        assert error < TOLERANCES[dtype], distance


def long_model(length: int, dtype: torch.dtype) -> Any:
    config = transformers.LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=512,
        intermediate_size=512,
        num_hidden_layers=1,
        num_attention_heads=8,
        num_key_value_heads=2,
        max_position_embeddings=length,
        initializer_range=0.1,
    )
    torch.manual_seed(7)
    return transformers.LlamaForCausalLM(config).eval().to("cuda", dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_long_sequence_equals_its_rows_in_chunks(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = long_model(8192, dtype)
    tokens = torch.randint(2, VOCABULARY, (1, 8192))
    stats = (FarMass(), AttentionDistance(WINDOW), FutureInfluence(4))
    fused = trace(model, tokens, stats=stats, per_head=True)
    monkeypatch.setattr("pivottrace.attention.engine.why_not_fused", lambda *_: "a test asks so")
    chunked = trace(model, tokens, stats=stats, per_head=True)
    for stat in stats:
        # Both are rounded, and sums of 8192 terms differ in their order.
        error = float((fused.per_head(stat)[0] - chunked.per_head(stat)[0]).abs().max())
        assert error < 3 * allowed(stat, dtype), (stat, error)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("path", ["fused", "chunked"])
def test_memory_grows_with_the_length_alone(
    path: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = long_model(16384, dtype)
    if path == "chunked":
        monkeypatch.setattr("pivottrace.attention.engine.why_not_fused", lambda *_: "a test")

    def added(length: int) -> int:
        """Bytes that a trace adds at its peak."""
        tokens = torch.randint(2, VOCABULARY, (1, length))
        trace(model, tokens[:, :64])  # what libraries allocate once
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        trace(model, tokens, stats=STATS[:2])
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before

    peaks = {length: added(length) for length in (4096, 8192, 16384)}
    assert peaks[8192] < 2.2 * peaks[4096], peaks
    assert peaks[16384] < 2.2 * peaks[8192], peaks
    assert peaks[16384] < 8 * 16384 * 16384 * dtype.itemsize / 2, peaks  # half a layer's matrix
