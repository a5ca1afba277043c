"""The transformers sampler: its seeds, its limits, and a machine that runs out of memory."""

from dataclasses import replace

import pytest
import torch
from training_run import NO_MEMORY
from transformers import GenerationConfig

from pivottrace.config import ModelConfig, PoolConfig, RolloutsConfig
from pivottrace.models import compact, generate
from pivottrace.models.asking import ask
from pivottrace.models.backends import open_sampler
from pivottrace.models.generate import TransformersSampler
from pivottrace.models.rendering import render_prompt
from pivottrace.models.sampler import Sampling

pytestmark = pytest.mark.usefixtures("one_thread")

PROMPTS = [[8, 9], [8, 10, 11], [12]]


def by_hand(model, prompts, seed, **sampling):
    """A batch of prompts by `generate` of transformers, seeded as the sampler promises."""
    width = max(map(len, prompts))
    ids = torch.tensor([[0] * (width - len(p)) + p for p in prompts])
    settings = GenerationConfig(max_new_tokens=6, eos_token_id=1, pad_token_id=0, **sampling)
    torch.manual_seed(seed)
    rows = model.generate(ids, attention_mask=(ids != 0).long(), generation_config=settings)
    rows = rows[:, width:].tolist()
    return [row[: next((i for i, t in enumerate(row) if t in (0, 1)), len(row))] for row in rows]


def test_the_first_samples_are_those_of_transformers(start, tokenizer):
    """Rows go by prompt length: the samples of a prompt follow one another."""
    settings = Sampling(num_samples=4, temperature=0.8, max_new_tokens=6, batch_size=12, seed=7)
    found = TransformersSampler(start.eval(), tokenizer).sample(PROMPTS, settings)
    rows = [p for p in ([12], [8, 9], [8, 10, 11]) for _ in range(4)]
    sampling = {"do_sample": True, "temperature": 0.8, "top_p": 1.0, "top_k": 0}
    expected = by_hand(start, rows, 7, **sampling)
    assert [found[2], found[0], found[1]] == [expected[:4], expected[4:8], expected[8:]]
    assert len({tuple(tokens) for tokens in expected}) > 6


def test_greedy_responses_are_those_of_transformers(start, tokenizer):
    settings = Sampling(num_samples=1, temperature=None, max_new_tokens=6)
    found = TransformersSampler(start.eval(), tokenizer).sample(PROMPTS, settings)
    expected = [by_hand(start, [prompt], 0, do_sample=False) for prompt in PROMPTS]
    assert found == expected


@pytest.mark.parametrize("error", NO_MEMORY, ids=["cuda", "cpu"])
def test_running_out_of_memory_leaves_samples_repeatable(start, tokenizer, monkeypatch, error):
    def sample(batch_size):
        settings = Sampling(
            num_samples=4, temperature=1.0, max_new_tokens=6, batch_size=batch_size, seed=7
        )
        return TransformersSampler(start, tokenizer).sample(PROMPTS, settings)

    expected, own = sample(4), generate.generate_refilling
    assert len({tuple(tokens) for responses in expected for tokens in responses}) > 6

    def short_of_memory(model, prompts, *args, places, **kwargs):
        if places > 4:
            torch.rand(3)  # the attempt drew before it failed
            raise error
        return own(model, prompts, *args, places=places, **kwargs)

    monkeypatch.setattr(generate, "generate_refilling", short_of_memory)
    assert sample(8) == sample(8) == expected


def test_no_response_is_kept_when_memory_runs_out(start, tokenizer, monkeypatch):
    """Short ones end first: if they were kept, only long ones would be drawn again."""
    settings = Sampling(num_samples=4, temperature=1.0, max_new_tokens=6, batch_size=4, seed=3)
    expected = TransformersSampler(start, tokenizer).sample(
        PROMPTS, replace(settings, batch_size=2)
    )
    own, asked = generate.generate_refilling, []

    def short_of_memory(model, prompts, *args, places, **kwargs):
        asked.append((len(prompts), places))
        for number, response in enumerate(own(model, prompts, *args, places=places, **kwargs)):
            if number == 5 and places > 2:
                raise NO_MEMORY[0]
            yield response

    monkeypatch.setattr(generate, "generate_refilling", short_of_memory)
    assert TransformersSampler(start, tokenizer).sample(PROMPTS, settings) == expected
    assert asked == [(12, 4), (12, 2)]


def test_places_are_filled_again_while_sampling(start, tokenizer, monkeypatch):
    """First tokens of 3,000 samples, of which a few are decoded at a time: shares of the model."""
    filled = []
    own = compact._Batch.fill
    monkeypatch.setattr(
        compact._Batch, "fill", lambda batch, *more: (filled.append(1), own(batch, *more))
    )
    more = compact.SPELL + 6  # a limit within one spell is decoded batch by batch
    settings = Sampling(num_samples=3000, temperature=1.0, max_new_tokens=more, batch_size=200)
    (samples,) = TransformersSampler(start.eval(), tokenizer).sample([[8, 9]], settings)
    assert len(filled) > 5
    with torch.no_grad():
        expected = start(torch.tensor([[8, 9]])).logits[0, -1].softmax(-1)
    ends = torch.tensor([not tokens for tokens in samples]).float().mean()
    assert abs(ends - expected[[0, 1]].sum()) < 5 * (0.25 / 3000) ** 0.5
    firsts = torch.tensor([tokens[0] for tokens in samples if tokens]).bincount(minlength=19) / 3000
    assert (firsts - expected)[2:].abs().max() < 5 * (0.25 / 3000) ** 0.5


def test_a_response_that_reaches_the_limit_is_recorded_as_cut(start, tokenizer):
    settings = Sampling(num_samples=1, temperature=None, max_new_tokens=5)
    (asked,) = ask(TransformersSampler(start, tokenizer), [[8, 9, 10]], settings)
    (cut,) = asked.responses
    assert (len(cut.tokens), cut.finish) == (5, "length")


def test_a_stop_string_ends_a_response_and_is_cut_from_its_text():
    sampler = open_sampler(ModelConfig(device="cpu"), RolloutsConfig())
    question = [{"role": "user", "content": "Ana is 40 years old. Leo is 12 years younger."}]
    prompt = render_prompt(sampler.tokenizer, question, PoolConfig())

    def respond(limit, *stop):
        settings = Sampling(num_samples=1, temperature=None, max_new_tokens=limit, stop=stop)
        return ask(sampler, [prompt], settings)[0].responses[0]

    whole = respond(64)
    word = whole.text.split()[3]
    stopped = respond(64, word)
    assert (stopped.text, stopped.finish) == (whole.text[: whole.text.index(word)], "stop")
    assert len(stopped.tokens) < len(whole.tokens)
    assert respond(len(stopped.tokens), word).finish == "stop"  # by itself, at the very limit
    assert respond(len(stopped.tokens)).finish == "length"
