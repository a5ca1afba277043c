r"""The value of one LaTeX expression: a number, or a fingerprint. It runs in the child process.

math-verify parses. A fingerprint holds the expression's values at fixed points, one per variable.
Two expressions with one fingerprint are the same function (but for a chance of 1e-9 or less), so
equality needs no simplification, costs no comparison of pairs, and is an equivalence.
"""

import functools
import hashlib
import importlib
import logging
import re
import warnings
from dataclasses import dataclass
from typing import Any

from pivottrace.verifier.amounts import MAX_EXPONENT
from pivottrace.verifier.splitting import split_sum

DIGITS = 40
"""Decimal digits of a number; the caller rounds."""
FINGERPRINT_DIGITS = 10
POINTS = 3
MOST_TERMS = 4_096
"""Valued terms that are kept, some 2 kB each."""
MOST_EXACT_POWER = 2_000
"""Powers of whole numbers are computed exactly up to this exponent."""
_NOISE = 1e-15  # a part that is smaller than this share of the value is a rounding error
# math-verify reads "2(3)" as a mixed number, 5.
_PRODUCT = re.compile(r"(?<=\d)\s*(?=\()")


@dataclass(frozen=True)
class _Valued:
    """A number, or values at the points; both are numbers of sympy."""

    number: Any = None
    points: list[Any] | None = None

    def __add__(self, other: "_Valued") -> "_Valued":
        if self.points is None and other.points is None:
            return _Valued(self.number + other.number)
        return _Valued(points=[a + b for a, b in zip(self._all(), other._all(), strict=True)])

    def __rmul__(self, sign: int) -> "_Valued":
        if self.points is None:
            return _Valued(sign * self.number)
        return _Valued(points=[sign * value for value in self.points])

    def _all(self) -> list[Any]:
        return [self.number] * POINTS if self.points is None else self.points


class Evaluator:
    """Parse and value expressions.

    Raises:
        ImportError: The package math-verify is not installed.
    """

    def __init__(self) -> None:
        warnings.simplefilter("ignore")
        logging.disable(logging.CRITICAL)  # math-verify warns that its time-outs are off
        from math_verify import LatexExtractionConfig, parse, verify

        # math-verify's time-outs use SIGALRM, which cannot interrupt a long operation in C, and
        # the parent kills this process anyway. Parse the whole text as LaTeX, or nothing: with
        # fallbacks on, math-verify takes the last number in a text that it cannot parse.
        self._sympy: Any = importlib.import_module("sympy")
        self._parse: Any = parse
        self._verify: Any = verify
        self._options = {
            "extraction_config": [LatexExtractionConfig(boxed_match_priority=0)],
            "fallback_mode": "no_fallback",
            "extraction_mode": "first_match",
            "parsing_timeout": None,
        }
        self._term = functools.lru_cache(MOST_TERMS)(self._valued)

    def answer(self, request: str, *texts: str) -> Any:
        """Serve "expression" and "equation" (see `value`) and "same" (see `same`)."""
        return self.same(*texts) if request == "same" else self.value(request, *texts)

    def value(self, kind: str, latex: str) -> dict[str, Any] | None:
        """Value one expression.

        Args:
            kind: "expression", or "equation" for the difference of its sides. An equation's
                fingerprint does not change if both sides are multiplied by a number.
            latex: One expression, without "=".

        Returns:
            {"number": [real, imaginary], "exact": "p/q" or null}, with decimals as text;
            {"fingerprint": [...]}, also of a number beyond 10**±`MAX_EXPONENT`; or None if the text
            cannot be parsed or valued.
        """
        # Terms are parsed one by one, because the time of a parse grows faster than its text, and
        # answers to one question share terms.
        terms = [(sign, self._term(term)) for sign, term in split_sum(latex)]
        values = [sign * term for sign, term in terms if term is not None]
        if len(values) < len(terms):
            return None
        total = sum(values[1:], values[0])
        if total.points is None:
            return self._number(total.number) if kind == "expression" else None
        points = total.points
        if all(abs(value - points[0]) <= abs(value) * _NOISE for value in points):
            return self._number(points[0]) if kind == "expression" else None  # the variables cancel
        if kind == "equation":
            scale = next((value for value in points if value != 0), None)
            points = [value / scale for value in points] if scale is not None else points
        return {"fingerprint": [self._rounded(value) for value in points]}

    def same(self, left: str, right: str) -> bool:
        """Whether math-verify holds two texts to be equal in either order.

        It is for texts that are no expression: intervals of several variables, matrices of sets.
        """
        sides = self._parsed(left), self._parsed(right)
        return all(sides) and any(
            self._verify(*order, timeout_seconds=None) for order in (sides, sides[::-1])
        )

    def _parsed(self, latex: str) -> list[Any]:
        return list(self._parse(rf"\boxed{{{latex}}}", **self._options))

    def _with_plain_symbols(self, expression: Any) -> Any:
        """Make "i" the imaginary unit, and f(x) a symbol of its own."""
        sympy = self._sympy
        named = {symbol: sympy.I for symbol in expression.free_symbols if symbol.name in ("i", "I")}
        applied = {
            call: sympy.Symbol(str(call))
            for call in expression.atoms(sympy.core.function.AppliedUndef)
        }
        return expression.xreplace(applied | named) if applied or named else expression

    def _valued(self, latex: str) -> "_Valued | None":
        """The value of one term, or None."""
        parsed = self._parsed(_PRODUCT.sub(r"\\cdot ", latex))
        if not parsed or not isinstance(parsed[0], self._sympy.Expr):
            return None
        expression = self._with_plain_symbols(parsed[0])
        if not expression.free_symbols:
            exact = self._rational(expression)
            number = expression.evalf(DIGITS) if exact is None else exact
            return _Valued(number) if self._is_finite(number) else None
        points = [self._at(expression, point) for point in range(POINTS)]
        return None if None in points else _Valued(points=points)

    def _is_finite(self, value: Any) -> bool:
        return all(part.is_Number and part.is_finite for part in value.as_real_imag())

    def _number(self, number: Any) -> dict[str, Any]:
        sympy = self._sympy
        if number.is_Rational:
            return {"number": [str(sympy.N(number, DIGITS)), "0"], "exact": str(number)}
        parts = number.as_real_imag()
        size = sum(abs(part) for part in parts)
        if size and abs(self._sympy.log(size, 10).evalf(5)) > MAX_EXPONENT:
            return {"fingerprint": [self._rounded(number)]}
        shown = [str(part) if abs(part) > size * _NOISE else "0" for part in parts]
        return {"number": shown, "exact": None}

    def _rational(self, expression: Any) -> Any:
        """The exact value of sums, products and small whole powers of rational numbers."""
        sympy = self._sympy
        if expression.is_Float or expression.has(sympy.Float):
            return None
        powers = [power.exp for power in expression.atoms(sympy.Pow)]
        factorials = expression.atoms(sympy.factorial)
        plain = not expression.atoms(sympy.Function) - factorials
        small = all(not p.is_Number or abs(p) <= MOST_EXACT_POWER for p in powers) and all(
            f.args[0].is_Integer and f.args[0] <= MOST_EXACT_POWER for f in factorials
        )
        if not (plain and small and all(p.is_Number for p in powers)):
            return None
        value = expression.doit()
        return value if value.is_Rational else None

    def _at(self, expression: Any, point: int) -> Any:
        """The value at one point, or None."""
        sympy = self._sympy
        values = {symbol: _coordinate(symbol.name, point) for symbol in expression.free_symbols}
        values = {symbol: sympy.Float(value, DIGITS) for symbol, value in values.items()}
        value = expression.evalf(DIGITS // 2, subs=values)
        return value if self._is_finite(value) else None

    def _rounded(self, value: Any) -> list[str]:
        sympy = self._sympy
        size = abs(value)
        parts = value.as_real_imag()
        return [
            str(sympy.N(part, FINGERPRINT_DIGITS)) if abs(part) > size * _NOISE else "0"
            for part in parts
        ]


def _coordinate(name: str, point: int) -> str:
    """A decimal in ±(0.3 … 1.7), fixed by the variable's name; signs differ between points."""
    digest = hashlib.sha256(f"{point} {name}".encode()).digest()
    size = 0.3 + 1.4 * int.from_bytes(digest[:8], "big") / 2**64
    return f"{'-' if digest[8] % 2 and point else ''}{size:.17f}"
