"""Extraction, normalisation, grouping and voting, against cases worked out by hand."""

import json
import random
import re
import time
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pivottrace.errors import ConfigError, DataError
from pivottrace.verifier.answers import (
    Vote,
    extract_answer,
    group_equivalent,
    majority_vote,
)
from pivottrace.verifier.exact_text import MAX_ANSWER_CHARS, normalise_exact
from pivottrace.verifier.multiple_choice import normalise_choice


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"so \boxed{18}", "18"),
        (r"first \boxed{1}, no: \boxed{2}", "2"),
        (r"\boxed{\frac{1}{2}} \text{ done}", r"\frac{1}{2}"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\\boxed{5}", "5"),  # escaped twice
        (r"\boxed{x = \boxed{5}}", "5"),
        (r"\boxed{5}. Put it within \boxed{}", "5"),  # an echoed instruction
        (r"\boxed{4} and then \boxed{7", "4"),  # cut at the token limit
        (r"} } \boxed{3} {", "3"),
        (r"\fbox{9}", "9"),
        ("#### 18", "18"),
        ("#### 1,234.\n", "1,234"),
        ("##### a heading\n", None),
        ("The answer is 3.5. Let me check.", "3.5"),
        ("the answer is $\\frac{1}{2}$.", "$\\frac{1}{2}$"),
        ("The final answer is: 5 apples!", "5 apples"),
        ("**The answer is 18.**", "18"),
        ("The answer is **18** dollars.", "18 dollars"),
        ("The answer is 2**3.", "2**3"),
        ("The answer is\n18\nbecause", "18"),
        ("The answer is 1. The answer is 2. The answer is", "2"),
        ("nothing here", None),
        ("", None),
        (r"\boxed{ }", None),
    ],
)
def test_extracts_each_form(text, answer):
    assert extract_answer(text) == answer


def test_box_wins_over_hashes_over_sentence():
    stated, hashes, box = "The answer is 1.", "\n#### 2\n", r"\boxed{3}"
    assert extract_answer(box + hashes + stated) == "3"
    assert extract_answer(hashes + stated) == "2"
    assert extract_answer(stated) == "1"


def test_custom_pattern_alone_decides():
    text = r"A: 4; A: 5; \boxed{6}"
    assert extract_answer(text, r"A: (\d)") == "5"
    assert extract_answer(text, r"A: \d") == "A: 5"
    assert extract_answer(r"\boxed{6}", r"A: (\d)") is None
    with pytest.raises(ConfigError, match="not a valid regular expression"):
        extract_answer(text, "(")


def test_overlong_answer_is_none_and_does_not_fall_through():
    longest = "9" * MAX_ANSWER_CHARS
    assert extract_answer(rf"\boxed{{{longest}}}") == longest
    assert extract_answer(rf"\boxed{{{longest}9}} The answer is 3.") is None
    assert extract_answer(f"The answer is {longest}") == longest
    assert extract_answer(f"The answer is {longest}9") is None
    assert extract_answer(longest + "9", r"\d+") is None


@pytest.mark.parametrize(
    "unit",
    ["{", "}", "{}", r"\boxed{", "\\", "#### ", "####\n", "the answer is ", "boxed ", "****"],
)
@pytest.mark.parametrize("prefix", ["", r"\boxed{", "the answer is"])
def test_ten_megabytes_take_under_a_second(prefix, unit):
    text = prefix + unit * (10_000_000 // len(unit))
    start = time.process_time()
    extract_answer(text)
    assert time.process_time() - start < 1.0


def test_every_gsm8k_solution_has_its_answer(gsm8k):
    # Independent of our expressions: by the dataset's card, the answer follows the last "#### ".
    solutions = [json.loads(line)["answer"] for line in gsm8k.read_text().splitlines()]
    assert len(solutions) == 1319
    for solution in solutions:
        truth = solution.split("#### ")[-1]
        assert extract_answer(solution) == truth
        assert extract_answer(f"So it is {truth}. The answer is {truth}. Done.") == truth
        assert extract_answer(rf"Thus $\boxed{{{truth}}}$.") == truth
    assert extract_answer(solutions[0]) == "18"


def test_normalise_exact_keeps_what_matters():
    assert normalise_exact("  New \n  York ") == "New York"
    assert normalise_exact("e\u0301") == "\u00e9"
    assert normalise_exact("x²") == "x²"  # NFKC would make it x2
    assert normalise_exact("Yes") != normalise_exact("yes")


@pytest.mark.parametrize(
    "text",
    [
        *("B", "b", "B.", "(B)", "(b).", "[B]", "B)", "**B**", "$B$", r"\text{B}", r"\text{(B)}"),
        *("B. Paris", "(B) Paris", "B: Paris", "Option B", "Answer: b"),
    ],
)
def test_choice_letters(text):
    assert normalise_choice(text) == "B"


def test_text_that_only_begins_with_a_letter_is_no_choice():
    assert normalise_choice("A cat") == "a cat"
    assert normalise_choice("B.C.") == "b.c."
    assert normalise_choice("Paris") == "paris"
    assert normalise_choice("Because") == "because"


def test_groups_are_chains_of_equal_answers_whatever_the_order():
    def near(a, b):  # not transitive: 3 and 5 are in one class by way of 4
        return abs(int(a) - int(b)) <= 1

    answers = ["3", None, "5", "4", " ", "", "8", "3"]
    assert group_equivalent(answers, near) == [0, -1, 0, 0, -1, -1, 1, 0]
    assert group_equivalent(answers[::-1], near) == [0, 1, -1, -1, 0, 0, -1, 0]
    assert group_equivalent([], near) == []


def test_votes_worked_out_by_hand():
    assert majority_vote([0, 0, 1, 0]) == Vote(0, 3, 0.75, 0.5, "ok")
    assert majority_vote([0, 1, 1, 0]) == Vote(None, 2, 0.5, 0.0, "tie")
    assert majority_vote([0, 1, 2]) == Vote(None, 1, 1 / 3, 0.0, "tie")
    assert majority_vote([2] * 16) == Vote(2, 16, 1.0, 1.0, "ok")
    assert majority_vote([-1] * 15 + [0]) == Vote(0, 1, 1 / 16, 1 / 16, "ok")
    assert majority_vote([-1, -1]) == Vote(None, 0, 0.0, 0.0, "empty")
    assert majority_vote([]) == Vote(None, 0, 0.0, 0.0, "empty")
    with pytest.raises(DataError, match="found -2"):
        majority_vote([0, -2])


@given(st.lists(st.integers(-1, 4), max_size=20), st.randoms())
def test_vote_agrees_with_counting_and_ignores_order(classes, shuffler: random.Random):
    vote = majority_vote(classes)
    shuffled = list(classes)
    shuffler.shuffle(shuffled)
    assert majority_vote(shuffled) == vote
    counts = [*sorted(Counter(c for c in classes if c >= 0).values(), reverse=True), 0, 0]
    unique_leader = counts[0] > counts[1]
    assert (vote.winner is not None) == unique_leader
    if unique_leader:
        assert classes.count(vote.winner) == counts[0] == vote.count
    assert vote.share == (counts[0] / len(classes) if classes else 0.0)
    assert vote.margin == ((counts[0] - counts[1]) / len(classes) if classes else 0.0)


@given(st.text(alphabet="ab{}\\ \n#", max_size=60))
def test_box_agrees_with_a_slow_search(noise):
    # Slow reference: try every "\boxed{" from the last, counting braces one by one.
    text = noise.replace("a", r"\boxed{").replace("b", "7}")
    assert extract_answer(text) == (_slow_box(text) or _slow_hashes(text))


def _slow_box(text):
    masked = re.sub(r"\\[^a-zA-Z]", "..", text)  # escaped characters are not braces
    unmasked_starts = [m.end() for m in re.finditer(r"(?<=[\\.])boxed\{", masked)]
    for start in reversed(unmasked_starts):
        depth = 1
        for position in range(start, len(text)):
            depth += {"{": 1, "}": -1}.get(masked[position], 0)
            if depth == 0:
                if text[start:position].strip():
                    return text[start:position].strip()
                break
    return None


def _slow_hashes(text):
    lines = [line.strip() for line in re.findall(r"(?<!#)####(?!#)(.*)", text)]
    return next((line for line in reversed(lines) if line), None)
