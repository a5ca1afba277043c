"""Tracing while a model generates: the same statistics whichever way is taken."""

from typing import Any

import pytest
import torch
from architectures import VOCABULARY, build_model

from pivottrace.attention import AttentionDistance, FarMass, QuestionMass, generate_traced, trace
from pivottrace.attention import generating as generating_module
from pivottrace.errors import ConfigError

pytestmark = pytest.mark.usefixtures("one_thread")

STATS = (FarMass(), AttentionDistance(), QuestionMass())
SETTINGS = {"max_new_tokens": 150, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}


def prompts() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    mask = torch.ones(3, 20, dtype=torch.long)
    mask[1, :6] = mask[2, :15] = 0
    return torch.randint(2, VOCABULARY, mask.shape, generator=generator) * mask, mask


# Gemma 2 is soft-capped: rows are read one by one.
@pytest.mark.parametrize("family", ["Llama", "Gemma2"])
def test_both_ways_give_the_same(family: str) -> None:
    model = build_model(family)
    tokens, mask = prompts()
    by = {
        how: generate_traced(model, tokens, mask, stats=STATS, how=how, **SETTINGS)
        for how in ("decoding", "afterwards", "auto")
    }
    assert by["decoding"].how == "decoding"
    assert by["afterwards"].how == "afterwards"
    for generation in by.values():
        assert torch.equal(generation.output, by["decoding"].output)
        for stat in STATS:
            values = generation.trace[stat]
            assert values.shape == (3, 20 + 150 - 1)
            real = torch.cat([mask.bool(), torch.ones(3, 149, dtype=torch.bool)], dim=1)
            error = (values - by["decoding"].trace[stat]).abs()[real].max()
            assert float(error) < (1e-4 if isinstance(stat, AttentionDistance) else 1e-5), stat


@pytest.mark.parametrize(("reading", "how"), [(1e9, "afterwards"), (0.0, "decoding")])
def test_the_cheaper_way_is_taken(
    monkeypatch: pytest.MonkeyPatch, reading: float, how: str
) -> None:
    """Tracing that seems to have cost an age gives way to a pass afterwards, and else stays."""
    decide = generating_module._Chooser._decide

    def told(chooser: Any, steps: int) -> None:
        chooser._tracer.seconds = reading
        decide(chooser, steps)

    monkeypatch.setattr(generating_module._Chooser, "_decide", told)
    tokens, mask = prompts()
    model = build_model("Llama")
    generation = generate_traced(model, tokens, mask, heads={0: [1]}, per_head=True, **SETTINGS)
    assert generation.how == how
    assert generation.trace.per_head(FarMass())[0].shape == (3, 1, 20 + 150 - 1)
    assert not model.model._forward_hooks
    assert not model.model._forward_pre_hooks


def test_settings_of_generate_are_passed_on() -> None:
    tokens, _ = prompts()
    generation = generate_traced(
        build_model("Qwen3"), tokens[:1], how="afterwards", **SETTINGS, return_dict_in_generate=True
    )
    assert generation.output.sequences.shape == (1, 170)
    assert generation.trace[FarMass()].shape == (1, 169)


def test_an_unknown_way_is_refused() -> None:
    with pytest.raises(ConfigError, match="how='later'"):
        generate_traced(build_model("Llama"), prompts()[0], how="later", **SETTINGS)  # type: ignore[arg-type]


@pytest.mark.parametrize("how", ["decoding", "afterwards"])
def test_sequences_that_end_earlier_and_copies(how: str) -> None:
    model = build_model("Llama")
    tokens, mask = prompts()
    torch.manual_seed(1)
    generation = generate_traced(
        model,
        tokens,
        mask,
        stats=STATS,
        heads={0: [0, 2], 2: [1]},
        how=how,
        max_new_tokens=100,
        do_sample=True,
        num_return_sequences=2,
        eos_token_id=[7, 9],
        pad_token_id=0,
    )
    lengths = []
    for row, sequence in enumerate(generation.output):
        prompt = tokens[row // 2][mask[row // 2].bool()]
        ends = torch.isin(sequence[20:], torch.tensor([7, 9])).nonzero()
        lengths.append(int(ends[0]) + 1 if len(ends) else len(sequence) - 20)
        whole = torch.cat([prompt, sequence[20 : 20 + lengths[-1]]])[None, :-1]
        alone = trace(
            model, whole, stats=STATS, heads={0: [0, 2], 2: [1]}, prompt_lengths=[len(prompt)]
        )
        last = 20 + lengths[-1] - 1
        for stat in STATS:
            traced = generation.trace[stat][row]
            error = (traced[20 - len(prompt) : last] - alone[stat][0]).abs().max()
            assert float(error) < (1e-4 if isinstance(stat, AttentionDistance) else 1e-5), stat
            # The end itself was fed back where others went on: it is real, what follows is not.
            assert not traced[last + 1 :].any()
    assert len(set(lengths)) > 1


def test_beams_are_refused() -> None:
    with pytest.raises(ConfigError, match="num_beams=1"):
        generate_traced(build_model("Llama"), prompts()[0], num_beams=2, **SETTINGS)
