"""Hard items come last, and after a few slow ones the rest of a question is not waited for."""

import random
from itertools import permutations

import pytest

from pivottrace.verifier.decisions import MOST_SLOW, QUICK_SHARE, Decisions, in_order
from pivottrace.verifier.mathematics import Mathematics
from pivottrace.verifier.process import DIED, SLOW


class Workers:
    """Processes that only pretend: an item is slow, hard or deadly if a text of it says so."""

    def __init__(self):
        self.asked = []

    def ask(self, items, share=1.0):
        self.asked.append((list(items), share))
        return [self._reply(" ".join(item), share) for item in items]

    def _reply(self, text, share):
        if "deadly" in text:
            return DIED
        if "slow" in text or ("hard" in text and share < 1):
            return SLOW
        return {"value": {"fingerprint": [[text.replace("same_", "")]]}}


def items(*texts):
    return [("expression", text) for text in texts]


@pytest.fixture
def workers():
    return Workers()


@pytest.fixture
def decisions(workers):
    return Decisions(workers, sets_hard_aside=True, most_kept=100)


@pytest.fixture
def settle(decisions):
    return lambda *questions: decisions.settle(questions, lambda items, replies: replies)


def test_a_slow_item_is_set_aside_until_the_others_are_there(workers, decisions, settle):
    question = items("slow", "a", "b")
    assert settle(question) == [{*items("slow")}]
    assert workers.asked == [(question, QUICK_SHARE), (items("slow"), 1.0)]
    assert decisions.timeouts == 1
    assert settle(question) == [{*items("slow")}]  # nothing is asked twice
    assert len(workers.asked) == 2 and decisions.timeouts == 1


def test_a_hard_item_that_ends_in_time_is_decided(decisions, settle):
    assert settle(items("hard", "a")) == [set()]
    assert decisions.known.keys() == {*items("hard", "a")}
    assert decisions.timeouts == 0
    assert decisions.is_hard(*items("hard")) and not decisions.is_hard(*items("a"))


def test_after_a_few_slow_ones_the_rest_is_not_waited_for(workers, decisions, settle):
    slow = items(*(f"slow {k}" for k in range(6)))
    assert settle([*slow, *items("x", "hard one")]) == [{*slow, *items("hard one")}]
    assert decisions.known.keys() == {*slow[:MOST_SLOW], *items("x")}
    assert sum(len(asked) for asked, share in workers.asked if share == 1) == MOST_SLOW
    assert decisions.timeouts == 7  # what was not waited for counts, too


def test_only_as_many_are_tried_at_once_as_may_be_slow(workers, settle):
    settle(items("hard 1", "slow 1", "hard 2", "slow 2", "hard 3", "slow 3", "hard 4"))
    tried = [[text for _, text in asked] for asked, share in workers.asked if share == 1]
    assert tried == [["hard 1", "slow 1", "hard 2"], ["slow 2", "hard 3"], ["slow 3"]]


def test_other_questions_are_not_concerned(settle):
    slow = items(*(f"slow {k}" for k in range(3)))
    shared = items("hard")
    assert settle([*slow, *shared], shared) == [{*slow, *shared}, set()]


def test_what_was_asked_before_does_not_matter(workers):
    texts = ["hard 1", "slow 1", "slow 2", "hard 2", "slow 3", "hard 3", "slow 4", "x"]
    random.seed(0)
    for _ in range(30):
        decisions = Decisions(workers, sets_hard_aside=True, most_kept=100)
        for size in (3, 5):
            part = in_order(items(*random.sample(texts, size)))
            decisions.settle([part], lambda items, replies: replies)
        (undecided,) = decisions.settle([items(*texts)], lambda items, replies: replies)
        assert undecided == {*items("slow 1", "slow 2", "slow 3", "hard 3", "slow 4")}


def test_short_items_are_tried_first_in_whatever_order_they_are_given():
    texts = ("bb", "a", "ab", "c")
    assert {tuple(in_order(items(*each))) for each in permutations(texts)} == {
        tuple(items("a", "c", "ab", "bb"))
    }


def test_every_call_of_a_function_has_its_whole_time(workers):
    decisions = Decisions(workers, sets_hard_aside=False, most_kept=100)
    decisions.settle([items("a", "b")], lambda items, replies: replies)
    assert workers.asked == [(items("a", "b"), 1.0)]


def test_dropped_items_are_asked_again(workers):
    decisions = Decisions(workers, sets_hard_aside=True, most_kept=2)
    for question in (items("a", "b", "c"), items("a", "c")):
        decisions.settle([question], lambda items, replies: replies)
    assert [asked for asked, _ in workers.asked] == [items("a", "b", "c"), items("a")]


# Commands, because words would be read as texts, which need no process. Hard ones are longer.
SLOW_ANSWERS = [rf"\slow_{{{k}}}+x" for k in range(5)]
HARD_ANSWERS = [rf"\harder_{{{k}}}+x" for k in range(3)]
ANSWERS = [*SLOW_ANSWERS, *HARD_ANSWERS, "y+1", "z+1", "5"]


@pytest.mark.parametrize("num_slow", range(6))
def test_votes_and_rewards_decide_alike(num_slow):
    """The truth is one of the answers, so that both have the same expressions."""
    answers = [*SLOW_ANSWERS[:num_slow], *ANSWERS[5:]]
    for seed, truth in enumerate(("y+1", HARD_ANSWERS[0])):
        classes, right = Mathematics(Workers()), Mathematics(Workers())
        verdicts = right.verdicts([(a, truth) for a in answers], [None] * len(answers))
        random.Random(seed).shuffle(order := list(range(len(answers))))
        found = classes.classes([answers[i] for i in order])
        of_truth = found[order.index(answers.index(truth))]
        assert [verdicts[i] for i in order] == [number == of_truth for number in found]
        assert classes.timeouts == num_slow + (len(HARD_ANSWERS) if num_slow >= MOST_SLOW else 0)
        assert classes.timeouts - right.timeouts in (0, 1)  # the truth itself is waited for


def test_classes_do_not_depend_on_order_or_on_earlier_votes():
    partitions = set()
    for seed in range(20):
        mathematics = Mathematics(Workers())
        random.Random(seed).shuffle(order := [*ANSWERS, *(f"{a} " for a in ANSWERS)])
        mathematics.classes(order[: seed % 7])
        classes = mathematics.classes(order)
        parts = {
            n: frozenset(a for a, c in zip(order, classes, strict=True) if c == n) for n in classes
        }
        partitions.add(frozenset(parts.values()))
    assert len(partitions) == 1


def test_an_expression_that_ends_its_process_is_counted_and_equals_only_its_own_text():
    mathematics = Mathematics(Workers())
    pairs = [(r"\deadly+x", "x+1"), (r"\deadly+x", r"\deadly+x"), ("x+1", "x+1")]
    assert mathematics.verdicts(pairs, [None] * 3) == [False, True, True]
    assert (mathematics.crashes, mathematics.timeouts) == (1, 0)
