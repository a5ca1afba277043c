"""What does not go on where the last forward ended is refused; what does is exact."""

from itertools import pairwise

import pytest
import torch
import transformers
from architectures import VOCABULARY, build_model

from pivottrace.attention import (
    FarMass,
    FutureInfluence,
    QuestionMass,
    SinkMass,
    trace,
    trace_attention,
)
from pivottrace.errors import ConfigError, ModelError

pytestmark = pytest.mark.usefixtures("one_thread")

F = FarMass()


def some_tokens(batch: int = 2, length: int = 40) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randint(2, VOCABULARY, (batch, length), generator=generator)


# Gemma 2 is soft-capped: its rows are read one by one.
@pytest.mark.parametrize("family", ["Llama", "Gemma2"])
@torch.no_grad()
def test_several_tokens_at_once_between_steps(family: str) -> None:
    model, ids = build_model(family), some_tokens()
    cache = transformers.DynamicCache(config=model.config)
    borders = [0, 10, *range(11, 16), 30, *range(31, 41)]
    with trace_attention(model, [F]) as traced:
        for start, stop in pairwise(borders):
            model(ids[:, start:stop], past_key_values=cache)
    torch.testing.assert_close(traced[F], trace(model, ids)[F], rtol=0, atol=1e-5)


@torch.no_grad()
def test_a_second_sequence_is_refused() -> None:
    model, ids = build_model("Llama"), some_tokens()
    with (
        pytest.raises(ModelError, match="positions up to 39 are traced"),
        trace_attention(model),
    ):
        model(ids)
        model(ids[:1, :30])


@pytest.mark.parametrize(
    "settings",
    [
        {"use_cache": False},
        {"prompt_lookup_num_tokens": 4},
        {"num_beams": 3},
        {"num_beams": 3, "cache_implementation": "static"},
    ],
)
def test_generation_that_does_not_append_is_refused(settings: dict) -> None:
    model = build_model("Llama")
    repeated = some_tokens(1, 12).repeat(1, 3)
    with (
        pytest.raises(ModelError, match=r"Trace a new sequence|beam search"),
        trace_attention(model),
    ):
        model.generate(
            repeated,
            max_new_tokens=60,
            do_sample=False,
            pad_token_id=0,
            eos_token_id=None,
            **settings,
        )


@pytest.mark.parametrize("family", ["Llama", "Gemma2", "GptOss"])
def test_gradients_are_unchanged_and_traces_have_none(family: str) -> None:
    model, ids = build_model(family), some_tokens()
    gradients = []
    for traced in (False, True):
        model.zero_grad()
        if traced:
            with trace_attention(model) as t:
                loss = model(ids, labels=ids).loss
            assert not t[F].requires_grad
        else:
            loss = model(ids, labels=ids).loss
        loss.backward()
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    for plain, ours in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-3, atol=1e-5)


@torch.no_grad()
def test_what_is_neither_right_nor_wrong_is_refused() -> None:
    model, ids = build_model("Llama"), some_tokens()
    twice = trace(model, ids, stats=[FarMass(), FarMass(10, 1)])[F]
    torch.testing.assert_close(twice, trace(model, ids)[F])
    with (
        pytest.raises(ConfigError, match=r"layers \[99\]"),
        trace_attention(model, heads={0: [1], 99: [0]}),
    ):
        model(ids)
    with pytest.raises(ConfigError, match="at least 1"):
        FutureInfluence(0)
    with pytest.raises(ConfigError, match="prompt_lengths"):
        trace(model, ids, stats=[QuestionMass()])
    with pytest.raises(ModelError, match="no forward ran"), trace_attention(model):
        pass
    with pytest.raises(ConfigError, match="was not traced"):
        trace(model, ids, per_head=True).per_head(SinkMass())
