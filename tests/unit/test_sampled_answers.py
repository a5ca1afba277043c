"""What samples say by themselves: classes, the vote, and nothing of the trace."""

import operator
from functools import partial

import pytest

from pivottrace.rollouts.sampled_answers import compare_answers
from pivottrace.verifier import Verifier
from pivottrace.verifier.answers import group_equivalent


@pytest.mark.parametrize(
    ("answers", "greedy", "classes", "columns"),
    [
        (["4", None, "5", "4"], "5", [0, -1, 1, 0], ("4", 0.5, "ok", 4, [2, 1], 1)),
        (["5", "4"], "4", [0, 1], (None, 0.5, "tie", 2, [1, 1], 1)),
        (
            ["6", "5", "4", "4", "5", "4"],
            "6",
            [0, 1, 2, 2, 1, 2],
            ("4", 0.5, "ok", 6, [3, 2, 1], 2),
        ),
        (["5", "5"], "7", [0, 0], ("5", 1.0, "ok", 2, [2], 1)),
        (["5", "5"], None, [0, 0], ("5", 1.0, "ok", 2, [2], -1)),
        ([None, ""], "5", [-1, -1], (None, 0.0, "empty", 2, [], 0)),
        ([None, ""], "", [-1, -1], (None, 0.0, "empty", 2, [], -1)),
        (["4", "4"], "", [0, 0], ("4", 1.0, "ok", 2, [2], -1)),
        ([], None, [], (None, 0.0, "empty", 0, [], -1)),
    ],
)
def test_answers_are_grouped_and_vote(answers, greedy, classes, columns):
    found = compare_answers(answers, partial(group_equivalent, equal=operator.eq), greedy)
    assert found.classes == classes
    names = (
        "vote_answer",
        "vote_share",
        "vote_reason",
        "num_samples",
        "class_counts",
        "greedy_class",
    )
    assert found.columns() == dict(zip(names, columns, strict=True))
    assert found.is_unanswered == (set(classes) <= {-1})
    # An answer of each class, largest first, then the greedy answer if no sample gave it.
    sizes, place = found.class_counts, found.greedy_class
    assert len(found.class_answers) == len(sizes) + (place == len(sizes))
    assert [answers.count(a) for a in found.class_answers] == sizes + [0] * (place == len(sizes))
    assert found.num_agreeing == sum(a == greedy for a in answers if greedy)
    assert place < 0 or found.class_answers[place] == greedy


def test_a_greedy_answer_in_other_words_belongs_to_its_class():
    with Verifier("math") as verifier:
        found = compare_answers(["2", "0.5", "0.5", None], verifier.group, "1/2")
        assert (found.class_counts, found.greedy_class) == ([2, 1], 0)
        # The greedy answer has no vote: it may stand between two answers without joining them.
        found = compare_answers(["5 km", "5 m", "5 m"], verifier.group, "5")
        assert found.class_counts == [2, 1]
