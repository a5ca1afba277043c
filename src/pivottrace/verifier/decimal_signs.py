"""The decimal sign of a column in a file that is separated by semicolons.

Such files come from countries that write "1.200,50" for 1200.5. A single number does not show it:
"3.500" is 3500 there and 3.5 elsewhere. So all cells of the column decide together.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from pivottrace.errors import DataError
from pivottrace.verifier.amounts import read_suffix
from pivottrace.verifier.forms import form_of
from pivottrace.verifier.truths import ALTERNATIVES
from pivottrace.verifier.units import MONEY_BEFORE

EITHER = "either"
"""A number whose only sign stands before exactly three digits: "3.500" and "1,234"."""

# A lead such as "x =", "Answer:", "the answer is" or "ca." may stand before the number.
_CELL = re.compile(
    rf"(?P<before>(?:[^\d]*?(?:[=:≈~]|\bis|\bca\.?|\babout)\s*)?[-+]?\s*(?:{MONEY_BEFORE}\s*)?[-+]?)"
    r"(?P<digits>\d+(?:[.,\s]\d+)*)(?P<behind>(?:[^\d,.].*?)?\.?)",
    re.DOTALL,
)
_TOLERANCE = re.compile(r"\s*\[tolerance ([^\]]*)\]\s*$")
_ONE_GROUP = re.compile(r"(?!0)\d{1,3}[.,]\d{3}")
_COMMA = re.compile(r"\d+,\d+|\d{1,3}(?:([.\s])\d{3})(?:\1\d{3})*,\d+|(?!0)\d{1,3}(?:\.\d{3}){2,}")
_SWAPPED = str.maketrans(",.", ".,")


@dataclass(frozen=True)
class Signs:
    """The decimal sign that the cells of a column show together.

    Attributes:
        comma: Whether the comma is the decimal sign, so that `without_decimal_comma` is to be used.
        note: The decision with an example, if a cell depends on it.
    """

    comma: bool
    note: str | None = None


def decimal_signs(cells: Iterable[tuple[str, str]]) -> Signs:
    """Decide what the comma and the point are in a column.

    The comma is the decimal sign, unless the only decimal signs that the cells show are points.
    Cells of both kinds are read each by its own sign, where no other cell depends on it.

    Args:
        cells: (place for messages, text) of each cell.

    Raises:
        DataError: A number has two readings, and the other cells show both of them.
    """
    shown: dict[str, tuple[str, str]] = {}
    num_either = {",": 0, ".": 0}
    for place, text in cells:
        for piece in text.split(ALTERNATIVES.strip()):
            sign = shown_sign(piece)
            if sign == EITHER:
                own = "," if "," in piece else "."
                num_either[own] += 1
                sign = EITHER + own
            if sign is not None:
                shown.setdefault(sign, (place, piece.strip()))
    comma, point = shown.get(","), shown.get(".")
    either = shown.get(EITHER + ".") or shown.get(EITHER + ",")
    if either is not None and point is not None and (comma or num_either[","]):
        raise DataError(_both_ways(shown, comma, point))
    if point is not None and comma is None:
        note = _note(either, either and either[1], num_either["."], f"{point[0]}: {point[1]!r}")
        return Signs(comma=False, note=note and f"the point is the decimal sign ({note})")
    either = shown.get(EITHER + ".")
    read = without_decimal_comma(either[1]) if either else None
    note = _note(either, read, num_either["."], None if comma is None else f"{comma[1]!r}")
    return Signs(True, note and f"a point before three digits separates thousands ({note})")


def _both_ways(
    shown: dict[str, tuple[str, str]], comma: tuple[str, str] | None, point: tuple[str, str]
) -> str:
    place, cell = shown.get(EITHER + ".") or shown[EITHER + ","]
    if comma is None:
        place, cell = shown[EITHER + ","]
    digits = _digits(cell)
    plain = re.sub(r"[.,]", "", digits)
    decimal = f"the decimal comma of {comma[0]} ({comma[1]!r})" if comma else "the semicolons"
    return (
        f"{place}: {cell!r} may be {plain} or {digits.replace(',', '.')}: {decimal} and the "
        f"decimal point of {point[0]} ({point[1]!r}) differ. Write all numbers in one way"
    )


def _note(
    either: tuple[str, str] | None, read: str | None, number: int, because: str | None
) -> str | None:
    """The first cell that depends on the decision, its value, and the number of such cells."""
    if either is None or not number:
        return None
    why = f", as {because} shows" if because else ""
    return f"{either[0]}: {either[1]!r} is {read}{why}; such cells: {number}"


def shown_sign(text: str) -> str | None:
    """The decimal sign that a number shows by itself: "," or ".".

    `EITHER` if it has two readings, and None for a whole number and any other text.
    """
    digits = _digits(text)
    if _ONE_GROUP.fullmatch(digits):
        return EITHER
    if _COMMA.fullmatch(digits):
        return ","
    return "." if _COMMA.fullmatch(digits.translate(_SWAPPED)) else None


def without_decimal_comma(text: str) -> str:
    """Write "3,5", "1.200,5" and "3.500 km" with a decimal point at most; any other text stays.

    The comma is taken for the decimal sign, and a point before groups of exactly three digits
    separates thousands. So "1,234" gives "1.234", "3.500" gives "3500", and "1.5" stays.
    Alternatives are read one by one, and a tolerance behind them too.
    """
    tolerance = _TOLERANCE.search(text)
    pieces = text[: tolerance.start() if tolerance else None].split(ALTERNATIVES.strip())
    read = ALTERNATIVES.join(_with_point(piece) for piece in pieces)
    if tolerance:
        read += f" [tolerance {tolerance[1].replace(',', '.')}]"
    return text if read == text.strip() and len(pieces) == 1 else read


def _with_point(text: str) -> str:
    stripped = text.strip()
    sign = shown_sign(stripped)
    if sign is None or sign == ".":
        return stripped
    found = _CELL.fullmatch(stripped)
    assert found is not None  # it has a sign
    plain = re.sub(r"[.\s]", "", found["digits"]).replace(",", ".")
    return found["before"] + plain + found["behind"]


def _digits(text: str) -> str:
    """The number of a cell as it is written; "" if the cell is no number."""
    found = _CELL.fullmatch(text.strip())
    if found is None:
        return ""
    if read_suffix(found["behind"].rstrip(".")) is not None:
        return found["digits"]
    # A unit that is not in the list, such as °C: with a point it would be read as a number.
    pointed = f"{found['before']}1.5{found['behind']}"
    return found["digits"] if form_of(pointed) == "number" else ""
