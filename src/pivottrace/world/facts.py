"""The facts of the embedded world: a graph of small sums, more or less familiar.

A fact is one step of arithmetic, `left op right = result`. Facts chain (the result of one is the
left side of the next), so a word problem is a walk through the graph. *Solid* facts are
demonstrated without a slip. *Unfamiliar* facts have a familiarity in [0, 1] that sets three
frequencies at once, as in a person: how often the fact is seen, how often a demonstration slips on
it, and how often it goes back to the question to re-check. A less familiar fact is more likely to
be *misled* (the slip is always the same wrong result, so a majority vote is confidently wrong) or
*lost* (never demonstrated right).

This is our own construction (no source describes such a world). It was shaped to be a fair
miniature of a reasoning model, before any estimator was evaluated on it.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal

WORLD_SEED = 2606
SMALLEST, LARGEST = 2, 79
SOLID_PER_NUMBER, UNFAMILIAR_PER_NUMBER = 3, 4
NUM_NEAR_MISSES = 4

Operator = Literal["+", "-", "*", "/"]
Tier = Literal["solid", "shaky", "misled", "lost"]
OPERATORS: tuple[Operator, ...] = ("+", "-", "*", "/")


@dataclass(frozen=True)
class Fact:
    """One step of arithmetic and how demonstrations treat it.

    Attributes:
        left: The number that the step starts from.
        operator: One of `+ - * /`.
        right: The operand that the question states.
        result: The true result.
        tier: Solid, shaky (slips scatter), misled (slips agree) or lost (never right).
        familiarity: In [0, 1], higher is better known; 1 for solid facts.
        outcomes: Demonstrated results with their probabilities, which sum to 1.
        recheck: Probability that a demonstration re-checks a first attempt.
        second_recheck: Probability that it re-checks once more.
    """

    left: int
    operator: Operator
    right: int
    result: int
    tier: Tier
    familiarity: float
    outcomes: tuple[tuple[int, float], ...]
    recheck: float
    second_recheck: float

    @property
    def solid(self) -> bool:
        """Whether demonstrations never slip on this fact."""
        return self.tier == "solid"

    def draw(self, rng: random.Random) -> int:
        """Draw one demonstrated result."""
        values, weights = zip(*self.outcomes, strict=True)
        return rng.choices(values, weights)[0]


def apply(left: int, operator: Operator, right: int) -> int | None:
    """Return the true result; None if it is not a whole number from SMALLEST to LARGEST."""
    if operator == "/":
        result, remainder = divmod(left, right)
        if remainder:
            return None
    else:
        result = {"+": left + right, "-": left - right, "*": left * right}[operator]
    return result if SMALLEST <= result <= LARGEST else None


def build_facts(seed: int = WORLD_SEED) -> dict[int, list[Fact]]:
    """Build all facts, by their starting number; the same seed gives the same world."""
    rng = random.Random(seed)
    seen: set[tuple[int, str, int]] = set()
    graph: dict[int, list[Fact]] = {}
    for left in range(SMALLEST, LARGEST + 1):
        steps: list[tuple[Operator, int, int]] = []
        while len(steps) < SOLID_PER_NUMBER + UNFAMILIAR_PER_NUMBER:
            operator = rng.choice(OPERATORS)
            right = rng.randint(2, 40 if operator in "+-" else 9)
            result = apply(left, operator, right)
            turned = (right, operator, left) if operator in "+*" else (left, operator, right)
            if result is None or (left, operator, right) in seen or turned in seen:
                # Some numbers allow few products or quotients; sums always exist, so this ends.
                continue
            seen.add((left, operator, right))
            steps.append((operator, right, result))
        graph[left] = [
            _solid(rng, left, *step) if i < SOLID_PER_NUMBER else _unfamiliar(rng, left, *step)
            for i, step in enumerate(steps)
        ]
    return graph


def _solid(rng: random.Random, left: int, operator: Operator, right: int, result: int) -> Fact:
    # A few well-known facts are re-checked out of habit, so false alarms exist.
    recheck = 0.6 if rng.random() < 0.05 else 0.02
    return Fact(left, operator, right, result, "solid", 1.0, ((result, 1.0),), recheck, 0.0)


def _unfamiliar(rng: random.Random, left: int, operator: Operator, right: int, result: int) -> Fact:
    familiarity = rng.random()
    near = [result + d for d in (-10, -3, -2, -1, 1, 2, 3, 10)]
    near = [n for n in near if SMALLEST <= n <= LARGEST]
    slips = rng.sample(near, min(NUM_NEAR_MISSES + 1, len(near)))
    habit, scattered = slips[0], slips[1:]

    tier: Tier
    if rng.random() < 0.5 - 1.0 * familiarity:
        tier, right_share, habit_share = "lost", 0.0, 0.88
    elif rng.random() < 0.8 * (1 - familiarity) ** 1.5:
        tier, habit_share = "misled", rng.uniform(0.5, 0.7)
        right_share = rng.uniform(0.18, 0.32)
    else:
        tier, habit_share = "shaky", 0.0
        right_share = 0.42 + 0.48 * familiarity

    rest = (1.0 - right_share - habit_share) / len(scattered)
    outcomes = [(result, right_share), (habit, habit_share), *((s, rest) for s in scattered)]
    recheck = min(0.95, max(0.03, 1.15 - 1.2 * familiarity + rng.gauss(0.0, 0.1)))
    return Fact(
        left,
        operator,
        right,
        result,
        tier,
        familiarity,
        tuple((value, share) for value, share in outcomes if share > 0),
        recheck,
        max(0.0, recheck - 0.3),
    )
