"""The seam: a sampler without any model drives rollouts and held-out evaluation."""

import pyarrow as pa
import pytest
from parrot_sampler import ParrotSampler, drawn
from training_run import WORDS, build_tokenizer

from pivottrace.config import ModelConfig, RolloutsConfig, parse_config
from pivottrace.errors import ConfigError, RunDirError
from pivottrace.models.backends import open_sampler, sampler_opener
from pivottrace.rollouts.held_out import counts_of, sample_and_check
from pivottrace.rollouts.parts import PoolRollouts
from pivottrace.run.directory import RunDir, part_seed
from pivottrace.schemas import EVALUATION, QUESTIONS
from pivottrace.stages import rollout
from pivottrace.verifier import Verifier

PROMPTS = ["a", "", "b c", " ".join("a" * 18), "d"]
FAILURES = [None, "empty_prompt", None, "prompt_too_long_for_the_model", None]


def settings(**sections):
    values = {
        "seed": 5,
        "model": {"path": "first"},
        "answers": {"verifier": "exact", "pattern": r"^(\S+)"},
        "rollouts": {
            "backend": "parrot_sampler:open_parrot",
            "num_samples": 3,
            "max_new_tokens": 4,
            "part_size": 2,
        },
    }
    return parse_config(values | sections, "test")


def questions():
    return [
        {
            "id": f"q{i}",
            "prompt": [{"role": "user", "content": text}],
            "answer": "a",
            "source": "test",
            "extra": "{}",
        }
        for i, text in enumerate(PROMPTS)
    ]


@pytest.fixture
def run(tmp_path):
    run = RunDir.create(settings(output=str(tmp_path / "run")))
    run.write_table("pool", pa.Table.from_pylist(questions(), schema=QUESTIONS))
    run.mark_done("pool", num_questions=len(PROMPTS))
    return run


def tokens_of(text):
    return [WORDS.index(word) for word in text.split()]


def sampled_letters(seed, text, num_samples):
    return [WORDS[drawn(seed, tokens_of(text), sample)] for sample in range(num_samples)]


def test_rollouts_come_from_the_sampler_that_is_named(run):
    rollout.run(run)
    greedy = run.read_parts("rollouts_greedy", "rollout").to_pylist()
    assert [row["failure"] for row in greedy] == FAILURES
    assert [row["prompt_tokens"] for row in greedy] == [tokens_of(text) for text in PROMPTS]
    assert [row["answer"] for row in greedy] == ["a", None, "c", None, "d"]
    assert [row["finish"] for row in greedy] == ["stop", "failed", "stop", "failed", "stop"]
    sampled = run.read_parts("rollouts_sampled", "rollout").to_pylist()
    assert [row["answer"] for row in sampled] == [
        letter
        for i, (text, failure) in enumerate(zip(PROMPTS, FAILURES, strict=True))
        for letter in (
            # A part is two questions, and has a seed of its own.
            sampled_letters(part_seed(5, "sampled", i // 2), text, 3) if failure is None else [None]
        )
    ]
    assert {row["prompt_tokens"] for row in sampled} == {None}
    assert run.stage_facts("rollout")["model_digest"] == "first"


def test_sampled_rollouts_can_be_made_without_greedy_ones(run):
    begun = []
    PoolRollouts(run).write_sampled(lambda: begun.append(1))
    assert len(begun) == 3
    assert run.has_part("rollouts_sampled", 2) and not run.has_part("rollouts_greedy", 0)


def test_another_model_behind_the_sampler_is_refused(run):
    rollout.run(run)
    changed = run.config.model_copy(update={"model": ModelConfig(path="second")})
    with pytest.raises(RunDirError, match=r"second: another model wrote .* other weights"):
        PoolRollouts(RunDir(run.path, changed))


def test_held_out_questions_are_sampled_and_checked_without_a_model():
    config = settings(evaluate={"num_samples": 2})
    sampler = ParrotSampler(build_tokenizer("{{ messages[0]['content'] }}"))
    with Verifier("exact") as verifier:
        table = sample_and_check(sampler, questions(), config, verifier, 8)
    assert table.schema == EVALUATION
    expected = [
        answer
        for text, failure in zip(PROMPTS, FAILURES, strict=True)
        for answer in (sampled_letters(8, text, 2) if failure is None else [None] * 2)
    ]
    assert table["answer"].to_pylist() == expected
    assert table["correct"].to_pylist() == [answer == "a" for answer in expected]
    assert counts_of(table).num_samples.tolist() == [2] * len(PROMPTS)
    failed = [row for row in table.to_pylist() if row["question_id"] in ("q1", "q3")]
    assert {(row["finish"], row["num_tokens"]) for row in failed} == {("failed", 0)}


def test_a_sampler_that_is_not_there_is_refused_by_name():
    with pytest.raises(ConfigError, match=r"backend = 'vllm': .* nearest one is transformers\."):
        sampler_opener("vllm")
    with pytest.raises(ConfigError, match=r"backend = 'parrot_sampler:fly': parrot_sampler has no"):
        open_sampler(ModelConfig(), RolloutsConfig(backend="parrot_sampler:fly"))
    with pytest.raises(ConfigError, match=r"'parrot_sampler:LETTERS': it is a list, not a func"):
        open_sampler(ModelConfig(), RolloutsConfig(backend="parrot_sampler:LETTERS"))
