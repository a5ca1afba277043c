r"""The form of an answer: a number, an expression, a set, an interval, a point, a time or a text.

An answer is read into a tree of forms by its text alone. A leaf that is neither a number nor a text
is a LaTeX expression, which only a parser can value; see `verifier.keys`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from math import gcd

from pivottrace.verifier.amounts import amount, plain_number, read_suffix
from pivottrace.verifier.exact_text import MAX_ANSWER_CHARS, normalise_exact
from pivottrace.verifier.notation import normalise_notation, without_text_commands
from pivottrace.verifier.splitting import (
    enclosed,
    split_alternatives,
    split_at,
    split_relation,
    words,
)

MAX_DEPTH = 6
"""Brackets nested deeper than this are left to the parser."""


@dataclass(frozen=True)
class Form:
    """An answer, or a part of one.

    Attributes:
        kind: "number", "infinity", "expression", "equation", "interval", "tuple", "set", "matrix",
            "time", "ratio", "text" or "empty". An interval of two ends in round brackets looks
            like a point, and is a "tuple".
        text: LaTeX of an expression; "left - (right)" of an equation; brackets of an interval or
            tuple ("(]"); the sign of an infinity; the folded text of a text.
        parts: Ends, elements, or rows of elements.
        equation: "y - (right)" of an expression that stood behind "y =", as an equation's text.
        value: Value of a number, exactly; of the set "3,5" its value as a decimal, 3.5.
        mark: Unit, currency, percent sign, base, am or pm, or the name before "="; "" for none.
    """

    kind: str
    text: str = ""
    parts: tuple["Form", ...] = ()
    value: Fraction | None = None
    mark: str = ""
    equation: str = ""

    def expressions(self) -> Iterator["Form"]:
        """Every leaf that a parser has to value."""
        if self.kind in ("expression", "equation"):
            yield self
        if self.equation:
            yield Form("equation", self.equation)
        for part in self.parts:
            yield from part.expressions()


EMPTY = Form("empty")
REMARK = re.compile(r"\s*\((?P<words>[^()\d\\=<>]*[A-Za-z]{2}[^()\\=<>]*)\)$")
_ABOUT = re.compile(
    r"(?:\\approx|\\sim|=|≈|~|approximately|approx\.?|circa|ca\.?|about|around|roughly|exactly)\s*(?=[\d.$\\+-])",
    re.IGNORECASE,
)
_TIME = re.compile(
    r"(\d{1,2})\s*:\s*([0-5]\d)(?:\s*:\s*([0-5]\d))?\s*([ap])?\.?\s*(?(4)m\.?)|"
    r"(\d{1,2})\s*([ap])\.?\s*m\.?",
    re.IGNORECASE,
)
_RATIO = re.compile(r"\d+(?:\.\d+)?(?:\s*:\s*\d+(?:\.\d+)?)+")
_INFINITY = re.compile(r"([+-]?)\s*\\infty")
# A name is a letter, a run of capitals (of points) or a word. "xy" is a product.
_NAME = re.compile(
    r"(?:\\Delta\s*)?(?:\\?[A-Za-z]|\\[A-Za-z]+|[A-Z]{2,4}|[A-Za-z]{4,12})(?:_\s*(?:\{[^{}]*\}|\w))?'?"
    r"(?:\([A-Za-z\d,\s]*\))?"
)
_NEGATIVE_NAME = re.compile(r"-\s*([A-Za-z])")
_POINT_NAMES = re.compile(r"\(\s*([A-Za-z](?:_\{?\w\}?)?(?:\s*,\s*[A-Za-z](?:_\{?\w\}?)?)+)\s*\)")
# Lengths, areas and their ratios: "|AB|", "A:B", "S_{ABC}:S", "\angle ABC", "\frac{NO}{BO}".
_MEASURE = (
    r"(?:\\(?:angle|triangle|overline|widehat)\s*)?[|{]?[A-Z]{1,4}(?:_\s*(?:\{\w*\}|\w))?[|}]?"
)
_GEOMETRIC = re.compile(
    rf"{_MEASURE}(?:\s*[:/]\s*{_MEASURE})?|\\frac\s*\{{\s*{_MEASURE}\s*\}}\{{\s*{_MEASURE}\s*\}}"
)
_DECIMAL_COMMA = re.compile(r"-?\d+,\d+")
_MATRIX = re.compile(
    r"[(\[]?\s*\\begin\s*\{([pbB]?matrix|array)\}(?:\{[^{}]*\})?(.*)\\end\s*\{\1\}\s*[)\]]?",
    re.DOTALL,
)
_TRAILING_TEXT = re.compile(
    r"(?P<head>.*[\w}\)])\s*(?P<words>\\(?:text|textnormal|textrm|mathrm|mbox|hbox)\s*\{[^{}]*\}"
    r"(?:\s*\^\s*\{?\d\}?)?|\^\{\\circ\}(?:\s*\\?(?:text|mathrm)?\{?\s*[CF]\}?)?|\\%|%)$",
    re.DOTALL,
)
_PLUS_MINUS = re.compile(r"\\(pm|mp)(?![A-Za-z])")
_TRAILING_UNIT = re.compile(
    r"(?P<head>(?:[^A-Za-z\\]|\\[A-Za-z]+)+) (?P<words>[A-Za-z]{2,}[\w/ ^{}]*)"
)
_CONNECTIVE = re.compile(r"\\(?:lor|vee|land|wedge)(?![A-Za-z])")  # of statements: "p \land q"
_OF_DEGREES = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc)(?![A-Za-z])")
# A date, a version, an address or initials are no difference and no product: "2024-05-01", "1.2.3",
# "k. A.". Groups of three digits are thousands: "1.234.567".
_CODE = re.compile(
    r"\d{4}([-/.])\d{1,2}\1\d{1,2}|\d{1,2}([-/.])\d{1,2}\2\d{4}"
    r"|(?!(?!0)\d{1,3}(?:\.\d{3})+$)\d+(?:\.\d+){2,}|[A-Za-z](?:\.\s?[A-Za-z])+"
    r"|[IVX]{2,}|(?:no|No|NO|on|On|ON|ok|Ok|OK)"
)
_ARITHMETIC = re.compile(
    r"(?:[\d\s.,+\-*/()^{}]|\\(?:times|cdot|div|frac|left|right)(?![A-Za-z]))+"
)
_ARTICLE = re.compile(r"^(?:an?|the) (?=\w)")
_COMMAND = re.compile(r"\\(?:begin|end)\s*\{[^{}]*\}|\\[A-Za-z]+")
_WORD = re.compile(r"[^\W\d_]{3,}")
_MATH_WORDS = frozenset(
    words(
        "sin cos tan arcsin arccos arctan sinh cosh tanh log exp sqrt mod cot sec csc lim "
        "max min gcd lcm det inf"
    )
)
_ADJACENT_NUMBERS = re.compile(r"\d\s+\d")
_LETTER = re.compile(r"\(?([A-Za-z])\)?[.):]?")  # of a choice, or a variable


def form_of(text: str) -> str:
    """The kind of an answer by its text alone, as `Form.kind`; an infinity counts as a number."""
    kind = read_form(text).kind
    return "number" if kind == "infinity" else kind


@lru_cache(maxsize=65_536)
def read_form(answer: str) -> Form:
    """Read an answer into its form. Text over `MAX_ANSWER_CHARS` is a text and nothing else."""
    exact = normalise_exact(answer)
    if not exact:
        return EMPTY
    if len(exact) > MAX_ANSWER_CHARS:
        return Form("text", exact)
    # Plain numbers and dollars are by far the most frequent answers.
    if (value := plain_number(exact.removeprefix("$"))) is not None:
        return Form("number", value=value, mark="$" if exact.startswith("$") else "")
    text = normalise_notation(exact)
    form = _read(text, 0) if text else EMPTY
    return form if form.kind != "empty" else _text(exact)


def _read(text: str, depth: int) -> Form:
    """Read normalised text, from the whole to its parts."""
    text = _ABOUT.sub("", text.strip(), count=1) if _ABOUT.match(text.strip()) else text.strip()
    if not text:
        return EMPTY
    if "(mod " in text:
        text = text.replace(r"\equiv", "=")
    if _CODE.fullmatch(text):
        return _text(text)
    if simple := _simple(text):
        return simple
    if (remark := REMARK.search(text)) and (form := _with_remark(text, remark, depth)):
        return form
    if depth < MAX_DEPTH and (form := _structure(text, depth)):
        return form
    if suffixed := _TRAILING_TEXT.fullmatch(text):
        behind = read_suffix(suffixed["words"])
        degrees = suffixed["words"].startswith("^") and _OF_DEGREES.search(suffixed["head"])
        if behind is not None and not degrees and not is_prose(suffixed["head"]):
            factor, mark = behind
            head = suffixed["head"].strip()
            return _marked(_read(head if factor == 1 else f"{factor} ({head})", depth + 1), mark)
    if plain_unit := _TRAILING_UNIT.fullmatch(text):  # 2\pi cm
        behind = read_suffix(plain_unit["words"])
        if behind is not None and behind[0] == 1 and behind[1]:
            return _marked(_read(plain_unit["head"], depth + 1), behind[1])
    if is_prose(text):
        return _text(text)
    plain = without_text_commands(text).strip()
    if letter := _LETTER.fullmatch(plain):
        return Form("expression", letter.group(1).casefold())
    return Form("expression", plain if "\\text" in text else text)


def _simple(text: str) -> Form | None:
    """A number, an infinity, a time or a ratio."""
    if number := amount(text):
        return Form("number", value=number.value, mark=number.mark)
    if found := _INFINITY.fullmatch(text):
        return Form("infinity", found.group(1).replace("+", ""))
    plain = without_text_commands(text).strip()
    if time := _TIME.fullmatch(re.sub(r"\s+", " ", plain)):
        hour, minute, second, half, lone_hour, lone_half = time.groups()
        numbers = (int(hour or lone_hour), int(minute or 0), int(second or 0))
        mark = f"{(half or lone_half).lower()}m" if half or lone_half else ""
        return Form("time", ":".join(map(str, numbers)), mark=mark)
    if _RATIO.fullmatch(plain):
        return Form("ratio", _lowest_terms(plain))
    return None


def _lowest_terms(text: str) -> str:
    terms = [Fraction(term.strip()) for term in text.split(":")]
    scale = 1
    for term in terms:
        scale = scale * term.denominator // gcd(scale, term.denominator)
    whole = [int(term * scale) for term in terms]
    common = gcd(*whole) or 1
    return ":".join(str(term // common) for term in whole)


def _with_remark(text: str, remark: re.Match[str], depth: int) -> Form | None:
    """A value before words in brackets: "9 (apples)", "5 (km)", "12 (twelve)"."""
    head = text[: remark.start()].strip()
    if not head or is_prose(head) or not re.search(r"[\d}]$", head):
        return None
    form = _read(head, depth + 1)
    behind = read_suffix(f"({remark['words']})")
    if behind is None:
        return None  # 5 (or 6)
    if form.kind == "number" and form.mark.endswith("=") and behind[1]:
        return replace(form, mark=behind[1])  # x = 3 (mod 5)
    return _marked(form, behind[1] if behind[0] == 1 else "")


def _structure(text: str, depth: int) -> Form | None:
    """Brackets, lists, unions, relations and plus-minus; None for anything else."""
    if matrix := _MATRIX.fullmatch(text):
        rows = tuple(
            Form("tuple", "row", tuple(_read(cell, depth + 1) for cell in split_at(row, "&")))
            for row in re.split(r"\\\\", matrix.group(2).strip().removesuffix("\\\\"))
        )
        if len(rows) == 1 or all(len(row.parts) == 1 for row in rows):
            cells = tuple(cell for row in rows for cell in row.parts)
            return Form("tuple", "()", cells) if len(cells) > 1 else cells[0]
        return Form("matrix", parts=rows)
    if text.strip() in (r"\emptyset", r"\{\}", r"\{ \}", "empty set", "the empty set"):
        return Form("set")
    if text.strip() in (r"\mathbb{R}", r"\R", "all real numbers", "all reals"):
        return Form("interval", "()", (Form("infinity", "-"), Form("infinity")))
    if brackets := enclosed(text):
        return _bracketed(*brackets, depth)
    if len(sets := split_at(text, r"\cup")) > 1:
        return _set([_read(part, depth + 1) for part in sets], "union")
    if len(groups := split_at(text, ";")) > 1 and "," in text:
        return _set([_read(group, depth + 1) for group in groups])
    items = split_alternatives(text)
    if len(items) > 1 and not (_CONNECTIVE.search(text) and all(map(_LETTER.fullmatch, items))):
        return _listed(items, depth)
    about = split_at(text, r"\approx")
    if len(about) == 2 and not _NAME.fullmatch(about[0]):  # a value, then its decimal
        return _read(about[0], depth + 1)
    if relation := split_relation(text):
        return _related(relation, depth)
    if _PLUS_MINUS.search(text):
        plus = _PLUS_MINUS.sub(lambda found: "+" if found.group(1) == "pm" else "-", text)
        minus = _PLUS_MINUS.sub(lambda found: "-" if found.group(1) == "pm" else "+", text)
        return _set([_read(_without_plus(side), depth + 1) for side in (plus, minus)])
    return None


def _without_plus(text: str) -> str:
    return text.strip().removeprefix("+").strip()


def _bracketed(opening: str, inside: str, closing: str, depth: int) -> Form | None:
    """A set in braces; a point, interval or tuple; None where brackets only group."""
    items = split_at(inside, ",", ";")
    if opening == r"\{":
        if len(about := split_at(inside, "|", ":")) == 2:
            return _read(about[1], depth + 1)  # {x | x > 3}
        return _set(_flat(_read(item, depth + 1) for item in items))
    if len(items) < 2:
        form = _read(inside, depth + 1)
        return form if opening + closing == "()" and (depth or form.parts) else None
    parts = tuple(_read(item, depth + 1) for item in items)
    if any(part.kind in ("empty", "text") and part.text[1:] for part in parts):
        return None
    ends = any(part.kind == "infinity" for part in parts) or opening + closing not in ("()", "<>")
    if len(parts) == 2:
        return Form("interval" if ends else "tuple", opening + closing, parts)
    return Form("tuple", "()", parts)


def _listed(items: list[str], depth: int) -> Form | None:
    """Values joined by commas, "or" or "and": a set. Words between commas are a text."""
    if any(
        is_prose(item) and not amount(item.strip()) and not _is_relation(item) for item in items
    ):
        return None
    forms = [_read(item, depth + 1) for item in items]
    if any(form.kind in ("empty", "text") for form in forms):
        return None
    names = [form.mark for form in forms if form.mark.endswith("=")]
    letters = {name.partition("_")[0].removesuffix("=") for name in names}
    if len(letters) == 1:  # the roots x_1 and x_2
        forms = [replace(form, mark=f"{min(letters)}=" if form.mark else "") for form in forms]
    elif len(set(names)) == len(forms):  # x = 3, y = 8 is the point (3, 8)
        return _point(names, forms)
    read = _set(_flat(forms))
    decimal = _DECIMAL_COMMA.fullmatch(",".join(items))
    if read.kind != "set" or decimal is None:
        return read
    return replace(read, value=Fraction(decimal.group().replace(",", ".")))


def _point(names: list[str], forms: "list[Form] | tuple[Form, ...]") -> Form:
    """The point of named values, in the order in which they are written."""
    mark = "(" + ",".join(name.removesuffix("=") for name in names) + ")="
    return Form("tuple", "()", tuple(replace(form, mark="") for form in forms), mark=mark)


def by_name(form: Form) -> Form:
    """A point of named values in alphabetical order of the names; any other form as it is."""
    if not form.mark.startswith("("):
        return form
    pairs = zip(form.mark[1:-2].split(","), form.parts, strict=True)
    named = sorted(pairs, key=lambda pair: pair[0])
    return _point([name for name, _ in named], [part for _, part in named])


def _is_relation(text: str) -> bool:
    relation = split_relation(text)
    return relation is not None and not any(is_prose(side) for side in relation[::2])


def _flat(forms: "Iterator[Form] | list[Form]") -> list[Form]:
    """Elements that are sets themselves by plus-minus give their elements."""
    flat: list[Form] = []
    for form in forms:
        is_list = form.kind == "set" and form.text == "" and form.parts and not form.mark
        flat += form.parts if is_list else [form]
    return flat


def _set(forms: list[Form], text: str = "") -> Form:
    """A set, with the mark of its elements: "3 and 5 cm" and "x = 3 or 5" mean both."""
    if len(forms) == 1:
        return forms[0]
    marks = {form.mark for form in forms} - {""}
    mark = marks.pop() if len(marks) == 1 else ""
    if mark:
        forms = [replace(form, mark="") for form in forms]
    unique = tuple(dict.fromkeys(forms))
    return (
        replace(unique[0], mark=mark) if len(unique) == 1 else Form("set", text, unique, mark=mark)
    )


_FLIPPED = {"<": ">", ">": "<", r"\le": r"\ge", r"\ge": r"\le"}


def _related(relation: list[str], depth: int) -> Form | None:
    r"""A value with its name ("x = 5", "x \in (1, 2)"), an inequality, or an equation."""
    left, sign, right = (part.strip() for part in relation[:3])
    if left.startswith(r"\text{"):
        left = without_text_commands(left).strip()
    if (names := _POINT_NAMES.fullmatch(left)) and sign == "=":
        point = _read(relation[-1], depth + 1)
        listed = [name.strip() + "=" for name in names.group(1).split(",")]
        if point.kind == "tuple" and len(point.parts) == len(listed):
            return _point(listed, point.parts)
        return None
    if sign in (r"\in", "=") and len(relation) > 3 and _NAME.fullmatch(left):
        right = relation[-1].strip()  # x = 2 + 3 = 5
    elif len(relation) == 5:
        return _between([part.strip() for part in relation], depth)
    elif len(relation) > 3:
        return None
    if sign in _FLIPPED:
        if negative := _NEGATIVE_NAME.fullmatch(left):
            left, sign, right = negative.group(1), _FLIPPED[sign], f"-({right})"
        if _NAME.fullmatch(right) and not _NAME.fullmatch(left):
            left, sign, right = right, _FLIPPED[sign], left
        return _half_line(left, sign, right, depth) if _NAME.fullmatch(left) else None
    if sign == r"\in" or sign == "=":
        if sign == "=" and _NAME.fullmatch(right) and not _NAME.fullmatch(left):
            left, right = right, left
        if _NAME.fullmatch(left) and not _names(left, right):
            form = _marked(_read(right, depth + 1), _mark_name(left))
            is_function = sign == "=" and form.kind == "expression"
            return replace(form, equation=f"{left} - ({right})") if is_function else form
        if sign == "=" and _ARITHMETIC.fullmatch(left) and (total := amount(right)):
            return Form("number", value=total.value, mark=total.mark)  # 9 + 9 = 18
        if sign == "=" and _GEOMETRIC.fullmatch(left):
            return _marked(_read(right, depth + 1), _mark_name(left))
        return Form("equation", f"{left} - ({right})") if sign == "=" else None
    return None


def _names(name: str, text: str) -> bool:
    """Whether an expression holds the name, so that "x = x^2" is an equation."""
    letters = re.findall(r"\\?[A-Za-z]+", name)[0]
    if len(letters) == 1:
        return letters in _COMMAND.sub(" ", text)  # "xy" holds x, and "\\exp" does not
    return re.search(rf"(?<![A-Za-z\\]){re.escape(letters)}(?![A-Za-z])", text) is not None


def _mark_name(name: str) -> str:
    return re.sub(r"[\s{}]", "", name) + "="


def _half_line(name: str, sign: str, end: str, depth: int) -> Form:
    form = _read(end, depth + 1)
    closing = sign in (r"\le", r"\ge")
    if sign in ("<", r"\le"):
        parts = (Form("infinity", "-"), form)
        return Form("interval", "(]" if closing else "()", parts, mark=_mark_name(name))
    return Form(
        "interval", "[)" if closing else "()", (form, Form("infinity")), mark=_mark_name(name)
    )


def _between(relation: list[str], depth: int) -> Form | None:
    r"""The interval of "1 < x \le 2" or "2 \ge x > 1"."""
    low, first, name, second, high = relation
    if not _NAME.fullmatch(name) or first not in _FLIPPED or second not in _FLIPPED:
        return None
    if first in (">", r"\ge"):
        low, first, second, high = high, _FLIPPED[second], _FLIPPED[first], low
    if first not in ("<", r"\le") or second not in ("<", r"\le"):
        return None
    brackets = ("[" if first == r"\le" else "(") + ("]" if second == r"\le" else ")")
    ends = (_read(low, depth + 1), _read(high, depth + 1))
    return Form("interval", brackets, ends, mark=_mark_name(name))


def _marked(form: Form, mark: str) -> Form:
    """Give a form a mark. Its own mark stays, because "x = 5 km" is about kilometres."""
    return replace(form, mark=form.mark or mark)


def _text(text: str) -> Form:
    folded = " ".join(without_text_commands(text).casefold().split()).strip("\"' .")
    return Form("text", _ARTICLE.sub("", folded) or text)


def is_prose(text: str) -> bool:
    """Whether normalised text holds words, or numbers side by side, that are no mathematics."""
    bare = _COMMAND.sub(" ", text)
    if _ADJACENT_NUMBERS.search(bare) and "&" not in bare and "\\" not in text:
        return True
    return any(word.lower() not in _MATH_WORDS for word in _WORD.findall(bare))
