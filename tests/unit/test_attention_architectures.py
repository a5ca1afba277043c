"""Every architecture: the statistics equal those of its own eager matrices, whole and decoded."""

from typing import Any

import pytest
import torch
import transformers
from architectures import ARCHITECTURES, VOCABULARY, build_model

from pivottrace.attention import (
    AttentionDistance,
    FarMass,
    FutureInfluence,
    LocalEntropy,
    QuestionMass,
    SinkMass,
    Statistic,
    trace,
    trace_attention,
)
from pivottrace.attention.masks import CHUNKS_PACK
from pivottrace.errors import ModelError
from pivottrace.models.compact import generate_compacting

pytestmark = pytest.mark.usefixtures("one_thread")

WINDOW, PROMPT = 10, 20
STATS = (
    FarMass(WINDOW),
    AttentionDistance(WINDOW),
    SinkMass(2),
    QuestionMass(),
    LocalEntropy(WINDOW),
    FutureInfluence(4),
)
# transformers makes these architectures' masks without position_ids: packed rows would mix.
CANNOT_PACK = {"GptOss"} | (set() if CHUNKS_PACK else {"Llama4Text"})


def padded(side: str, lengths: tuple[int, ...] = (60, 47, 31)) -> tuple[torch.Tensor, torch.Tensor]:
    """(B, T) tokens and attention mask."""
    longest = max(lengths)
    mask = torch.zeros(len(lengths), longest, dtype=torch.long)
    for row, length in enumerate(lengths):
        mask[row, longest - length :] = side == "left"
        if side == "right":
            mask[row, :length] = 1
    generator = torch.Generator().manual_seed(5)
    return torch.randint(2, VOCABULARY, mask.shape, generator=generator) * mask, mask


@torch.no_grad()
def matrices(model: Any, tokens: torch.Tensor) -> torch.Tensor:
    """(L, H, T, T) of one sequence alone, by the model's own eager attention, in float64."""
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    layers = model(tokens[None], use_cache=False, output_attentions=True).attentions
    model.set_attn_implementation(before)
    return torch.stack([layer[0].double() for layer in layers])


def expected(stat: Statistic, dense: torch.Tensor) -> torch.Tensor:
    """(T,) mean over heads and layers of a statistic of (L, H, T, T) attention, by its formula."""
    length = dense.shape[-1]
    distance = torch.arange(length)[:, None] - torch.arange(length)
    key = torch.arange(length).expand(length, length)
    near = dense * ((distance >= 0) & (distance < WINDOW))
    if isinstance(stat, FarMass):
        values = (dense * ((distance >= WINDOW) & (key >= 1))).sum(-1)
    elif isinstance(stat, AttentionDistance):
        values = (dense * distance.clamp(0, WINDOW)).sum(-1)
    elif isinstance(stat, SinkMass):
        values = dense[..., :2].sum(-1)
    elif isinstance(stat, QuestionMass):
        values = dense[..., :PROMPT].sum(-1)
    elif isinstance(stat, LocalEntropy):
        share = near / near.sum(-1, keepdim=True).clamp(min=1e-30)
        values = torch.special.entr(share).sum(-1)
    else:
        values = (dense * ((distance >= 1) & (distance <= 4))).sum(-2)
    return values.mean((0, 1)).float()


def largest_difference(
    traced: Any, model: Any, tokens: torch.Tensor, mask: torch.Tensor
) -> dict[str, float]:
    """By statistic, over the real tokens of every sequence."""
    found: dict[str, float] = {}
    for row in range(len(tokens)):
        real = mask[row].bool()
        dense = matrices(model, tokens[row][real])
        for stat in STATS:
            rows = traced[stat][row][real[: traced[stat].shape[1]]]
            error = (rows - expected(stat, dense)[: len(rows)]).abs()
            if isinstance(stat, FutureInfluence):
                error = error[:-5]  # decoding stops one row short
            name = type(stat).__name__
            found[name] = max(found.get(name, 0.0), float(error.max()))
    return found


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("family", list(ARCHITECTURES))
def test_padded_batches_are_exact(family: str, side: str) -> None:
    model = build_model(family)
    tokens, mask = padded(side)
    traced = trace(model, tokens, mask, stats=STATS, prompt_lengths=[PROMPT] * 3)
    differences = largest_difference(traced, model, tokens, mask)
    assert max(differences.values()) < 1e-5 * 10, differences  # WAAD is in tokens, up to 10
    assert max(v for k, v in differences.items() if k != "AttentionDistance") < 1e-5, differences


@pytest.mark.parametrize("family", list(ARCHITECTURES))
def test_packed_rows_are_exact_or_refused(family: str) -> None:
    model = build_model(family)
    tokens, mask = padded("right")
    lengths = mask.sum(dim=1).tolist()
    packed = torch.cat([tokens[row, :length] for row, length in enumerate(lengths)])[None]
    positions = torch.cat([torch.arange(length) for length in lengths])[None]
    prompts = torch.full((1, 3), PROMPT)
    if family in CANNOT_PACK:
        with pytest.raises(ModelError, match="does not keep packed sequences apart"):
            trace(model, packed, position_ids=positions, stats=STATS, prompt_lengths=prompts)
        return
    traced = trace(model, packed, position_ids=positions, stats=STATS, prompt_lengths=prompts)
    start = 0
    for row, length in enumerate(lengths):
        dense = matrices(model, tokens[row, :length])
        for stat in STATS:
            rows = traced[stat][0, start : start + length]
            error = float((rows - expected(stat, dense)).abs().max())
            assert error < 1e-4 if isinstance(stat, AttentionDistance) else error < 1e-5, stat
        start += length


@pytest.mark.parametrize("cache", ["dynamic", "static"])
@pytest.mark.parametrize("family", list(ARCHITECTURES))
def test_decoding_gives_the_same_statistics(family: str, cache: str) -> None:
    model = build_model(family)
    tokens, mask = padded("left", (PROMPT, PROMPT, PROMPT))
    if family not in ("GPT2",):  # generate derives GPT-2's positions from the mask as well
        tokens, mask = padded("left", (PROMPT, PROMPT - 5, 3))
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
    assert traced[FarMass(WINDOW)].shape == (3, PROMPT + 90 - 1)
    plain = model.generate(
        tokens,
        attention_mask=mask,
        max_new_tokens=90,
        do_sample=False,
        pad_token_id=0,
        eos_token_id=None,
        cache_implementation=cache,
    )
    assert torch.equal(output, plain)
    whole = torch.cat([mask, torch.ones(3, 89, dtype=torch.long)], dim=1)
    forced = trace(
        model, output[:, :-1], whole, stats=STATS, prompt_lengths=mask.sum(dim=1)
    )  # the question is what `generate` was given
    for stat in STATS:
        real = whole.bool()
        error = float((traced[stat] - forced[stat]).abs()[real].max())
        assert error < (1e-4 if isinstance(stat, AttentionDistance) else 1e-5), stat


@pytest.mark.parametrize("family", list(ARCHITECTURES))
def test_bfloat16_stays_close_to_eager(family: str) -> None:
    # Weights of ordinary size: in half precision large ones make eager attention itself inexact.
    model = build_model(family, initializer_range=0.05).to(torch.bfloat16)
    tokens, mask = padded("left", (60,))
    traced = trace(model, tokens, mask, stats=STATS, prompt_lengths=[PROMPT])
    differences = largest_difference(traced, model, tokens, mask)
    assert max(v for k, v in differences.items() if k != "AttentionDistance") < 2e-2, differences
    assert differences["AttentionDistance"] < 2e-2 * WINDOW


@pytest.mark.parametrize("family", ["Llama", "Gemma2", "GptOss", "DeepseekV3"])
def test_chosen_heads_and_early_stop(family: str) -> None:
    model = build_model(family)
    tokens, mask = padded("left")
    whole = trace(model, tokens, mask, stats=STATS, per_head=True, prompt_lengths=[PROMPT] * 3)
    ran: list[int] = []
    for index, layer in enumerate(model.model.layers):
        layer.register_forward_hook(lambda *_, index=index: ran.append(index))
    heads = {0: [1], 1: [3, 0]}
    part = trace(
        model, tokens, mask, stats=STATS, heads=heads, per_head=True, prompt_lengths=[PROMPT] * 3
    )
    assert ran == [0]  # layer 1 was left once its attention had been read
    assert part.layers == [0, 1]
    for stat in STATS:
        for layer, chosen in ((0, [1]), (1, [0, 3])):
            torch.testing.assert_close(
                part.per_head(stat)[layer],
                whole.per_head(stat)[layer][:, chosen],
                rtol=0,
                atol=2e-5,
            )


def test_rows_that_leave_the_batch_keep_their_statistics() -> None:
    model = build_model("Llama")
    tokens, mask = padded("left", (PROMPT, PROMPT - 5, 3))
    ends = [7, 9, 11, 13, 17, 19]  # some token of these ends a row before the others
    config = transformers.GenerationConfig(
        max_new_tokens=90, do_sample=True, eos_token_id=ends, pad_token_id=0
    )
    torch.manual_seed(3)
    with trace_attention(model, STATS) as traced:
        output = generate_compacting(model, tokens, mask, config, spell=12)
    for row in range(3):
        answer = output[row, PROMPT:].tolist()
        length = next((i + 1 for i, token in enumerate(answer) if token in ends), len(answer))
        whole = output[row, PROMPT - int(mask[row].sum()) : PROMPT + length - 1]
        alone = trace(model, whole[None], stats=STATS, prompt_lengths=[int(mask[row].sum())])
        for stat in STATS:
            rows = traced[stat][row, PROMPT - int(mask[row].sum()) : PROMPT + length - 1]
            upto = len(rows) - stat.reach  # its last tokens are read by rows past the end
            error = float((rows - alone[stat][0])[:upto].abs().max())
            assert error < (1e-4 if isinstance(stat, AttentionDistance) else 1e-5), stat
