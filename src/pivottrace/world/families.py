"""The words of the embedded world: five families of problems.

Each can tell any chain of steps. A step's template is `(sentence, mention)`. The sentence is part
of the question. A solution repeats the mention when it goes back to the question to re-check that
step.
"""

from __future__ import annotations

from dataclasses import dataclass

NAMES = (
    "Mia",
    "Tom",
    "Ana",
    "Leo",
    "Eva",
    "Max",
    "Ida",
    "Ben",
    "Zoe",
    "Sam",
    "Amy",
    "Jon",
    "Lena",
    "Omar",
    "Nina",
    "Paul",
    "Rosa",
    "Karl",
    "Vera",
    "Hugo",
)


@dataclass(frozen=True)
class Family:
    """One kind of word problem: its opening, its sentences for each operator, its question."""

    name: str
    nouns: dict[str, tuple[str, ...]]
    opening: tuple[str, ...]
    steps: dict[str, tuple[tuple[str, str], ...]]
    asks: tuple[str, ...]
    new_person_each_step: bool = False


MONEY = Family(
    "money",
    {
        "chore": ("painting", "gardening", "cleaning", "baking", "singing", "sewing"),
        "thing": ("a lamp", "a kite", "a drum", "a hat", "a ball", "a book", "a cake", "a clock"),
    },
    ("{who} has {n} coins in a jar.", "{who} starts the week with {n} coins."),
    {
        "+": (
            ("Then {who} earns {n} coins by {chore}.", "{n} coins by {chore}"),
            ("A neighbour pays {n} coins for {chore}.", "{n} coins for {chore}"),
        ),
        "-": (
            ("{who} spends {n} coins on {thing}.", "{n} coins on {thing}"),
            ("After that {who} pays {n} coins for {thing}.", "{n} coins for {thing}"),
        ),
        "*": (
            ("By selling {thing} the money grows to {n} times as much.", "{n} times by {thing}"),
            ("A prize for {chore} makes it {n} times as much.", "{n} times for {chore}"),
        ),
        "/": (
            (
                "The money is split into {n} equal parts to buy {thing}, and one part is kept.",
                "{n} equal parts for {thing}",
            ),
            (
                "{who} shares it among {n} friends after {chore} and follows one share.",
                "{n} friends after {chore}",
            ),
        ),
    },
    ("How many coins are there now?", "How many coins is that in the end?"),
)

AGES = Family(
    "ages",
    {},
    ("{who} is {n} years old.", "Today {who} turns {n} years old."),
    {
        "+": (
            ("{other} is {n} years older than {who}.", "{other} is {n} years older"),
            ("{other} was born {n} years before {who}.", "{other} was born {n} years before"),
        ),
        "-": (
            ("{other} is {n} years younger than {who}.", "{other} is {n} years younger"),
            ("{other} was born {n} years after {who}.", "{other} was born {n} years after"),
        ),
        "*": (("{other} is {n} times as old as {who}.", "{other} is {n} times as old"),),
        "/": (("{who} is {n} times as old as {other}.", "{n} times the age of {other}"),),
    },
    ("How old is {who}?", "What is the age of {who}?"),
    new_person_each_step=True,
)

RATES = Family(
    "rates",
    {
        "part": ("bolts", "toys", "pipes", "bricks", "bottles", "candles", "boxes", "shirts"),
        "cause": ("a new belt", "a worn gear", "a night shift", "a power cut", "a fresh crew"),
    },
    ("A machine makes {n} {part} an hour.", "In one hour a workshop finishes {n} {part}."),
    {
        "+": (
            ("Because of {cause} it makes {n} more.", "{n} more with {cause}"),
            ("With {cause} the number rises by {n}.", "rises by {n} with {cause}"),
        ),
        "-": (
            ("Because of {cause} it makes {n} fewer.", "{n} fewer with {cause}"),
            ("With {cause} the number falls by {n}.", "falls by {n} with {cause}"),
        ),
        "*": (
            ("It runs at this rate for {n} hours with {cause}.", "{n} hours with {cause}"),
            ("There are {n} such lines, each with {cause}.", "{n} lines with {cause}"),
        ),
        "/": (
            (
                "The output goes to {n} trucks because of {cause}, and one truck is checked.",
                "{n} trucks because of {cause}",
            ),
        ),
    },
    ("How many {part} is that?", "What is the number of {part} now?"),
)

COUNTING = Family(
    "counting",
    {
        "animal": ("ducks", "sheep", "goats", "crows", "bees", "frogs", "ponies", "swans"),
        "place": ("the barn", "the pond", "the hill", "the wood", "the river", "the yard"),
    },
    ("There are {n} {animal} near {place}.", "A farmer counts {n} {animal} at {place}."),
    {
        "+": (
            ("Then {n} more come from {place}.", "{n} more from {place}"),
            ("Soon {n} others arrive by {place}.", "{n} others by {place}"),
        ),
        "-": (
            ("Then {n} of them leave for {place}.", "{n} leave for {place}"),
            ("Later {n} hide behind {place}.", "{n} hide behind {place}"),
        ),
        "*": (
            ("By evening at {place} there are {n} times as many.", "{n} times as many at {place}"),
        ),
        "/": (
            (
                "They form {n} equal groups around {place}, and one group is counted.",
                "{n} equal groups around {place}",
            ),
        ),
    },
    ("How many {animal} are counted?", "How many {animal} is that?"),
)

# This family is held out: it is in pre-training but not in a pool or development set.
JOURNEYS = Family(
    "journeys",
    {"way": ("the coast", "the valley", "the forest", "the canal", "the desert", "the ridge")},
    ("{who} walks {n} miles along {way}.", "On the first day {who} rides {n} miles by {way}."),
    {
        "+": (
            ("The path by {way} adds {n} miles.", "{n} miles by {way}"),
            ("Then {who} goes {n} miles further through {way}.", "{n} miles through {way}"),
        ),
        "-": (("A short cut across {way} saves {n} miles.", "{n} miles saved across {way}"),),
        "*": (("{who} repeats the trip along {way} for {n} days.", "{n} days along {way}"),),
        "/": (
            (
                "The route past {way} is cut into {n} equal stages, and one stage is measured.",
                "{n} stages past {way}",
            ),
        ),
    },
    ("How many miles is that?", "How long is it in miles?"),
)

POOL_FAMILIES = (MONEY, AGES, RATES, COUNTING)
HELD_OUT_FAMILIES = (JOURNEYS,)
ALL_FAMILIES = POOL_FAMILIES + HELD_OUT_FAMILIES
