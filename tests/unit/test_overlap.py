"""Overlap of pool and evaluation questions, against a pairwise reference."""

import random

import pyarrow as pa
import pytest

from pivottrace.ingest import find_overlap
from pivottrace.ingest.overlap import tokens_of
from pivottrace.schemas import QUESTIONS


def table(texts, prefix):
    rows = [
        {
            "id": f"{prefix}{i}",
            "prompt": [{"role": "user", "content": text}],
            "answer": "1",
            "source": "test",
            "extra": "{}",
        }
        for i, text in enumerate(texts)
    ]
    return pa.Table.from_pylist(rows, schema=QUESTIONS)


def overlap(pool, evaluation):
    return find_overlap(table(pool, "p"), table(evaluation, "e"))


def grams(text):
    words = text.split()
    return {tuple(words[i : i + 13]) for i in range(len(words) - 12)}


def reference(pool, evaluation):
    """Every pair by itself, by the definition; for texts of plain words."""
    gram_sets = [grams(text) for text in evaluation]
    own_grams = [
        own.difference(*(other for k, other in enumerate(gram_sets) if k != j))
        for j, own in enumerate(gram_sets)
    ]
    pairs = []
    for i, ours in enumerate(pool):
        for j, (theirs, own) in enumerate(zip(evaluation, own_grams, strict=True)):
            if ours == theirs or (own and len(own & grams(ours)) >= 0.5 * len(own)):
                pairs.append((f"p{i}", f"e{j}"))
    return pairs


def test_agrees_with_the_pairwise_definition():
    rng = random.Random(0)
    words = [f"{a}{b}" for a in "abcdefg" for b in "xyz"]
    shared = [rng.choice(words) for _ in range(20)]
    evaluation = []
    for _ in range(40):
        body = [rng.choice(words) for _ in range(rng.randrange(3, 40))]
        evaluation.append(" ".join(shared + body if rng.random() < 0.3 else body))
    pool = []
    for _ in range(200):
        text = rng.choice(evaluation).split()
        start, stop = sorted(rng.sample(range(len(text) + 1), 2))
        pool.append(" ".join([rng.choice(words), *text[start:stop], rng.choice(words)]))
    pool += evaluation[:10]
    expected = reference(pool, evaluation)
    assert 20 < len(expected) < 150  # both sides of the decision are met
    assert overlap(pool, evaluation) == expected


@pytest.mark.parametrize(
    ("ours", "theirs", "same"),
    [
        ("What  is 2 + 2 ?", "what is 2 + 2", True),
        ("What is 3 + 5?", "What is 3 - 5?", False),
        ("What is 3 − 5?", "What is 3 - 5?", True),
        ("Pay $1,200.", "pay 1200", True),
        ("Is 1.5 big?", "Is 15 big?", False),
        ("List (1,2)", "List (12)", False),
        ("It’s here", "it's here", True),
        ("Find f(2)", "Find f'(2)", False),
        ("Cafe\u0301?", "Caf\u00e9?", True),
    ],
)
def test_short_questions_match_by_their_tokens(ours, theirs, same):
    assert bool(overlap([ours], [theirs])) is same
    assert (tokens_of(ours) == tokens_of(theirs)) is same


STORY = (
    "A baker has 12 trays with 8 rolls each and sells 5 trays in the morning, gives 3 rolls to "
    "a friend and bakes 2 more trays at noon. How many rolls are there in the evening?"
)


def test_a_reworded_question_is_found_and_another_number_is_not():
    asked = f"Solve this step by step and put the answer in a box. {STORY}"
    assert overlap([asked, STORY.replace("evening", "end"), STORY], [STORY]) == [
        ("p0", "e0"),
        ("p1", "e0"),
        ("p2", "e0"),
    ]
    assert overlap([STORY.replace("12 trays", "14 trays")], [STORY]) == []


def test_shared_instructions_prove_nothing():
    instructions = (
        "Solve the following problem step by step. The last line of the response is of the form "
        "Answer: followed by the value, without any unit, and nothing else stands on that line. "
    )
    evaluation = [instructions + text for text in ("What is 2 + 2?", "Name a prime above 90.")]
    assert overlap([instructions + "What is 7 * 7?"], evaluation) == []
    assert overlap([evaluation[1]], evaluation) == [("p0", "e1")]
