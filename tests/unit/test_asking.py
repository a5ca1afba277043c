"""Prompts put to a sampler: each gets its responses or the reason why it has none."""

import pytest
from parrot_sampler import ParrotSampler, drawn
from training_run import WORDS, build_tokenizer

from pivottrace.errors import ModelError
from pivottrace.models.asking import Asked, ask
from pivottrace.models.sampler import Response, Sampling

SETTINGS = Sampling(num_samples=2, temperature=1.0, max_new_tokens=5, seed=3)
A, B = WORDS.index("a"), WORDS.index("b")


def responses(prompt):
    tokens = [drawn(3, prompt, sample) for sample in range(2)]
    return [Response([token], WORDS[token], "stop") for token in tokens]


def test_responses_and_reasons_come_in_the_order_of_the_prompts():
    sampler = ParrotSampler(build_tokenizer(), max_positions=8)
    longest, too_long = [A] * 3, [A] * 4
    assert ask(sampler, [[], [B], too_long, longest], SETTINGS) == [
        Asked([], [], "empty_prompt"),
        Asked([B], responses([B]), None),
        Asked(too_long, [], "prompt_too_long_for_the_model"),
        Asked(longest, responses(longest), None),
    ]
    assert sampler.calls == [([[B], longest], SETTINGS)]


def test_a_model_without_a_limit_takes_any_prompt():
    sampler = ParrotSampler(build_tokenizer(), max_positions=None)
    (asked,) = ask(sampler, [[A] * 1000], SETTINGS)
    assert asked.failure is None and len(asked.responses) == 2


def test_nothing_is_sampled_where_no_prompt_fits():
    sampler = ParrotSampler(build_tokenizer(), max_positions=5)
    assert [asked.failure for asked in ask(sampler, [[], [A]], SETTINGS)] == [
        "empty_prompt",
        "prompt_too_long_for_the_model",
    ]
    assert ask(sampler, [], SETTINGS) == []
    assert sampler.calls == []


def test_a_sampler_that_loses_a_prompt_is_not_believed():
    class Forgetful(ParrotSampler):
        def sample(self, prompts, settings):
            return super().sample(prompts, settings)[1:]

    with pytest.raises(ValueError, match="zip"):
        ask(Forgetful(build_tokenizer()), [[A], [B]], SETTINGS)


def test_a_sampler_that_loses_a_sample_is_refused():
    class Forgetful(ParrotSampler):
        def sample(self, prompts, settings):
            first, *rest = super().sample(prompts, settings)
            return [first[1:], *rest]

    with pytest.raises(ModelError, match="gave 1 responses to a prompt, and 2 were asked for"):
        ask(Forgetful(build_tokenizer()), [[A], [B]], SETTINGS)
