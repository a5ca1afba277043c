"""Word problems over the facts, with graded difficulty, answers, and demonstrated solutions.

Splits are disjoint by construction. The hash of a problem's expression names its split for every
seed, so no pool question can appear in pre-training, development or evaluation.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

from pivottrace.world.facts import Fact, build_facts
from pivottrace.world.families import ALL_FAMILIES, HELD_OUT_FAMILIES, NAMES, POOL_FAMILIES, Family

Split = Literal["pretraining", "pool", "development", "evaluation"]
# Each split's share of the hash range, in percent.
SPLITS: dict[Split, range] = {
    "pretraining": range(0, 60),
    "pool": range(60, 80),
    "development": range(80, 88),
    "evaluation": range(88, 100),
}
NUM_STEPS = {2: 0.45, 3: 0.35, 4: 0.20}
# Probability of each number of unfamiliar facts in a question.
PRESETS: dict[str, dict[int, float]] = {
    "default": {0: 0.50, 1: 0.37, 2: 0.13},
    "hard": {0: 0.10, 1: 0.55, 2: 0.35},
    "easy": {0: 0.68, 1: 0.25, 2: 0.07},
    "mastered": {0: 0.85, 1: 0.11, 2: 0.04},
}
PRETRAINING_MIX = {0: 0.30, 1: 0.40, 2: 0.30}


@dataclass(frozen=True)
class Problem:
    """One word problem. A solution repeats `mentions[i]` to re-check step i."""

    id: str
    family: str
    question: str
    answer: str
    expression: str
    facts: tuple[Fact, ...]
    mentions: tuple[str, ...]

    @property
    def num_unfamiliar(self) -> int:
        """Number of steps whose fact is not solid."""
        return sum(not fact.solid for fact in self.facts)


def generate(
    split: Split,
    num: int,
    seed: int,
    preset: str = "default",
    families: Sequence[Family] | None = None,
) -> list[Problem]:
    """Draw distinct problems of one split, at one preset's difficulty.

    Args:
        split: Disjoint part of the world to draw from.
        num: Number of problems, with distinct expressions.
        seed: Draws are the same for the same (split, seed, preset, families).
        preset: A key of `PRESETS`.
        families: Families to tell the problems in; by default all except the held-out family.

    Raises:
        KeyError: `preset` or `split` is unknown.
    """
    rng = random.Random(f"{split}/{seed}/{preset}")
    told = POOL_FAMILIES if families is None else tuple(families)
    problems: dict[str, Problem] = {}
    while len(problems) < num:
        problem = _draw(rng, split, PRESETS[preset], told)
        problems.setdefault(problem.expression, problem)
    return list(problems.values())


def held_out_family(num: int, seed: int, preset: str = "default") -> list[Problem]:
    """Draw evaluation problems of the family that neither pool nor development contains."""
    return generate("evaluation", num, seed, preset, HELD_OUT_FAMILIES)


def demonstrations(seed: int) -> Iterator[tuple[Problem, str]]:
    """Yield (problem, demonstrated solution) of the pre-training split without end."""
    rng = random.Random(f"demonstrations/{seed}")
    while True:
        problem = _draw(rng, "pretraining", PRETRAINING_MIX, ALL_FAMILIES, by_familiarity=True)
        yield problem, demonstrate(problem, rng)


def split_of(expression: str) -> Split:
    """Return the split that an expression belongs to; it is the same for every seed."""
    bucket = int(hashlib.sha256(expression.encode()).hexdigest(), 16) % 100
    return next(name for name, share in SPLITS.items() if bucket in share)


@cache
def _graph() -> dict[int, list[Fact]]:
    return build_facts()


def _draw(
    rng: random.Random,
    split: Split,
    mix: dict[int, float],
    families: Sequence[Family],
    by_familiarity: bool = False,
) -> Problem:
    while True:
        length = rng.choices(list(NUM_STEPS), list(NUM_STEPS.values()))[0]
        unfamiliar = rng.choices(list(mix), list(mix.values()))[0]
        facts = _walk(rng, length, unfamiliar, by_familiarity)
        if facts is None:
            continue
        expression = write_expression(facts[0].left, [(f.operator, f.right) for f in facts])
        if split_of(expression) == split:
            return _tell(rng, rng.choice(families), facts, expression)


def _walk(
    rng: random.Random, length: int, unfamiliar: int, by_familiarity: bool
) -> tuple[Fact, ...] | None:
    """Draw a chain of facts with exactly `unfamiliar` unfamiliar facts; None at a dead end."""
    hard_steps = set(rng.sample(range(length), unfamiliar))
    number = rng.choice(list(_graph()))
    facts: list[Fact] = []
    for step in range(length):
        options = [f for f in _graph()[number] if f.solid != (step in hard_steps)]
        if not options:
            return None
        # Pre-training shows the less familiar facts less often.
        weights = [0.25 + 0.75 * f.familiarity if by_familiarity else 1.0 for f in options]
        facts.append(rng.choices(options, weights)[0])
        number = facts[-1].result
    # Products after sums would need brackets.
    operators = "".join(f.operator for f in facts)
    return tuple(facts) if operators.lstrip("*/").strip("+-") == "" else None


def _tell(rng: random.Random, family: Family, facts: tuple[Fact, ...], expression: str) -> Problem:
    people = rng.sample(NAMES, len(facts) + 1)
    words = {noun: rng.choice(options) for noun, options in family.nouns.items()}
    who = people[0]
    opening = rng.choice(family.opening)
    sentences = [opening.format(who=who, n=facts[0].left, **words)]
    mentions = []
    for index, fact in enumerate(facts):
        # Fresh nouns for each step, so that a mention points at one place of the question.
        words |= {
            noun: rng.choice(options)
            for noun, options in family.nouns.items()
            if noun not in ("part", "animal")
        }
        sentence, mention = rng.choice(family.steps[fact.operator])
        told = {"who": who, "other": people[index + 1], "n": fact.right, **words}
        sentences.append(sentence.format(**told))
        mentions.append(mention.format(**told))
        if family.new_person_each_step:
            who = people[index + 1]
    sentences.append(rng.choice(family.asks).format(who=who, **words))
    digest = hashlib.sha256(f"{expression}|{' '.join(sentences)}".encode()).hexdigest()[:12]
    return Problem(
        id=f"{family.name}-{digest}",
        family=family.name,
        question=" ".join(sentences),
        answer=str(facts[-1].result),
        expression=expression,
        facts=facts,
        mentions=tuple(mentions),
    )


def write_expression(start: int, steps: Sequence[tuple[str, int]]) -> str:
    """Write a left-to-right expression; `_walk` makes sure that it needs no brackets."""
    return " ".join([str(start), *(f"{operator} {right}" for operator, right in steps)])


# The wording of solutions. Fillers and local checks are independent of familiarity. So the length
# of a trace, its entropy and the word "check" do not reveal a question's difficulty.
LEADS = ("We need", "So we take", "Let us compute", "In short,", "Step by step,", "This is")
FILLERS = (
    "This looks fine.",
    "Let us go slowly.",
    "One step at a time.",
    "Nothing special here.",
    "We only follow the story.",
    "The order is as told.",
)
EQUALS = (" =", " =", ", which is", ", that is", ", giving", ", so")
LOCAL_CHECKS = (" (check, {v} it is)", " (fine, {v} so far)", " (good, {v} now)")
GO_BACK = (
    "? Wait, the question says",
    "? Hmm, it says",
    "? Let me check again,",
    "? Going back to the text,",
    "? The text once more,",
    "? Wait, I read again",
)
CLOSINGS = (". The answer is", ". So the answer is", ". Hence we get")


def demonstrate(problem: Problem, rng: random.Random) -> str:
    r"""Write one demonstrated solution with slips and re-checks; it ends in `\boxed{...}`."""
    facts = problem.facts
    parts = [f"{rng.choice(FILLERS)} " for _ in range(rng.choice((0, 0, 1, 2)))]
    parts.append(f"{rng.choice(LEADS)} {problem.expression}")
    value = facts[0].left
    for index, fact in enumerate(facts):
        # After a slip the chain goes on from the wrong number, by plain arithmetic if the graph has
        # no such fact.
        step = fact if value == fact.left else _fact_at(value, fact)
        rest = [(f.operator, f.right) for f in facts[index + 1 :]]
        attempt = step.draw(rng)
        parts.append(f"{rng.choice(EQUALS)} {attempt}")
        again = 0
        for chance in (step.recheck, step.second_recheck):
            if rng.random() >= chance:
                break
            again += 1
            attempt = step.draw(rng)
            parts.append(
                f"{rng.choice(GO_BACK)} {problem.mentions[index]}: "
                f"{value} {fact.operator} {fact.right} = {attempt}"
            )
        if again and rest:
            parts.append(f", so {attempt}")
        parts += [f" {operator} {right}" for operator, right in rest]
        if rng.random() < 0.15:
            parts.append(rng.choice(LOCAL_CHECKS).format(v=attempt))
        value = attempt
    parts.append(f"{rng.choice(CLOSINGS)} \\boxed{{{value}}}.")
    return "".join(parts)


def _fact_at(value: int, fact: Fact) -> Fact:
    """Return the step from a number that the graph may not have, rounded and kept in range."""
    known = [
        f for f in _graph().get(value, []) if (f.operator, f.right) == (fact.operator, fact.right)
    ]
    if known:
        return known[0]
    exact = {
        "+": value + fact.right,
        "-": value - fact.right,
        "*": value * fact.right,
        "/": value // fact.right,
    }[fact.operator]
    result = min(199, max(1, exact))
    return Fact(value, fact.operator, fact.right, result, "solid", 1.0, ((result, 1.0),), 0.02, 0.0)
