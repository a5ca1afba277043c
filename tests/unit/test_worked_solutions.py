"""Worked solutions for a warm-up: every step is true, and the last one gives the answer."""

import re
from decimal import Decimal

import bench_scripts
import pytest

bench = bench_scripts.load("worked_solutions")
STEP = re.compile(r"(?:^|[.:] |sum to )(-?[\d.]+) ([-+*/]) (-?[\d.]+) = (-?[\d.]*\d)")
TURNED = re.compile(r"(\d+) = (\d+) [*×] (\d+)(?: \+ (\d+))?\.")
CASES = {
    "chain_sum": ({"expression": "4 - 11 + 20"}, "13", 2),
    "decimal_chain_sum": ({"expression": "1.7 - 8.6 + 0.4"}, "-6.5", 2),
    "products": ({"expression": "18 * 43"}, "774", 3),
    "gcd": ({"numbers": [12, 90]}, "6", 0),
    "lcm": ({"numbers": [12, 90]}, "180", 2),
    "fraction_simplification": ({"numerator": 12, "denominator": 90}, "2/15", 2),
    "simple_geometry": ({"n_sides": 4, "known_angles": [60.0, 33.0, 100.0]}, "167", 4),
    "prime_factorization": ({"number": 12, "factors": [2, 2, 3]}, "2 × 2 × 3", 0),
}
# Steps that begin with the result, such as 90 = 7 * 12 + 6.
TURNS = {"gcd": 2, "lcm": 2, "fraction_simplification": 2, "prime_factorization": 2}


@pytest.mark.parametrize("task", CASES)
def test_steps_are_true_and_end_in_the_answer(task):
    facts, answer, equations = CASES[task]
    text = bench.solution(task, {"metadata": facts, "answer": answer})
    body, _, last = text.rpartition(" The answer is ")
    assert last == f"{answer}."
    found = STEP.findall(body)
    assert len(found) == equations
    for first, sign, second, result in found:
        one, other = Decimal(first), Decimal(second)
        values = {"+": one + other, "-": one - other, "*": one * other}
        assert (values[sign] if sign in values else one / other) == Decimal(result)
    turned = TURNED.findall(body)
    assert len(turned) == TURNS.get(task, 0)
    for whole, first, second, rest in turned:
        assert int(whole) == int(first) * int(second) + int(rest or 0)
    assert answer.split("/")[0].split(" × ")[-1] in body


def test_legs_are_counted_by_kind():
    counted = bench.legs({"animals": {"dog": 3, "spider": 2}}, {"dog": 4, "spider": 8}.__getitem__)
    assert counted == "dog: 3 * 4 = 12. spider: 2 * 8 = 16. 12 + 16 = 28."


def test_letters_are_counted_word_by_word():
    text = bench.letters({"target_letter": "e", "span": ["Even", "if", "here"]})
    assert text == "Even has 2, so 2. if has 0, so 2. here has 2, so 4."


def test_bits_are_counted_by_halving():
    text = bench.ones({"number": 6})
    assert text == "6 is even, so 0. 3 is odd, so 1. 1 is odd, so 2."


def test_a_known_angle_that_is_not_whole_is_refused():
    with pytest.raises(ValueError, match=r"33\.5 is not whole"):
        bench.angle({"n_sides": 3, "known_angles": [33.5, 60.0]})
