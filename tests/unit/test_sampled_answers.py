"""What samples say by themselves: classes, the vote, and nothing of the trace."""

import operator
from functools import partial

import pytest

from pivottrace.rollouts.sampled_answers import compare_answers
from pivottrace.verifier.answers import group_equivalent


@pytest.mark.parametrize(
    ("answers", "classes", "columns"),
    [
        (["4", None, "5", "4"], [0, -1, 1, 0], ("4", 0.5, "ok", 4)),
        (["5", "4"], [0, 1], (None, 0.5, "tie", 2)),
        ([None, ""], [-1, -1], (None, 0.0, "empty", 2)),
        ([], [], (None, 0.0, "empty", 0)),
    ],
)
def test_answers_are_grouped_and_vote(answers, classes, columns):
    found = compare_answers(answers, partial(group_equivalent, equal=operator.eq))
    assert found.classes == classes
    names = ("vote_answer", "vote_share", "vote_reason", "num_samples")
    assert found.columns() == dict(zip(names, columns, strict=True))
    assert found.is_unanswered == (set(classes) <= {-1})
