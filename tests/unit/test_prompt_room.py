"""Prompts and the room that the model's context leaves for a response."""

import pyarrow as pa
import pytest
from parrot_sampler import ParrotSampler
from training_run import build_tokenizer

from pivottrace.config import parse_config
from pivottrace.errors import ConfigError
from pivottrace.rollouts.prompt_room import refuse_long_prompts
from pivottrace.run.directory import RunDir
from pivottrace.schemas import QUESTIONS
from pivottrace.stages import greedy

POOL = {"short": [1] * 10, "long": [1] * 30, "longest": [1] * 40, "as long": [1] * 30}


def refused(context, held_out=None, **sections):
    with pytest.raises(ConfigError) as caught:
        refuse_long_prompts(parse_config(sections, "test"), context, POOL, held_out or {})
    return str(caught.value)


def limited(tokens, **more):
    return {"rollouts": {"max_new_tokens": tokens}, "train": {"max_new_tokens": tokens}} | more


def test_what_fits_exactly_passes():
    config = parse_config(limited(60), "test")
    refuse_long_prompts(config, 100, POOL, {"held out": [1] * 40})
    refuse_long_prompts(config, None, POOL, POOL)
    refuse_long_prompts(config, 100, {}, {})
    refuse_long_prompts(config, 10, {}, {})  # without questions no limit is too long


def test_the_advised_number_fits_every_question():
    message = refused(100, **limited(61))
    assert message == (
        "1 of 4 questions do not fit the model together with a response: the longest prompt "
        "('longest') has 40 tokens, and the model reads 100. Set rollouts.max_new_tokens (now 61) "
        "and train.max_new_tokens (now 61) to at most 60, or take the long questions out "
        "('longest')."
    )
    refuse_long_prompts(parse_config(limited(60), "test"), 100, POOL, {})


def test_only_the_settings_that_are_too_large_are_named():
    message = refused(100, rollouts={"max_new_tokens": 1}, train={"max_new_tokens": 75})
    assert "Set train.max_new_tokens (now 75) to at most 60" in message
    assert "3 of 4" in message and "('longest', 'long', 'as long')" in message
    message = refused(100, rollouts={"max_new_tokens": 75}, train={"enabled": False})
    assert "Set rollouts.max_new_tokens (now 75) to at most 60" in message


def test_no_question_is_taken_out_if_none_fits():
    message = refused(100, **limited(1024))
    assert message.startswith("4 of 4 questions") and message.endswith("to at most 60.")


def test_prompts_that_leave_no_room_are_to_be_taken_out():
    message = refused(50, **limited(30))
    assert message == (
        "1 of 4 questions leave less than 16 tokens for a response: the longest prompt ('longest') "
        "has 40 tokens, and the model reads 50. Take them out ('longest'), or take a model that "
        "reads more."
    )
    assert refused(30, **limited(30)).startswith("3 of 4 questions leave less than 16 tokens")


def test_held_out_questions_have_their_own_limit():
    message = refused(100, {"h": [1] * 70}, **limited(50))
    assert message.startswith("1 of 1 held-out questions") and "('h') has 70 tokens" in message
    assert "Set evaluate.max_new_tokens (now 50) to at most 30." in message
    config = parse_config(limited(50, evaluate={"max_new_tokens": 30}), "test")
    refuse_long_prompts(config, 100, POOL, {"h": [1] * 70})


# In the stage -------------------------------------------------------------------------------------


def open_parrot(model, rollouts):
    tokenizer = build_tokenizer("{{ messages[0]['content'] }}")
    return ParrotSampler(tokenizer, words="a", max_positions=64)


@pytest.fixture
def make_run(tmp_path):
    def make(max_new_tokens):
        values = {
            "output": str(tmp_path / "run"),
            "answers": {"verifier": "exact", "pattern": r"^(\S+)"},
            "rollouts": {
                "backend": "test_prompt_room:open_parrot",
                "max_new_tokens": max_new_tokens,
                "part_size": 2,
            },
            "train": {"enabled": False},
        }
        run = RunDir.create(parse_config(values, "test"))
        rows = [
            {
                "id": f"q{i}",
                "prompt": [{"role": "user", "content": " ".join("a" * length)}],
                "answer": "a",
                "source": "test",
                "extra": "{}",
            }
            for i, length in enumerate((4, 8, 20))
        ]
        run.write_table("pool", pa.Table.from_pylist(rows, schema=QUESTIONS))
        run.write_table("evaluation", pa.Table.from_pylist(rows[:1], schema=QUESTIONS))
        run.mark_done("pool", num_questions=3)
        return run

    return make


def test_nothing_is_sampled_and_nothing_bound_before_every_question_fits(make_run):
    run = make_run(60)
    with run.locked(), pytest.raises(ConfigError, match=r"2 of 3 questions .* to at most 44"):
        greedy.run(run)
    run = make_run(44)
    with run.locked():
        greedy.run(run)
    assert run.read_parts("rollouts_greedy", "greedy")["failure"].null_count == 3
