"""Two hundred questions with answers of many kinds, and responses to them, right and wrong."""

from collections.abc import Iterator
from typing import NamedTuple


class Case(NamedTuple):
    """One response.

    Attributes:
        id: The question's id.
        kind: The kind of its answer.
        truth: The answer that judges it.
        response: Text of the response.
    """

    id: str
    kind: str
    truth: str
    response: str


# Kind: true answer, right answers, wrong answers. `{n}` is a number of the question.
KINDS: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "integer": ("{n}", ("{n}", "{n}.0", "${n}$"), ("{m}", "-{n}")),
    "thousands": ("{n},800", ("{n}800", "{n},800", r"{n}{{,}}800"), ("{n}80", "{n}.8")),
    "decimal": ("{n}.50", ("{n}.5", r"\frac{{{d}}}{{2}}", "{n} 1/2"), ("{n}.05", "{n}")),
    "fraction": ("{n}/1000", (r"\frac{{{n}}}{{1000}}", r"\dfrac{{{d0}}}{{2000}}"), ("1000/{n}",)),
    "per cent": (r"{n}\%", ("{n}%", r"{n} \%", "{n} percent"), ("{m}%", "{n}.5%")),
    "expression": (
        r"\frac{{{n}\sqrt{{3}}}}{{2}}",
        (r"\frac{{{n}}}{{2}}\sqrt{{3}}", r"{n}\cdot\frac{{\sqrt 3}}{{2}}"),
        (r"\frac{{{n}\sqrt{{2}}}}{{3}}", r"{n}\sqrt{{3}}"),
    ),
    "interval": ("({n}, {m})", ("({n},{m})", r"\left({n}, {m}\right)"), ("({m},{n})", "[{n},{m}]")),
    "choice": ("(C)", ("C", "(C)", r"\text{{C}}"), ("B", "D")),
    "word": ("Paris{n}", ("Paris{n}", "paris{n}", r"\text{{Paris{n}}}"), ("Rome{n}", "Paris")),
    "unit": ("{n} cm", ("{n}cm", r"{n}\text{{ cm}}", "{n} centimeters"), ("{m} cm", "{n} kg")),
    "equation": ("x={n}", ("{n}", "x = {n}"), ("x={m}", "y^2={n}")),
    "date": ("20{n}-05-01", ("20{n}-05-01",), ("20{m}-05-01", "2018")),
    "set": (r"\{{{n}, {m}\}}", (r"\{{{m}, {n}\}}",), (r"\{{{n}\}}",)),
    "alternatives": ("{n} ||| half a dozen", ("{n}", "half a dozen"), ("{m}", "a dozen")),
    "tolerance": ("{n} [tolerance 0.01]", ("{n}.01", "{n}"), ("{m}",)),
}
FRAMES = (
    r"So it is \boxed{{{0}}}.",
    "Some steps.\n#### {0}",
    "The answer is {0}.",
    "\\boxed{{{0}}}",
)
NO_ANSWERS = (
    "",
    "I do not know.",
    "\\boxed{",
    "\\boxed{number}",
    "x" * 2000,
    r"\boxed{\frac{1}{0}}",
    "\x00\u2028<|im_end|>",
    r"\boxed{9^{9^{9^{9}}}}",
    "<think>\\boxed{1}</think> nothing",
)


def cases(number: int = 200) -> list[Case]:
    """The cases: kinds in turn, of each kind right, wrong and unreadable responses in turn."""
    return list(_cases(number))


def _cases(number: int) -> Iterator[Case]:
    names = list(KINDS)
    for index in range(number):
        kind, turn = names[index % len(names)], index // len(names)
        truth, right, wrong = KINDS[kind]
        n = 21 + turn  # two digits, so that it is a year's end too
        numbers = {"n": n, "m": n + 1, "d": 2 * n + 1, "d0": 2 * n}
        if turn % 6 == 5:
            response = NO_ANSWERS[index % len(NO_ANSWERS)]
        else:
            options = wrong if turn % 3 == 1 else right
            said = options[turn % len(options)].format(**numbers)
            response = FRAMES[(turn + index) % len(FRAMES)].format(said)
        yield Case(f"q{index:03}", kind, truth.format(**numbers), response)
