r"""Mathematical answers as text: the decisions before, or without, symbolic parsing.

math-verify reads a LaTeX string as LaTeX would: "Evelyn" is a product of letters (so "listen"
equals "silent"), "1 234" is 235, "2 1/2" is 3/2, and "18 dollars" is not 18. Model answers and
ground truths are full of such texts, so they are normalised or decided here. A wrong answer that
passes costs more than a right answer that is missed, because it would be trained on. So ambiguous
answers (words, times of day) are compared as text.
"""

import re
from fractions import Fraction
from functools import lru_cache

from pivottrace.verifier.answers import MAX_ANSWER_CHARS, normalise_exact

SURELY_DIFFERENT = Fraction(1, 100_000)
"""Plain numbers further apart than this differ in math-verify too, which rounds to 6 decimals."""

_PLAIN_NUMBER = re.compile(r"[+-]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|[+-]?\.\d+")
_PLAIN_FRACTION = re.compile(
    r"(?P<sign>[+-]?)(?:(?P<over>\d+)/(?P<under>\d+)|\\[dt]?frac\{(?P<top>-?\d+)\}\{(?P<bottom>\d+)\})"
)
_DELIMITERS = (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"), ("**", "**"))
_WHOLE_TEXT = re.compile(r"\\(?:text|textbf|textit|mathrm|mathbf|mbox|boxed)\s*\{([^{}]*)\}")
_TRAILING_TEXT = re.compile(r"(?<=[\d}])\s*\\(?:text|mathrm|mbox)\s*\{([^{}]*)\}(?:\^\{?\d\}?)?$")
_NUMBER_AND_WORDS = re.compile(
    r"([+-]?(?:\d[\d,]*(?:\.\d+)?|\.\d+)(?:/\d+)?)\s([A-Za-z][A-Za-z ]*)"
)
_MIXED_NUMBER = re.compile(r"([+-]?)(\d+)(?:\s+(\d+)\s*/\s*(\d+)|\s*\\[dt]?frac\{(\d+)\}\{(\d+)\})")
_SPACED_THOUSANDS = re.compile(r"[+-]?\d{1,3}(?: \d{3})+(?:\.\d+)?")
_ADJACENT_NUMBERS = re.compile(r"\d\s+\d")
_TIME_OF_DAY = re.compile(r"(?<!\d)\d{1,2}:[0-5]\d(?!\d)|\d\s*[ap]\.?m\b", re.IGNORECASE)
_DIGIT_SPACING = re.compile(r"(?<=\d)(?:\\[,!;: ]|\{,\})(?=\d{3})")
_SCIENTIFIC = re.compile(r"([+-]?\d+(?:\.\d+)?)[eE]([+-]?\d{1,3})")
_CURRENCY = re.compile(r"^([+-]?)\s*(?:\\\$|[€£¥₹]|\$(?=[^$]*$))\s*")
_PLAIN_POWER = re.compile(r"\^\s*(?:\(([^()]*)\)|(-?\d+(?:\.\d+)?))")
_POWER_TOWER = re.compile(r"(?:\^\{[^{}]+\}){2,}")
_PLAIN_SQRT = re.compile(r"(?<!\\)\bsqrt\s*\(([^()]*)\)")
_PLAIN_PI = re.compile(r"(?<![A-Za-z\\])pi(?![A-Za-z])|π")
_LATEX_COMMAND = re.compile(r"\\(?:begin|end)\s*\{[^{}]*\}|\\[a-zA-Z]+")
_WORD = re.compile(r"[^\W\d_]{3,}")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# These are both value and notation.
_OPERATIONS = _words(
    "sin cos tan arcsin arccos arctan sinh cosh tanh log exp sqrt mod and percent pct"
)
# Words that carry value: "5 million" is not 5, "3 pm" is not 3 am, "2 pi" is not 2.
_VALUE_WORDS = _OPERATIONS | _words(
    "hundred thousand million billion trillion dozen half halve quarter percentage am pm pi ln "
    "factorial or to over plus minus below per squared cubed"
)
# These carry value right after the number, but not before another word: "4 third graders" are 4.
_ORDINALS = _words(
    "third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth fifteenth sixteenth "
    "twentieth hundredth thousandth"
)
# These carry value after another word: "10 sec" and "5 times" are 10 and 5, but "2 sec x" and
# "5 times x" are not 2 and 5.
_VARIABLES = _words("x y z n theta alpha beta phi")
# These carry no value after a unit: "dollars per hour", "meters squared", but "5 per cent".
_AFTER_A_UNIT = _words("per squared cubed")
# Letter runs that are notation and not prose.
_MATH_WORDS = _OPERATIONS | _words("cot sec csc lim max min gcd lcm det inf")


def normalise_math(answer: str) -> str:
    r"""Bring a mathematical answer to the text that is compared and parsed.

    Enclosing `$`, `\(`, `\text{}` and bold marks, a currency sign in front, a full stop at the end
    and the name of a unit are removed ("$18 dollars." -> "18"). Units are *not* compared, as in the
    scoring of GSM8K and math-verify. "1 234" -> "1234", "2 1/2" -> "(2+1/2)", "10**12" ->
    "10^{12}", the Unicode minus -> "-". Words that change the value ("5 million", "3 pm") stay.
    Text over `MAX_ANSWER_CHARS` is only normalised as exact text, which bounds the time.
    """
    exact = normalise_exact(answer)
    if len(exact) > MAX_ANSWER_CHARS or _PLAIN_NUMBER.fullmatch(exact):
        return exact
    text = _unwrap(exact).replace("−", "-").replace("**", "^").replace("°", "")
    text = _PLAIN_SQRT.sub(r"\\sqrt{\1}", _PLAIN_PI.sub(r"\\pi ", text)).strip()
    text = _POWER_TOWER.sub(_nested_powers, _PLAIN_POWER.sub(r"^{\1\2}", text))
    text = _without_unit(_CURRENCY.sub(r"\1", _DIGIT_SPACING.sub("", text)))
    if _SPACED_THOUSANDS.fullmatch(text):
        return text.replace(" ", "")
    if scientific := _SCIENTIFIC.fullmatch(text):
        return rf"{scientific.group(1)} \cdot 10^{{{int(scientific.group(2))}}}"
    if mixed := _MIXED_NUMBER.fullmatch(text):
        sign, whole = mixed.group(1), mixed.group(2)
        over, under = mixed.group(3) or mixed.group(5), mixed.group(4) or mixed.group(6)
        return f"{'-' if sign == '-' else ''}({whole}+{over}/{under})"
    return text


def _nested_powers(tower: re.Match[str]) -> str:
    """Nest powers of powers to the right, with braces for LaTeX: "^{9}^{8}" -> "^{9^{8}}"."""
    exponents = tower.group().removeprefix("^{").removesuffix("}").split("}^{")
    return "".join("^{" + exponent for exponent in exponents) + "}" * len(exponents)


def _unwrap(text: str) -> str:
    """Strip all marks that enclose the whole answer, and one full stop at the end."""
    while True:
        before = text
        text = text.removesuffix(".").strip()
        for opening, closing in _DELIMITERS:
            inner = text[len(opening) : -len(closing)]
            if text == opening + inner + closing and inner and opening not in inner:
                text = inner.strip()
        if whole := _WHOLE_TEXT.fullmatch(text):
            text = whole.group(1).strip()
        if text == before:
            return text


def _without_unit(text: str) -> str:
    """Remove the unit's name after a number, unless a word in it changes the value."""
    if trailing := _TRAILING_TEXT.search(text):
        if not _changes_value(trailing.group(1).lower().split()):
            return text[: trailing.start()].strip()
    elif match := _NUMBER_AND_WORDS.fullmatch(text):
        number, words = match.group(1), match.group(2).lower().split()
        is_unit = len(max(words, key=len)) >= 3  # "5 x" is a product, and "5 cm" parses as 5
        if is_unit and not _changes_value(words):
            return number
    return text


def _changes_value(words: list[str]) -> bool:
    """Whether the words after a number change it ("5 million", "2 dozens", "2 sec x")."""
    if not words:
        return False
    first, *rest = words
    found = {w for word in words for w in (word, word.removesuffix("s")) if w in _VALUE_WORDS}
    if found <= _AFTER_A_UNIT and first not in found:
        found = set()
    is_fraction = first.removesuffix("s") in _ORDINALS and rest[:1] in ([], ["of"])
    return bool(found) or is_fraction or not _VARIABLES.isdisjoint(rest)


def is_prose(text: str) -> bool:
    """Whether normalised text holds words, or numbers side by side, that are not mathematics."""
    bare = _LATEX_COMMAND.sub(" ", text)
    if _ADJACENT_NUMBERS.search(bare) and "&" not in bare and "\\" not in text:
        return True
    if _TIME_OF_DAY.search(bare):  # 3:30 is not the ratio 1:10
        return True
    return any(word.lower() not in _MATH_WORDS for word in _WORD.findall(bare))


@lru_cache(maxsize=65_536)
def plain_number(text: str) -> Fraction | None:
    r"""Exact value of an integer, decimal or simple fraction; None for anything else.

    Examples are "007", "1,234.50", "+5", "-3/4" and "\frac{3}{4}". A zero denominator is left to
    the parser.
    """
    if _PLAIN_NUMBER.fullmatch(text):
        return Fraction(text.replace(",", ""))
    match = _PLAIN_FRACTION.fullmatch(text)
    if match is None:
        return None
    over = int(match["over"] or match["top"])
    under = int(match["under"] or match["bottom"])
    if not under:
        return None
    return Fraction(-over if match["sign"] == "-" else over, under)


def quick_verdict(a: str, b: str) -> bool | None:
    """Decide the equality of two `normalise_math` texts if no symbolic parsing is needed.

    Returns:
        True or False if certain: identical text; two plain numbers of one value, or further apart
            than `SURELY_DIFFERENT`; prose on either side (equal only as case-folded text); empty
            (equal to nothing); over `MAX_ANSWER_CHARS` (equal only if identical). Otherwise None,
            and the caller has to parse.
    """
    if not a or not b:
        return False
    if a == b:
        return True
    if max(len(a), len(b)) > MAX_ANSWER_CHARS:
        return False
    value_a, value_b = plain_number(a), plain_number(b)
    if value_a is not None and value_b is not None:
        if value_a == value_b:
            return True
        return False if abs(value_a - value_b) > SURELY_DIFFERENT else None
    if is_prose(a) or is_prose(b):
        return a.casefold() == b.casefold()
    return None
