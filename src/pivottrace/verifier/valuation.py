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
from dataclasses import dataclass, replace
from typing import Any

from pivottrace.verifier.amounts import MAX_EXPONENT
from pivottrace.verifier.splitting import has_pairs_of_braces, split_sum

DIGITS = 40
"""Decimal digits of a number; the caller rounds."""
FINGERPRINT_DIGITS = 10
POINTS = 3
MOST_TERMS = 4_096
"""Valued terms that are kept, some 2 kB each."""
MOST_EXACT_POWER = 2_000
"""Powers of whole numbers are computed exactly up to this exponent."""
_NOISE = 1e-15  # a part that is smaller than this share of the value is a rounding error
STEP_POINTS = 16
"""A step, such as \\lfloor n/2 \\rfloor, has the same value at many points."""
_STEPS = re.compile(r"\\[lr]?(?:floor|ceil)(?![A-Za-z])")
# math-verify reads "2(3)" as a mixed number, 5, "n!^{2}" not at all, and degrees as radians.
_SPELLINGS = (
    (re.compile(r"(?<=\d)\s*(?=\()"), r"\\cdot "),
    (re.compile(r"(?<![A-Za-z\d!])([A-Za-z]|\d+)!\s*(?=\^)"), r"(\1!)"),
    (
        re.compile(r"(?<=\\sin|\\cos|\\tan|\\cot|\\sec|\\csc)\s*(\d+(?:\.\d+)?)\s*\^\{\\circ\}"),
        r"(\\frac{\1\\pi}{180})",
    ),
)
# It drops primes, takes 2\{x\} for a product and n!! for (n!)!, and a \gcd of names is 1.
_MISREAD = re.compile(r"'|\\prime|!\s*!|\\gcd|\\lcm|\\\{")


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
        from math_verify import parser as latex_parser

        # By default M and m are one symbol, and M/m is 1.
        settings = importlib.import_module("latex2sympy2_extended.latex2sympy2").ConversionConfig
        latex_parser.latex2sympy = functools.partial(
            latex_parser.latex2sympy, conversion_config=settings(lowercase_symbols=False)
        )

        # math-verify's time-outs use SIGALRM, which cannot interrupt a long operation in C, and
        # the parent kills this process anyway. Parse the whole text as LaTeX, or nothing: with
        # fallbacks on, math-verify takes the last number in a text that it cannot parse.
        self._sympy: Any = importlib.import_module("sympy")
        self._parse: Any = parse
        self._verify: Any = verify
        # With its units on, it drops them from the end of "2m", "v t" and "2ab".
        reading = LatexExtractionConfig(boxed_match_priority=0)
        normalisation = replace(reading.normalization_config, units=False)
        reading = replace(reading, normalization_config=normalisation)
        self._options = {
            "extraction_config": [reading],
            "fallback_mode": "no_fallback",
            "extraction_mode": "first_match",
            "parsing_timeout": None,
        }
        self._term = functools.lru_cache(MOST_TERMS)(self._valued)
        self._expression = functools.lru_cache(MOST_TERMS)(self._expression_of)

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
        if _MISREAD.search(latex):
            return None
        is_step = _STEPS.search(latex) is not None
        terms = [(1, latex)] if is_step else split_sum(latex)
        expressions = [self._expression(term) for _, term in terms]
        if None in expressions:
            return None
        where = "steps" if is_step else "signed"
        if not is_step and any(map(self._has_branches, expressions)):
            where = "positive"
        valued = [(sign, self._term(term, where)) for sign, term in terms]
        values = [sign * term for sign, term in valued if term is not None]
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
        if _MISREAD.search(left) or _MISREAD.search(right):
            return False
        sides = self._parsed(left), self._parsed(right)
        return all(sides) and any(
            self._verify(*order, timeout_seconds=None) for order in (sides, sides[::-1])
        )

    def _parsed(self, latex: str) -> list[Any]:
        if not has_pairs_of_braces(latex):  # math-verify stops at the first brace too many
            return []
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

    def _expression_of(self, latex: str) -> Any:
        """One term as an expression of sympy, or None."""
        for pattern, replacement in _SPELLINGS:
            latex = pattern.sub(replacement, latex)
        parsed = self._parsed(latex)
        if not parsed or not isinstance(parsed[0], self._sympy.Expr):
            return None
        return self._with_plain_symbols(parsed[0])

    def _has_branches(self, expression: Any) -> bool:
        """Whether a root or logarithm of a variable occurs."""
        sympy = self._sympy
        roots = (p.base for p in expression.atoms(sympy.Pow) if not p.exp.is_integer)
        logarithms = (call.args[0] for call in expression.atoms(sympy.log))
        return any(inner.free_symbols for inner in (*roots, *logarithms))

    def _valued(self, latex: str, where: str) -> "_Valued | None":
        """The value of one term at the points of `_coordinate`, or None."""
        expression = self._expression(latex)
        if not expression.free_symbols:
            exact = self._rational(expression)
            number = expression.evalf(DIGITS) if exact is None else exact
            return _Valued(number) if self._is_finite(number) else None
        many = STEP_POINTS if where == "steps" else POINTS
        points = [self._at(expression, point, where) for point in range(many)]
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

    def _at(self, expression: Any, point: int, where: str) -> Any:
        """The value at one point, or None."""
        sympy = self._sympy
        values = {
            symbol: sympy.Float(_coordinate(symbol.name, point, where), DIGITS)
            for symbol in expression.free_symbols
        }
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


def _coordinate(name: str, point: int, where: str) -> str:
    """A decimal of size 0.3 … 1.7, fixed by the variable's name.

    Args:
        name: The variable.
        point: 0, 1, …
        where: "signed": it is negative at point 1, point 2 or both, so that x is not |x|.
            "positive": the laws of roots and logarithms hold. "steps": 20 times as large.
    """
    digest = hashlib.sha256(f"{point} {name}".encode()).digest()
    size = 0.3 + 1.4 * int.from_bytes(digest[:8], "big") / 2**64
    if where == "steps":
        return f"{20 * size:.17f}"
    signs = hashlib.sha256(name.encode()).digest()[0] % 3 + 1
    return f"{'-' if where == 'signed' and signs & point else ''}{size:.17f}"
