"""A run without answers ends early with the cause, and one with few answers says so."""

import pyarrow as pa
import pytest
from parrot_sampler import ParrotSampler
from training_run import build_tokenizer

from pivottrace.commands.printing import plan_lines
from pivottrace.config import parse_config
from pivottrace.errors import NoAnswersError
from pivottrace.run.choices import estimators_in
from pivottrace.run.directory import RunDir
from pivottrace.schemas import QUESTIONS, scores_schema, votes_schema
from pivottrace.stages import greedy, sample, score
from pivottrace.stages.unanswered import many_unanswered, refuse_unanswered

AGAIN = "and begin again in another output directory (--output)"


def configured(**sections):
    return parse_config({"rollouts": {"max_new_tokens": 64}} | sections, "test")


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("truncated", "4 responses were cut at rollouts.max_new_tokens = 64 before an answer: rai"),
        ("no_answer", "4 responses have no answer that answers.formats can read: name their form"),
        ("empty_response", "4 responses are empty: look at the prompt that pivottrace validate"),
        ("nan_logits", "4 responses came with numbers that are not finite: try another model.dt"),
        (
            "prompt_too_long_for_the_model",
            "4 responses do not fit the model's context: lower rollouts.max_new_tokens = 64, and",
        ),
        ("empty_prompt", "4 responses answer an empty prompt: look at the questions, and begin"),
    ],
)
def test_each_cause_has_its_cure(reason, words):
    failures = {"truncated": 1, "no_answer": 1} | {reason: 4}
    with pytest.raises(NoAnswersError) as caught:
        refuse_unanswered(failures, sum(failures.values()), configured())
    message = str(caught.value)
    assert message.startswith(f"no question can be used, because {words}")
    assert message.endswith(f"{AGAIN}.") and caught.value.exit_code == 1


def test_the_cure_of_an_unknown_format_names_the_pattern():
    with pytest.raises(NoAnswersError, match=r"or describe it by answers\.pattern"):
        refuse_unanswered({"no_answer": 2}, 2, configured())


def test_a_pattern_is_named_in_place_of_the_formats():
    config = configured(answers={"pattern": "Z: (.*)"})
    with pytest.raises(NoAnswersError, match=r"no answer that answers\.pattern can read: correct"):
        refuse_unanswered({"no_answer": 2}, 2, config)


def test_one_answer_is_enough_to_go_on():
    refuse_unanswered({"no_answer": 5}, 6, configured())
    refuse_unanswered({}, 0, configured())


def test_more_than_half_is_said_with_the_cause():
    assert many_unanswered({"truncated": 2, "no_answer": 1}, 6, configured()) is None
    assert many_unanswered({}, 0, configured()) is None
    assert many_unanswered({"truncated": 3, "no_answer": 1}, 6, configured()) == (
        "4 of 6 greedy responses gave no answer, so little can be learnt from this pool: 3 "
        "responses were cut at rollouts.max_new_tokens = 64 before an answer: raise it, " + AGAIN
    )


# Through the stages -------------------------------------------------------------------------------


class Reticent(ParrotSampler):
    """Answers with "a" to prompts that begin with it, and says "b" to the others."""

    def _respond(self, prompt, settings, sample):
        words = "a" if prompt[0] == self.tokenizer.convert_tokens_to_ids("a") else "b"
        return self.tokenizer(words, add_special_tokens=False)["input_ids"]


def open_reticent(model, rollouts):
    return Reticent(build_tokenizer("{{ messages[0]['content'] }}"))


@pytest.fixture
def make_run(tmp_path):
    def make(prompts, name="run"):
        values = {
            "output": str(tmp_path / name),
            "answers": {"verifier": "exact", "pattern": "^(a)"},
            "rollouts": {"backend": "test_unanswered:open_reticent", "max_new_tokens": 4},
            "labels": {"source": "column", "budget": 0},
            "train": {"enabled": False},
        }
        questions = [
            {
                "id": f"q{i}",
                "prompt": [{"role": "user", "content": text}],
                "answer": "a",
                "source": "test",
                "extra": "{}",
            }
            for i, text in enumerate(prompts)
        ]
        run = RunDir.create(parse_config(values, "test"))
        run.write_table("pool", pa.Table.from_pylist(questions, schema=QUESTIONS))
        run.mark_done("pool", num_questions=len(prompts))
        return run

    return make


def test_a_run_without_any_answer_ends_after_the_greedy_stage_each_time(make_run):
    run = make_run(["b", "c"])
    for _ in range(2):  # a run that is taken up must not go past it
        with pytest.raises(NoAnswersError, match=r"2 responses have no answer that answers\.patt"):
            greedy.run(run)
    assert run.is_done("greedy") and not run.begun_facts("trace")


def test_the_note_comes_at_once_and_again(make_run, capsys):
    run = make_run(["a", "b", "c"])
    for _ in range(2):
        greedy.run(run)
        told = capsys.readouterr().err
        assert "note: 2 of 3 greedy responses gave no answer, so" in told
        assert "One response ends: 'b'" in told
    greedy.run(make_run(["a", "b"], "half"))
    assert "greedy responses gave no answer" not in capsys.readouterr().err


def test_the_plan_says_it_too(make_run):
    table = pa.Table.from_pylist(
        [
            {
                "budget": 0.0,
                "labels": 0,
                "wrong_votes": None,
                "learning": None,
                "tokens": None,
                "hours": None,
                **dict.fromkeys(("annotate", "weak", "discard", "defer"), 0),
            }
        ]
    )
    run = make_run(["a", "b", "c"])
    greedy.run(run)
    assert [line for line in plan_lines(run, table) if line.startswith("note: 2 of 3 greedy resp")]


def test_traces_that_all_fail_end_the_run_after_scoring(make_run):
    run = make_run(["a", "b", "c"])
    greedy.run(run)
    rows = [{"question_id": f"q{i}", "failure": "nan_logits"} for i in range(3)]
    schema = scores_schema(estimators_in("scores", run.config))
    run.write_table("scores", pa.Table.from_pylist(rows, schema=schema))
    run.mark_done("score")
    with pytest.raises(NoAnswersError, match="3 responses came with numbers that are not finite"):
        score.run(run)


def test_questions_that_all_fail_for_several_reasons_end_the_run_after_sampling(make_run):
    run = make_run(["a", "b", "c"])
    greedy.run(run)
    reasons = ["nan_logits", "no_answer", "no_answer"]
    rows = [{"question_id": f"q{i}", "failure": reason} for i, reason in enumerate(reasons)]
    schema = votes_schema(estimators_in("votes", run.config))
    run.write_table("votes", pa.Table.from_pylist(rows, schema=schema))
    run.mark_done("sample")
    with pytest.raises(NoAnswersError, match="2 responses have no answer"):
        sample.run(run)
