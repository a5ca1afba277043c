"""Worked solutions of reasoning-gym questions, written by program: what a warm-up learns from.

Each function takes the entry of a task and gives the steps. Steps are short, so that a small model
can follow them, and every number in them comes from the question or from an earlier step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from itertools import pairwise
from typing import Any

Entry = Mapping[str, Any]


def solution(task: str, entry: Entry) -> str:
    """The steps, and a last sentence that states the answer."""
    return f"{SOLVERS[task](entry['metadata'])} The answer is {entry['answer']}."


def chain(facts: Mapping[str, Any]) -> str:
    """4 - 1 + 7: from left to right, one operation per step."""
    words = facts["expression"].split()
    total, steps = Decimal(words[0]), []
    for sign, term in zip(words[1::2], words[2::2], strict=True):
        following = total + Decimal(term) if sign == "+" else total - Decimal(term)
        steps.append(f"{total} {sign} {term} = {following}.")
        total = following
    return " ".join(steps)


def product(facts: Mapping[str, Any]) -> str:
    """18 * 43: by the digits of the second factor, then the sum."""
    first, second = map(int, facts["expression"].split(" * "))
    digits = str(second)
    parts = [int(digit) * 10 ** (len(digits) - 1 - i) for i, digit in enumerate(digits)]
    parts = [part for part in parts if part] or [0]
    steps = [f"{first} * {part} = {first * part}." for part in parts]
    return " ".join([*steps, *_sums([first * part for part in parts])])


def greatest_divisor(facts: Mapping[str, Any]) -> str:
    """Euclid's algorithm."""
    first, second = facts["numbers"]
    steps, divisor = _euclid(first, second)
    return " ".join([*steps, f"The last divisor is {divisor}."])


def least_multiple(facts: Mapping[str, Any]) -> str:
    """The product divided by the greatest common divisor."""
    first, second = facts["numbers"]
    steps, divisor = _euclid(first, second)
    quotient = second // divisor
    last = f"{second} / {divisor} = {quotient}. {first} * {quotient} = {first * quotient}."
    return " ".join([*steps, f"The greatest common divisor is {divisor}.", last])


def simplest_fraction(facts: Mapping[str, Any]) -> str:
    """Both numbers divided by their greatest common divisor."""
    above, below = facts["numerator"], facts["denominator"]
    steps, divisor = _euclid(above, below)
    last = [f"{n} / {divisor} = {n // divisor}." for n in (above, below)]
    return " ".join([*steps, f"Divide both by {divisor}.", *last])


def letters(facts: Mapping[str, Any]) -> str:
    """Word by word, with the count so far."""
    target, total, steps = facts["target_letter"], 0, []
    for word in facts["span"]:
        found = word.lower().count(target)
        total += found
        steps.append(f"{word} has {found}, so {total}.")
    return " ".join(steps)


def legs(facts: Mapping[str, Any], legs_of: Callable[[str], int]) -> str:
    """Animal by animal, then the sums."""
    numbers, steps = [], []
    for animal, count in facts["animals"].items():
        numbers.append(count * legs_of(animal))
        steps.append(f"{animal}: {count} * {legs_of(animal)} = {numbers[-1]}.")
    return " ".join([*steps, *_sums(numbers)])


def angle(facts: Mapping[str, Any]) -> str:
    """The sum of all angles less the sum of the known ones."""
    sides, known = facts["n_sides"], [_whole(value) for value in facts["known_angles"]]
    whole = 180 * (sides - 2)
    last = f"{whole} - {sum(known)} = {whole - sum(known)}."
    return " ".join([f"The angles sum to {sides - 2} * 180 = {whole}.", *_sums(known), last])


def factors(facts: Mapping[str, Any]) -> str:
    """One prime factor after the other."""
    rest, steps = facts["number"], []
    for prime in facts["factors"][:-1]:
        steps.append(f"{rest} = {prime} × {rest // prime}.")
        rest //= prime
    return " ".join([*steps, f"{rest} is prime."])


def ones(facts: Mapping[str, Any]) -> str:
    """Repeated halving, with the count of odd numbers so far."""
    number, count, steps = facts["number"], 0, []
    while number:
        count += number % 2
        steps.append(f"{number} is {'odd' if number % 2 else 'even'}, so {count}.")
        number //= 2
    return " ".join(steps)


def _euclid(first: int, second: int) -> tuple[list[str], int]:
    """The divisions, and the greatest common divisor."""
    larger, smaller, steps = max(first, second), min(first, second), []
    while smaller:
        quotient, rest = divmod(larger, smaller)
        steps.append(f"{larger} = {quotient} * {smaller} + {rest}.")
        larger, smaller = smaller, rest
    return steps, larger


def _sums(numbers: list[int]) -> list[str]:
    totals = [sum(numbers[: i + 1]) for i in range(len(numbers))]
    added = zip(pairwise(totals), numbers[1:], strict=True)
    return [f"{before} + {number} = {after}." for (before, after), number in added]


def _whole(value: float) -> int:
    if value != int(value):
        raise ValueError(f"{value} is not whole")
    return int(value)


def _legs(facts: Mapping[str, Any]) -> str:
    from reasoning_gym.arithmetic.leg_counting import ANIMALS

    return legs(facts, ANIMALS.__getitem__)


SOLVERS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "chain_sum": chain,
    "count_bits": ones,
    "decimal_chain_sum": chain,
    "fraction_simplification": simplest_fraction,
    "gcd": greatest_divisor,
    "lcm": least_multiple,
    "leg_counting": _legs,
    "letter_counting": letters,
    "prime_factorization": factors,
    "products": product,
    "simple_geometry": angle,
}
