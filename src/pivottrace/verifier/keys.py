r"""Canonical keys: two answers are the same in a vote exactly if their keys are.

A key is (what, mark). Equal keys are an equivalence by construction, so the classes of a vote do
not depend on the order of the answers. A reward compares an answer with a truth, in that direction,
and a tolerance serves there.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Context, Decimal
from fractions import Fraction
from typing import Any

from pivottrace.verifier.forms import Form, by_name

KEY_DIGITS = 12
"""Significant digits of a number's key; whole numbers are kept whole."""

DEFAULT_TOLERANCE = Fraction(1, 10**6)
"""Relative; between a decimal and a number that has no finite decimal, such as 1/3 or √2."""

_CONTEXT = Context(prec=KEY_DIGITS, rounding=ROUND_HALF_EVEN, Emax=10**9, Emin=-(10**9))
Key = tuple[Hashable, str]


@dataclass(frozen=True)
class Value:
    """The value of an expression, as the child process returns it.

    Attributes:
        real: Real part of a number; exact, or to 40 digits.
        imaginary: Imaginary part.
        exact: Whether `real` is exact.
        fingerprint: Values at fixed points, for an expression with variables; None for a number.
    """

    real: Fraction = Fraction(0)
    imaginary: Fraction = Fraction(0)
    exact: bool = False
    fingerprint: Hashable = None

    @classmethod
    def of(cls, reply: dict[str, Any] | None) -> "Value | None":
        """From a reply of `Evaluator.value`."""
        if reply is None:
            return None
        if "fingerprint" in reply:
            return cls(fingerprint=tuple(tuple(point) for point in reply["fingerprint"]))
        real, imaginary = reply["number"]
        exact = reply["exact"]
        return cls(Fraction(exact or real), Fraction(imaginary), exact is not None)


Lookup = Callable[[Form], Value | None]
"""The value of an expression or equation; None if it could not be parsed."""


def key_of(form: Form, value_of: Lookup) -> Key | None:
    """The key of an answer; None for an empty one, which equals nothing."""
    if form.kind == "empty":
        return None
    form = by_name(form)
    return _what(form, value_of), form.mark


def _what(form: Form, value_of: Lookup) -> Hashable:
    number = number_of(form, value_of)
    if number is not None:
        return ("number", _rounded(number.real), _rounded(number.imaginary))
    if form.kind in ("expression", "equation"):
        value = value_of(form)
        return (form.kind, value.fingerprint) if value else ("opaque", _squeezed(form.text))
    parts = tuple(key_of(part, value_of) for part in form.parts)
    if form.kind == "set":
        return ("set", frozenset(parts))
    if len(parts) == 2 and form.kind in ("interval", "tuple") and form.text != "row":
        return ("pair", form.text, parts)
    return (form.kind, "" if form.kind == "tuple" else form.text, parts)


def _squeezed(text: str) -> str:
    return "".join(text.split()).casefold()


def number_of(form: Form, value_of: Lookup) -> Value | None:
    """The value of a number, or of an expression without variables; else None."""
    if form.kind == "number" and form.value is not None:
        return Value(form.value, exact=True)
    if form.kind == "expression":
        value = value_of(form)
        return value if value is not None and value.fingerprint is None else None
    return None


def _rounded(value: Fraction) -> Fraction:
    """The value to `KEY_DIGITS` significant digits, half to even; whole numbers stay."""
    if value.denominator == 1:
        return value
    return Fraction(_CONTEXT.divide(Decimal(value.numerator), Decimal(value.denominator)))


def vote_classes(keys: Sequence[Key | None]) -> list[int]:
    """Give every answer the id of its class, by order of first appearance; -1 for None.

    An answer without a mark joins the answers of its value that have a mark, if these have only one
    mark. With several marks it stands alone. So the order of the answers
    does not matter.
    """
    marks: dict[Hashable, set[str]] = {}
    for key in keys:
        if key is not None and key[1]:
            marks.setdefault(key[0], set()).add(key[1])
    ids: dict[Key, int] = {}
    classes = []
    for key in keys:
        if key is None:
            classes.append(-1)
            continue
        if marks and not key[1] and len(only := marks.get(key[0], ())) == 1:
            key = (key[0], *only)
        classes.append(ids.setdefault(key, len(ids)))
    return classes


def matches(
    answer: Form, truth: Form, value_of: Lookup, tolerance: Fraction | None = None
) -> bool | None:
    """Whether an answer is right.

    Args:
        answer: The answer.
        truth: The true answer.
        value_of: Values of expressions.
        tolerance: Greatest relative difference of two numbers. None is `DEFAULT_TOLERANCE` where a
            decimal is compared with a number that has no finite decimal, and else 0.

    Returns:
        The verdict; None if both sides are texts that only math-verify may compare.
    """
    if "empty" in (answer.kind, truth.kind):
        return False
    if answer == truth:
        return True
    if answer.mark.startswith("(") and truth.mark.startswith("("):
        answer, truth = by_name(answer), by_name(truth)
    numbers = number_of(answer, value_of), number_of(truth, value_of)
    if numbers[0] is not None and numbers[1] is not None:
        return _numbers_match(numbers[0], answer.mark, numbers[1], truth.mark, tolerance)
    if answer.mark and truth.mark and answer.mark != truth.mark:
        return False
    for one, other in ((answer, numbers[1]), (truth, numbers[0])):
        if one.kind == "set" and one.value is not None and other is not None:  # "3,5" is also 3.5
            return one.value == other.real and other.imaginary == 0
    if answer.parts and truth.parts and len(answer.parts) == len(truth.parts):
        if (answer.kind, truth.kind) == ("set", "set"):
            return _sets_match(answer, truth, value_of, tolerance)
        if _shape(answer) == _shape(truth) or _is_named_list(answer, truth):
            pairs = zip(answer.parts, truth.parts, strict=True)
            return all(matches(a, t, value_of, tolerance) for a, t in pairs)
    if {answer.kind, truth.kind} == {"equation", "expression"}:
        answer, truth = _as_equation(answer), _as_equation(truth)
    left, right = _what(answer, value_of), _what(truth, value_of)
    if left == right:
        return True
    opaque = [isinstance(side, tuple) and side[0] == "opaque" for side in (left, right)]
    return None if all(opaque) else False


def _is_named_list(answer: Form, truth: Form) -> bool:
    """Whether one side names its values ("x = 3, y = 8") and the other lists them in order."""
    kinds = {answer.kind, truth.kind}
    return kinds == {"tuple", "set"} and any(form.mark.startswith("(") for form in (answer, truth))


def _as_equation(form: Form) -> Form:
    return Form("equation", form.equation) if form.equation else form


def _shape(form: Form) -> tuple[str, str]:
    is_pair = form.kind in ("interval", "tuple") and len(form.parts) == 2
    return ("pair" if is_pair and form.text != "row" else form.kind, form.text)


def _sets_match(answer: Form, truth: Form, value_of: Lookup, tolerance: Fraction | None) -> bool:
    left = list(answer.parts)
    for wanted in truth.parts:
        found = next((a for a in left if matches(a, wanted, value_of, tolerance)), None)
        if found is None:
            return False
        left.remove(found)
    return True


def _numbers_match(
    answer: Value, mark: str, truth: Value, true_mark: str, tolerance: Fraction | None
) -> bool:
    """Whether two numbers are the same. With one percent sign, 50 % is 50 and 0.5."""
    if mark and true_mark and mark != true_mark:
        return False
    pairs = [(answer, truth)]
    if {mark, true_mark} == {"%", ""}:
        hundredths = (_hundredth(answer), truth) if mark else (answer, _hundredth(truth))
        pairs.append(hundredths)
    return any(_near(a, t, tolerance) for a, t in pairs)


def _hundredth(value: Value) -> Value:
    return Value(value.real / 100, value.imaginary / 100, value.exact)


def _near(a: Value, b: Value, tolerance: Fraction | None) -> bool:
    if tolerance is None:
        finite = _is_finite_decimal(a), _is_finite_decimal(b)
        if all(finite):
            return a.real == b.real and a.imaginary == b.imaginary
        tolerance = DEFAULT_TOLERANCE
        if not any(finite):  # two closed forms: only the rounding of their values may differ
            return (_rounded(a.real), _rounded(a.imaginary)) == (
                _rounded(b.real),
                _rounded(b.imaginary),
            )
    difference = (a.real - b.real) ** 2 + (a.imaginary - b.imaginary) ** 2
    return difference <= tolerance**2 * max(_square(a), _square(b))


def _square(value: Value) -> Fraction:
    return value.real**2 + value.imaginary**2


def _is_finite_decimal(value: Value) -> bool:
    """Whether a value is exact and has a finite decimal, such as 3, 0.25 or 1/8."""
    if not value.exact:
        return value.imaginary == 0 and _rounded(value.real).denominator == 1
    rest = value.real.denominator
    for prime in (2, 5):
        while rest % prime == 0:
            rest //= prime
    return rest == 1 and value.imaginary == 0
