r"""Numbers as they are written: plain, mixed, scientific, repeating, in words, with a unit."""

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from pivottrace.verifier.splitting import words
from pivottrace.verifier.units import (
    CURRENCY_SIGNS,
    FACTORS,
    MONEY,
    MONEY_BEFORE,
    SIGNS,
    Words,
    read_words,
)

MAX_EXPONENT = 400
"""A power of ten beyond this is left to the parser, which may give up."""

_DIGITS = r"(?:(?!0)\d{1,3}(?:,\d{3})+(?!\d)|\d+)"
_PLAIN = rf"(?:{_DIGITS}(?:\.\d*)?|\.\d+)"
_FRACTION = r"\\frac\s*\{\s*[+-]?[\d,]+\s*\}\s*\{\s*[\d,]+\s*\}"
_NUMBER = re.compile(rf"[+-]?{_PLAIN}")
_QUOTIENT = re.compile(
    rf"(?P<sign>[+-]?)\s*(?:(?P<whole>\d+)\s*(?={_FRACTION})|(?P<spaced>\d+)\s+(?=\d+\s*/))?"
    r"(?:\\frac\s*\{\s*(?P<top>[+-]?[\d,]+)\s*\}\s*\{\s*(?P<bottom>[\d,]+)\s*\}"
    r"|(?P<over>\d+)\s*/\s*(?P<under>\d+))"
)
_POWER_OF_TEN = re.compile(
    rf"(?P<sign>[+-]?)(?:(?P<factor>{_PLAIN})\s*(?:\\times|\\cdot|\*|x|X)\s*)?10\s*\^\s*"
    r"(?:\{\s*(?P<braced>[+-]?\d{1,4})\s*\}|(?P<bare>\d))"
)
_SCIENTIFIC = re.compile(rf"(?P<factor>[+-]?{_PLAIN})[eE](?P<power>[+-]?\d{{1,4}})")
_REPEATING = re.compile(
    r"(?P<sign>[+-]?)(?P<whole>\d*)\.(?P<first>\d*)\\(?:overline|dot)\s*\{?\s*(?P<again>\d+)\s*\}?"
)
_BASE = re.compile(r"\(?(?P<digits>[0-9A-Fa-f]+)\)?_\s*(?:\{\s*\(?(\d{1,2})\)?\s*\}|(\d))")
_LEADING = re.compile(
    rf"[+-]?\s*(?:{_FRACTION}|(?!0)\d{{1,3}}(?: \d{{3}})+(?:\.\d+)?(?!\d|\s*/\s*\d)"
    rf"|{_PLAIN}(?:\s*{_FRACTION}|\s*/\s*\d+|\s+\d+/\d+|[eE][+-]?\d+"
    r"|\s*(?:\\times|\\cdot|\*)\s*10\s*\^\s*\{\s*[+-]?\d+\s*\})?)"
)
_PREFIXED = re.compile(r"0[xX][0-9A-Fa-f]{1,64}|0[bB][01]{1,256}")
_SIGN = re.compile(rf"([+-]?)\s*({MONEY_BEFORE})\s*([+-]?)\s*")
# "1.428,00", "1 428,00" and "1.234.567" have one reading only, whatever the file.
_CONTINENTAL = re.compile(
    r"(?P<whole>[+-]?(?!0)\d{1,3}(?:(?:\.\d{3})+(?=,\d)|(?: \d{3})+(?=,\d)|(?:\.\d{3}){2,}))"
    r"(?:,(?P<decimals>\d+))?(?![\d.,]*\d)"
)
_CENTS = re.compile(r"([+-]?\d+),(\d{2})(?![\d.,]*\d)")
"""With a currency it is an amount of money: "CHF 43,20"."""
_SPACED_THOUSANDS = re.compile(r"([+-]?)(\d{1,3}(?: \d{3})+)(\.\d+)?")
_SMALL = {
    word: value
    for value, word in enumerate(
        words(
            "zero one two three four five six seven eight nine ten eleven twelve thirteen "
            "fourteen fifteen sixteen seventeen eighteen nineteen"
        )
    )
}
_TENS = {
    word: 10 * value
    for value, word in enumerate(words("twenty thirty forty fifty sixty seventy eighty ninety"), 2)
}


@dataclass(frozen=True)
class Amount:
    """A number that was read.

    Attributes:
        value: Its exact value.
        mark: Its unit, currency, percent sign or base; "" if it has none.
    """

    value: Fraction
    mark: str = ""


@lru_cache(maxsize=65_536)
def plain_number(text: str) -> Fraction | None:
    r"""Exact value of an integer, decimal, simple or mixed fraction; None for anything else.

    Examples are "007", "1,234.50", "1 234", "+5", "-3/4", "2 1/2", "\frac{3}{4}", "3 \times
    10^{8}", "1.6e-19" and "0.\overline{36}". A zero denominator is left to the parser.
    """
    if _NUMBER.fullmatch(text):
        return Fraction(text.replace(",", ""))
    if found := _QUOTIENT.fullmatch(text):
        return _quotient(found)
    if found := _SPACED_THOUSANDS.fullmatch(text):
        return Fraction(text.replace(" ", ""))
    if found := _SCIENTIFIC.fullmatch(text):
        return _power_of_ten(found["factor"], found["power"])
    if found := _POWER_OF_TEN.fullmatch(text):
        return _power_of_ten(
            found["sign"] + (found["factor"] or "1"), found["braced"] or found["bare"]
        )
    if found := _REPEATING.fullmatch(text):
        return _repeating(found)
    return None


def _quotient(found: re.Match[str]) -> Fraction | None:
    over = int((found["top"] or found["over"]).replace(",", ""))
    under = int((found["bottom"] or found["under"]).replace(",", ""))
    whole = int(found["whole"] or found["spaced"] or 0)
    if not under or (whole and over < 0):
        return None
    return (-1 if found["sign"] == "-" else 1) * (whole + Fraction(over, under))


def _power_of_ten(factor: str, power: str) -> Fraction | None:
    if abs(int(power)) > MAX_EXPONENT:
        return None
    return Fraction(factor.replace(",", "")) * Fraction(10) ** int(power)


def _repeating(found: re.Match[str]) -> Fraction:
    first, again = found["first"], found["again"]
    cycle = Fraction(int(again), 10 ** len(first) * (10 ** len(again) - 1))
    value = int(found["whole"] or 0) + Fraction(int(first or 0), 10 ** len(first)) + cycle
    return -value if found["sign"] == "-" else value


def amount(text: str) -> Amount | None:
    r"""Read a number with a currency before it, and a factor, a unit or a remark behind it.

    Examples: "$1.2 million" is 1,200,000 with the mark "$", "CHF 1.428,50" is 1428.5 with the mark
    "CHF", "25k" is 25,000, "5 km" has the mark "km", "12 apples" has none, "101_{2}" has the mark
    "base 2", "twenty-five" is 25.

    Returns:
        The number; None if the text is anything else, such as "5 squared" or "two of 18".
    """
    if based := _BASE.fullmatch(text):
        base = int(based.group(2) or based.group(3))
        digits = based["digits"]
        fits = 2 <= base <= 36 and all(int(digit, 16) < base for digit in digits)
        return (
            Amount(Fraction(int(digits)), f"base {base}") if fits and digits.isdecimal() else None
        )
    if _PREFIXED.fullmatch(text):
        return Amount(Fraction(int(text, 0)))
    currency = ""
    if sign := _SIGN.match(text):
        currency = CURRENCY_SIGNS[sign.group(2)]
        text = sign.group(1) + sign.group(3) + text[sign.end() :]
    text = _with_decimal_point(text, currency)
    value, rest = plain_number(text), ""
    if value is None:
        leading = _LEADING.match(text)
        value = plain_number(leading.group().strip()) if leading else None
        if value is None or leading is None:
            return None if currency else in_words(text)
        rest = text[leading.end() :]
        if rest[:1].isdigit() or (rest[:1] in ".,^_!(" and rest[:2] != "^{"):
            return None
    behind = read_suffix(rest, after_money=bool(currency))
    if behind is None:
        return None
    factor, mark = behind
    if currency and mark in ("", *MONEY):
        mark = currency if mark in ("", currency) else mark
    return Amount(value * factor, mark or currency)


def _with_decimal_point(text: str, currency: str) -> str:
    """Write a decimal comma as a point if the number has one reading only."""
    if continental := _CONTINENTAL.match(text):
        whole = re.sub(r"[. ]", "", continental["whole"])
        return f"{whole}.{continental['decimals'] or 0}{text[continental.end() :]}"
    if cents := _CENTS.match(text):
        behind = read_suffix(text[cents.end() :], after_money=bool(currency))
        if behind is not None and (currency or behind[1] in MONEY):
            return f"{cents[1]}.{cents[2]}{text[cents.end() :]}"
    return text


def read_suffix(text: str, *, after_money: bool = False) -> Words | None:
    r"""Read the suffix of a number or an expression: words, a degree or percent sign, `\text{}`."""
    text = text.strip()
    if not text:
        return 1, ""
    if text.startswith(r"^{\circ}"):
        behind = _SUFFIX_TEXT.sub(r" \1 ", text[8:]).replace("\\", "").strip()
        if behind and not _ONLY_WORDS.fullmatch(behind):
            return None
        return read_words(f"degrees {behind}", as_text=True)
    if text in (r"\%", "%"):
        return 1, "%"
    as_text = "\\" in text
    plain = _SUFFIX_TEXT.sub(r" \1 ", text).replace(r"\%", "%").replace(r"\$", "$")
    if modulus := _MODULUS.fullmatch(plain):
        kind, by = modulus[1] or modulus[3], modulus[2] or modulus[4]
        return 1, f"{kind.removeprefix('in ')} {int(by)}"
    if after_money:
        plain = plain.removeprefix("/")  # $18/day
    if "\\" in plain or not _ONLY_WORDS.fullmatch(plain):
        return None
    if text.startswith("(") and text.endswith(")"):
        as_text, plain = True, plain.strip(" ()")
    return read_words(plain, after_money=after_money, as_text=as_text)


_SUFFIX_TEXT = re.compile(
    r"\\(?:text|textbf|textit|textrm|textnormal|mathrm|mathbf|mbox|hbox|operatorname)\s*"
    r"\{([^{}]*)\}"
)
_MODULUS = re.compile(
    r"\s*(?:\(\s*(mod|(?:in )?base)\s+(\d{1,9})\s*\)|((?:in )?base)\s+(\d{1,9}))\s*"
)
_ONLY_WORDS = re.compile(rf"[\s\-–]*[A-Za-zł{SIGNS}¢%(][A-Za-zł{SIGNS}¢%\s()/.,'\-^{{}}0-9]*")


def in_words(text: str) -> Amount | None:
    """Read an amount in English words: "twenty-five", "one hundred and five dollars", "a half"."""
    tokens = re.findall(r"[A-Za-z]+", text.lower())
    if not tokens or not re.fullmatch(r"[A-Za-z\s\-,]+", text):
        return None
    if tokens in (["half"], ["one", "half"], ["a", "half"]):
        return Amount(Fraction(1, 2))
    total = current = used = 0
    for index, token in enumerate(tokens):
        if token in _SMALL or token in _TENS:
            digits = current % 100
            if digits and (token in _TENS or digits % 10 or digits < 20 or _SMALL[token] > 9):
                return None  # "one two", "nineteen ninety"
            current += _SMALL.get(token, 0) + _TENS.get(token, 0)
        elif token in FACTORS and token != "k" and (used or tokens[0] == "a"):
            current = max(current, 1) * FACTORS[token]
            if FACTORS[token] >= 1_000:
                total, current = total + current, 0
        elif not (token in ("a", "and") and index + 1 < len(tokens) and (used or token == "a")):
            break
        used = index + 1
    while used and tokens[used - 1] in ("a", "and"):
        used -= 1
    if not used:
        return None
    rest = tokens[used:]
    if rest == ["first"] or (rest[:1] == ["point"] and rest[1:]):
        return None  # "twenty-first", "zero point five"
    behind = (
        read_words(" ".join(rest), as_text=True) if len(rest) <= 3 and "of" not in rest else None
    )
    return Amount(Fraction(total + current), behind[1]) if behind and behind[0] == 1 else None
