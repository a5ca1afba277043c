"""The seam: a sampler without any model drives rollouts and held-out evaluation."""

from itertools import chain

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from parrot_sampler import ParrotSampler, drawn
from training_run import WORDS, build_tokenizer

from pivottrace.config import ModelConfig, RolloutsConfig, parse_config
from pivottrace.errors import ConfigError, RunDirError
from pivottrace.models.backends import open_sampler, sampler_opener
from pivottrace.rollouts.held_out import counts_of, sample_and_check
from pivottrace.rollouts.parts import PoolRollouts
from pivottrace.run.directory import RunDir
from pivottrace.run.part_work import part_seed
from pivottrace.schemas import EVALUATION, QUESTIONS
from pivottrace.stages import greedy
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
    run.begin("greedy")  # an older version began, and left out what does not fit
    return run


def tokens_of(text):
    return [WORDS.index(word) for word in text.split()]


def sampled_letters(seed, text, num_samples):
    return [WORDS[drawn(seed, tokens_of(text), sample)] for sample in range(num_samples)]


def test_rollouts_come_from_the_sampler_that_is_named(run):
    greedy.run(run)
    traces = run.read_parts("rollouts_greedy", "greedy").to_pylist()
    assert [row["failure"] for row in traces] == FAILURES
    assert [row["prompt_tokens"] for row in traces] == [tokens_of(text) for text in PROMPTS]
    assert [row["answer"] for row in traces] == ["a", None, "c", None, "d"]
    assert [row["finish"] for row in traces] == ["stop", "failed", "stop", "failed", "stop"]
    assert run.stage_facts("greedy")["model_digest"] == "first"


def sampled_rows(run):
    paths = [run.part_path("rollouts_sampled", index) for index in range(3)]
    return [row for path in paths for row in pq.read_table(path).to_pylist()]


def refuse(*_):
    raise AssertionError("nothing is to choose after the last step")


def test_samples_come_from_the_sampler_that_is_named(run):
    PoolRollouts(run).write_sampled((3,), lambda: None)
    sampled = sampled_rows(run)
    assert [row["answer"] for row in sampled] == [
        letter
        for i, (text, failure) in enumerate(zip(PROMPTS, FAILURES, strict=True))
        for letter in (
            # A part is two questions, and has a seed of its own.
            sampled_letters(part_seed(5, "sampled", i // 2), text, 3) if failure is None else [None]
        )
    ]
    assert {row["prompt_tokens"] for row in sampled} == {None}


def test_each_step_samples_only_the_questions_that_go_on(run):
    """Question 0 goes on once and question 2 to the end; 1 and 3 cannot be asked; 4 stops."""
    begun, asked = [], []

    def choose(places, answers):
        asked.append((list(places), [len(each) for each in answers]))
        return [
            place == 2 or (place == 0 and len(each) == 2)
            for place, each in zip(places, answers, strict=True)
        ]

    pool = PoolRollouts(run)
    pool.write_first(2, lambda: begun.append(1))
    assert (len(begun), asked) == (
        3,
        [],
    )  # all questions have the first step before the rule is asked
    pool.write_sampled((2, 3, 6), lambda: begun.append(1), choose)
    assert len(begun) == 6
    assert asked == [([0], [2]), ([0], [3]), ([2], [2]), ([2], [3]), ([4], [2]), ([], [])]
    rows = sampled_rows(run)
    found = {i: [row for row in rows if row["question_id"] == f"q{i}"] for i in range(5)}
    assert [len(found[i]) for i in range(5)] == [3, 1, 6, 1, 2]
    assert [row["sample"] for row in found[2]] == list(range(6))
    steps = [
        sampled_letters(part_seed(5, kind, 1), PROMPTS[2], count)
        for kind, count in (("sampled", 2), ("sampled/1", 1), ("sampled/2", 3))
    ]
    assert [row["answer"] for row in found[2]] == [*chain(*steps)]


def test_another_model_behind_the_sampler_is_refused(run):
    greedy.run(run)
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
