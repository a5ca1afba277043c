"""Prompts are rendered and responses read with a tokenizer alone."""

import pytest
from training_run import WORDS, build_tokenizer

from pivottrace.config import PoolConfig
from pivottrace.errors import ModelError
from pivottrace.models.rendering import (
    BATCH,
    read_response,
    render_prompt,
    render_prompts,
    render_questions,
)
from pivottrace.models.sampler import Response, Sampling

QUESTION = [{"role": "system", "content": "a"}, {"role": "user", "content": "b"}]


def ids(text):
    return [WORDS.index(word) for word in text.split()]


def test_a_template_that_refuses_a_role_says_what_to_remove():
    template = (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}"
        "{% endif %}{{ messages[0]['content'] }}"
    )
    tokenizer = build_tokenizer(template)
    assert render_prompt(tokenizer, QUESTION[1:], PoolConfig()) == [WORDS.index("b")]
    with pytest.raises(
        ModelError,
        match=r"roles system, user: System role not supported\. Remove pool\.system_prompt",
    ):
        render_prompt(tokenizer, QUESTION, PoolConfig())


def test_a_prompt_without_a_template_is_plain_text(tokenizer, monkeypatch):
    monkeypatch.setattr(tokenizer, "chat_template", None)
    tokens = render_prompt(tokenizer, QUESTION, PoolConfig())
    assert tokenizer.decode(tokens, skip_special_tokens=True).split() == ["a", "b"]


def test_plain_text_is_rendered_as_training_renders_it():
    tokenizer = build_tokenizer()
    assert render_prompt(tokenizer, "a b", PoolConfig()) == ids("<s> a b")


def test_many_prompts_are_each_rendered_as_alone():
    tokenizer, pool = build_tokenizer(), PoolConfig()
    prompts = ["a b", QUESTION, "c", "d", *[QUESTION[1:]] * (BATCH + 1), "e"]
    found = render_prompts(tokenizer, prompts, pool)
    assert found == [render_prompt(tokenizer, prompt, pool) for prompt in prompts]
    assert render_prompts(tokenizer, [], pool) == []


@pytest.mark.parametrize("expression", ["1 / 0", "messages[5].content.x", "'a' + 1", "none.x()"])
def test_a_template_that_fails_is_refused_without_a_traceback(expression):
    tokenizer = build_tokenizer("{{ " + expression + " }}")
    with pytest.raises(ModelError, match="the chat template refuses a prompt of roles system, us"):
        render_prompt(tokenizer, QUESTION, PoolConfig())


def test_a_question_gets_the_pools_system_prompt_and_suffix():
    pool = PoolConfig(system_prompt="c", prompt_suffix="d")
    (found,) = render_questions(build_tokenizer(), [QUESTION[1:]], pool)
    assert found == ids("system : c user : b d assistant : no think")


@pytest.mark.parametrize(
    ("words", "stop", "expected"),
    [
        ("a b", (), Response(ids("a b"), "a b", "stop")),
        ("a b c", (), Response(ids("a b c"), "a b c", "length")),
        ("a b c", ("c",), Response(ids("a b c"), "a b ", "stop")),
        ("a b c", ("c", "b"), Response(ids("a b c"), "a ", "stop")),
        ("<s> a", (), Response(ids("<s> a"), "a", "stop")),
        ("", (), Response([], "", "stop")),
    ],
)
def test_a_response_is_read_from_its_tokens_and_the_limit(words, stop, expected):
    settings = Sampling(num_samples=1, temperature=1.0, max_new_tokens=3, stop=stop)
    assert read_response(build_tokenizer(), ids(words), settings) == expected
