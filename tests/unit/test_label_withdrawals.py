"""Answers that are taken back, remarks, and answers that were given after the vote was shown."""

import pytest

from pivottrace.errors import BudgetError, DataError
from pivottrace.labels.remarks import Remark, read_remarks
from pivottrace.labels.store import Given, LabelStore, num_stored, read_answers, read_labels


@pytest.fixture
def path(tmp_path):
    return tmp_path / "labels.sqlite"


def give(store, question_id, answer, annotator=None, **more):
    return store.add_many([Given(question_id, answer, "page", "probe", annotator, **more)])


def test_the_only_answer_taken_back_gives_its_budget_back(path):
    store = LabelStore(path, allowed=1)
    give(store, "a", "1", "Ana")
    with pytest.raises(BudgetError):
        give(store, "b", "2", "Ana")
    assert store.withdraw("a", "Ana").answer == "1"
    assert read_labels(path) == {} and num_stored(path) == 2
    assert give(store, "b", "2", "Ana").new == 1
    with pytest.raises(BudgetError):
        give(store, "a", "1", "Ana")
    LabelStore(path, allowed=1)  # it opens under its own budget


def test_the_first_rows_are_the_labels_of_that_time(path):
    store = LabelStore(path, allowed=3)
    give(store, "a", "1", "Ana")
    store.withdraw("a", "Ana")
    give(store, "a", "2", "Ben")
    give(store, "a", "3", "Cy")
    store.withdraw("a", "Cy")
    told = [
        {i: (label.answer, label.disputed) for i, label in read_labels(path, n).items()}
        for n in range(num_stored(path) + 1)
    ]
    two = {"a": ("2", False)}
    assert told == [{}, {"a": ("1", False)}, {}, two, {"a": ("2", True)}, two]
    assert [(a.answer, a.verdict, a.number) for a in read_answers(path)["a"]] == [("2", "first", 3)]


def test_a_settled_question_is_disputed_again_when_that_is_taken_back(path):
    store = LabelStore(path, allowed=1)
    give(store, "a", "1", "Ana")
    give(store, "a", "2", "Ben")
    give(store, "a", "2", "Ana", settles=True)
    assert not read_labels(path)["a"].disputed
    store.withdraw("a", "Ana")
    assert read_labels(path)["a"].disputed and read_labels(path)["a"].answer == "1"


@pytest.mark.parametrize("annotator", ["Ana", "Cy", ""])
def test_only_ones_own_last_answer_is_taken_back(path, annotator):
    store = LabelStore(path, allowed=1)
    give(store, "a", "1", "Ana")
    give(store, "a", "2", "Ben")
    with pytest.raises(DataError, match="its last answer is by Ben"):
        store.withdraw("a", annotator)
    with pytest.raises(DataError, match="its last answer is missing"):
        store.withdraw("b", annotator)
    assert num_stored(path) == 2


def test_an_answer_without_a_name_belongs_to_nobody(path):
    store = LabelStore(path, allowed=1)
    give(store, "a", "1")
    with pytest.raises(DataError, match="its last answer is by somebody"):
        store.withdraw("a", "Ana")


def test_an_answer_is_taken_back_once(path):
    store = LabelStore(path, allowed=1)
    give(store, "a", "1", "Ana")
    store.withdraw("a", "Ana")
    with pytest.raises(DataError, match="is missing"):
        store.withdraw("a", "Ana")
    assert num_stored(path) == 2


def test_the_same_answer_after_it_was_taken_back_is_a_new_one(path):
    store = LabelStore(path, allowed=1)
    for _ in range(2):
        assert give(store, "a", "1", "Ana").new == 1
        store.withdraw("a", "Ana")
    assert give(store, "a", "1", "Ana").new == 1
    assert read_labels(path)["a"].answer == "1" and num_stored(path) == 5


def test_remarks_are_kept_in_order_and_once(path):
    store = LabelStore(path, allowed=1)
    rows = [
        Remark("a", "Ana", "skipped"),
        Remark("a", "Ana", "comment", "<b>odd</b> \u202e"),
        Remark("a", "Ben", "skipped"),
    ]
    for row in [*rows, *rows]:
        store.remark(row)
    assert [remark[:4] for remark in read_remarks(path)] == [row[:4] for row in rows]
    assert read_labels(path) == {}


def test_an_answer_after_the_vote_was_shown_is_marked(path):
    store = LabelStore(path, allowed=3)
    give(store, "a", "1", "Ana")
    give(store, "b", "1", "Ana")
    store.remark(Remark("a", "Ana", "vote_shown"))
    store.withdraw("a", "Ana")
    give(store, "a", "2", "Ana")
    give(store, "c", "2", "Ana")
    give(store, "b", "3", "Ben", settles=True)
    marked = {i for i, label in read_labels(path).items() if label.vote_shown}
    assert marked == {"a"}
    store.remark(Remark("b", "Ana", "vote_shown"))
    assert not read_labels(path)["b"].vote_shown  # it was given before, and by somebody else
    give(store, "b", "4", "Ana", settles=True)
    assert read_labels(path)["b"].vote_shown


def test_the_same_answer_by_somebody_who_has_not_seen_the_vote_counts_as_evidence(path):
    store = LabelStore(path, allowed=1)
    store.remark(Remark("a", "Ana", "vote_shown"))
    give(store, "a", "1", "Ana")
    give(store, "a", "1", "Ben")
    assert read_labels(path)["a"].vote_shown  # a second opinion is not the label
    for _ in range(2):
        give(store, "a", "1", "Ben", settles=True)
    label = read_labels(path)["a"]
    assert (label.annotator, label.vote_shown, num_stored(path)) == ("Ben", False, 3)
