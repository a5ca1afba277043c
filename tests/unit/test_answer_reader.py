"""The reader of a configuration, and what is said where no answer can be read."""

import pyarrow as pa
import pytest

from pivottrace.config import parse_config
from pivottrace.errors import ConfigError
from pivottrace.rollouts.answer_reader import SHOWN_CHARS, AnswerReader, end_of, unread_note

LIMIT = "rollouts.max_new_tokens = 64"


def reader(**sections):
    return AnswerReader.of(parse_config(sections, "test"))


def test_the_reader_of_a_configuration():
    text = "<answer>1</answer> \\boxed{2}\nAnswer: 3"
    assert reader().read(text) == "1"
    assert reader(answers={"formats": ["line", "boxed"]}).read(text) == "3"
    assert reader(answers={"formats": ["line"], "pattern": r"\\boxed{(\d)}"}).read(text) == "2"


def test_a_letter_at_the_beginning_is_the_last_resort_where_letters_are_compared():
    chooses = {"verifier": "choice"}
    assert reader(answers=chooses).read("D) antimony") == "D"
    assert reader(answers=chooses).read("A) 11 is wrong. The answer is B.") == "B"
    assert reader().read("D) antimony") is None
    assert reader(answers={**chooses, "formats": ["boxed"]}).read("D) antimony") is None


def test_template_words_come_from_both_texts_of_the_prompt():
    both = reader(
        pool={
            "system_prompt": r"Use \boxed{city}.",
            "prompt_suffix": "End with <answer>name</answer>.",
        }
    )
    assert both.read(r"\boxed{Rome}, that is \boxed{city}") == "Rome"
    assert both.read(r"\boxed{Rome}. I use \boxed{city}.") == "Rome"
    assert both.read("<answer>Name</answer>") is None
    example = reader(pool={"prompt_suffix": r"Write, for example, \boxed{42}."})
    assert example.read(r"\boxed{42}") == "42"


@pytest.mark.parametrize(
    ("formats", "problem"),
    [
        (["boxes"], "there is no such format. The nearest one is boxed"),
        (["boxed", "hash"], "The nearest one is hashes"),
        ([], "at least 1 item"),
    ],
)
def test_formats_that_do_not_exist_are_refused(formats, problem):
    with pytest.raises(ConfigError, match=problem) as caught:
        reader(answers={"formats": formats})
    assert "answers.formats = " in str(caught.value)


# Nothing is read ---------------------------------------------------------------------------------


def test_whole_responses_are_not_blamed_for_their_length():
    why = reader().why_none([("So 18 are left.", "stop"), ("It is 18.", "stop")], LIMIT)
    assert why.startswith("no answer could be read from 2 responses. One ends: 'So 18 are left.'")
    assert "answers.formats: tags, boxed, hashes, line, stated, bold" in why
    assert "max_new_tokens" not in why


def test_cut_responses_are_counted_and_a_whole_one_is_shown():
    responses = [("We add and", "length"), ("It is 18.", "stop"), ("We take", "length")]
    why = reader(answers={"formats": ["boxed"]}).why_none(responses, LIMIT)
    assert f" 2 of them were cut at {LIMIT}: raise it. One ends: 'It is 18.'" in why
    assert "Tried were answers.formats: boxed." in why


def test_responses_that_were_all_cut():
    why = reader().why_none([("We add and", "length")] * 3, LIMIT)
    assert f" All of them were cut at {LIMIT}: raise it. One ends: 'We add and'" in why


def test_a_pattern_is_named_in_place_of_the_formats():
    why = reader(answers={"pattern": "Z: (.*)"}).why_none([(r"\boxed{18}", "stop")], LIMIT)
    assert "Tried were answers.pattern: 'Z: (.*)'. Correct the pattern" in why


def test_nothing_is_said_where_an_answer_is_read_or_none_is_given():
    assert reader().why_none([("It is 18.", "stop"), (r"\boxed{18}", "stop")], LIMIT) is None
    assert reader().why_none([(" ", "stop"), ("", "length")], LIMIT) is None
    assert reader().why_none([], LIMIT) is None


def test_the_end_of_a_response_is_safe_and_short():
    assert end_of("a\n\nb\x1b[31m\u202e c") == "a b [31m c"
    assert end_of("x" * 1_000) == "…" + "x" * SHOWN_CHARS


class Rolled:
    """A run whose greedy rollouts are done."""

    def __init__(self, *rows):
        self.config = parse_config({"rollouts": {"max_new_tokens": 64}}, "test")
        self._rows = rows

    def is_done(self, stage):
        return stage == "greedy"

    def iter_parts(self, name, made_by, columns):
        yield from (
            pa.Table.from_pylist([dict(zip(columns, row, strict=True))]) for row in self._rows
        )


def test_the_note_on_a_run():
    cut, whole = ("We add", None, "length"), ("It is 18.", None, "stop")
    note = unread_note(Rolled(cut, whole, ("", None, "failed")))
    assert note.startswith(
        f"no answer could be read from 2 responses. 1 of them were cut at {LIMIT}"
    )
    assert "One ends: 'It is 18.'" in note
    assert unread_note(Rolled(cut, ("#### 1", "1", "stop"))) is None
    assert unread_note(Rolled(("", None, "failed"))) is None
