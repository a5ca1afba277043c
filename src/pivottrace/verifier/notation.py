r"""One spelling for the many notations of mathematics: Unicode, Markdown and LaTeX variants.

Everything here keeps the meaning of a text, which `verifier.forms` reads.
"""

import re
import unicodedata

from pivottrace.verifier.exact_text import normalise_exact
from pivottrace.verifier.splitting import words

_CHARACTERS = {
    **dict.fromkeys("−–‒﹣－‐‑", "-"),
    **dict.fromkeys("×✕", r" \times "),
    **dict.fromkeys("·⋅∙•", r" \cdot "),
    "÷": " / ",
    "⁄": "/",
    "∕": "/",
    "≤": r"\le ",
    "⩽": r"\le ",
    "≥": r"\ge ",
    "⩾": r"\ge ",
    "≠": r"\ne ",
    "≈": r"\approx ",
    "≡": r"\equiv ",
    "∞": r"\infty ",
    "∪": r"\cup ",
    "∩": r"\cap ",
    "∈": r"\in ",
    "∅": r"\emptyset ",
    "±": r"\pm ",
    "∓": r"\mp ",
    "°": r"^{\circ}",
    "π": r"\pi ",
    "Ø": r"\emptyset ",
    "⟨": r"\langle ",
    "⟩": r"\rangle ",
    "ℝ": r"\mathbb{R}",
    "“": '"',
    "”": '"',
    "’": "'",
    "‘": "'",
    "，": ",",
    "：": ":",
    "％": "%",
    "\u00ad": "",
    "\u200b": "",
    "\ufeff": "",
}
_GREEK = dict(
    zip(
        "αβγδεζηθικλμνξρστυφχψωΓΔΘΛΞΠΣΦΨΩ",
        words(
            "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi rho "
            "sigma tau upsilon phi chi psi omega Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi "
            "Omega"
        ),
        strict=True,
    )
)
_TABLE = str.maketrans(_CHARACTERS | {letter: rf"\{name} " for letter, name in _GREEK.items()})
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ", "0123456789+-n")
_SUBSCRIPTS = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")
_RAISED = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ]+")
_LOWERED = re.compile("[₀₁₂₃₄₅₆₇₈₉]+")
_ROOT = re.compile(r"√\s*(?:\(([^()]*)\)|(\d+(?:\.\d+)?|[A-Za-z]))")
_VULGAR = re.compile("[½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅐⅛⅜⅝⅞⅑⅒]")
_WIDE = re.compile("[\uff01-\uff5e]")  # full-width forms of ASCII

_DELIMITERS = (
    ("$$", "$$"),
    ("$", "$"),
    (r"\(", r"\)"),
    (r"\[", r"\]"),
    ("**", "**"),
    ("*", "*"),
    ("__", "__"),
    ("`", "`"),
    ('"', '"'),
    ("'", "'"),
    ("{", "}"),
)
_TEXT = (
    "(?:text|textbf|textit|textrm|textnormal|textsf|mathrm|mathbf|mathsf|mbox|hbox|operatorname)"
)
_WHOLE_TEXT = re.compile(rf"\\(?:{_TEXT}|boxed|fbox|displaystyle)\s*\{{([^{{}}]*)\}}")
_EMPTY_COMMANDS = re.compile(
    r"\\(?:displaystyle|textstyle|limits|left|right|[bB]igg?[lrm]?|q?quad)(?![A-Za-z](?:[A-Za-z]|$))|(?<!\\)\\[!;:]"
)
_SAME_COMMANDS = (
    (re.compile(r"\\[dtc]frac(?![A-Za-z])"), r"\\frac"),
    (re.compile(r"\\[dt]binom(?![A-Za-z])"), r"\\binom"),
    (re.compile(r"\\le(?:q|qslant)(?![A-Za-z])"), r"\\le "),
    (re.compile(r"\\ge(?:q|qslant)(?![A-Za-z])"), r"\\ge "),
    (re.compile(r"\\neq(?![A-Za-z])"), r"\\ne "),
    (re.compile(r"\\lt(?![A-Za-z])"), "<"),
    (re.compile(r"\\gt(?![A-Za-z])"), ">"),
    (re.compile(r"<=|=<"), r"\\le "),
    (re.compile(r">="), r"\\ge "),
    (re.compile(r"\\(?:varnothing|O)(?![A-Za-z])"), r"\\emptyset "),
    (re.compile(r"\\lbrace(?![A-Za-z])"), r"\\{"),
    (re.compile(r"\\rbrace(?![A-Za-z])"), r"\\}"),
    (re.compile(r"\\l?vert(?![A-Za-z])|\\r?vert(?![A-Za-z])|\\mid(?![A-Za-z])"), "|"),
    (re.compile(r"\\(?:degree|circ|textdegree)(?![A-Za-z])"), r"\\circ "),
    (re.compile(r"\^\s*(?:\{\s*\\circ\s*\}|\\circ)"), r"^{\\circ}"),
    (re.compile(r"(?<!\^)(?<!\^\{)\\circ(?![A-Za-z])"), r"^{\\circ}"),
    (re.compile(r"\\bar\s*(?=[\d{])|\\overline\s*(?=\d)"), r"\\overline"),
    (re.compile(r"\\pmod\s*(?:\{([^{}]*)\}|(\d+))"), r" (mod \1\2)"),
    (re.compile(r"\\approxeq(?![A-Za-z])|\\simeq(?![A-Za-z])"), r"\\approx "),
)
_DIGIT_GROUPS = re.compile(
    r"(?<=\d)(?:\{,\}|,\\!\s*|\\,|\\!|\\;|\\ |~|[\u00a0\u202f\u2009'’])(?=\d{3}(?!\d))"
)
# "0.333..." repeats if it shows its digits twice, or one digit three times.
_ELLIPSIS = re.compile(
    r"(?<![\d.])(?P<head>\d{0,20}\.\d{0,20}?)"
    r"(?:(?P<one>\d)(?P=one){2,40}|(?P<many>\d{2,8}?)(?P=many){1,20})"
    r"\s*(?:\.\.\.+|…|\\l?dots)$"
)
_HARD_SPACES = re.compile(r"(?<!\\)\\[ ,]|~|\\space(?![A-Za-z])")
_PLAIN_POWER = re.compile(r"\^\s*(?:\(([^()]*)\)|(-?\d+(?:\.\d+)?|-[A-Za-z]))")
_POWER_TOWER = re.compile(r"(?:\^\{[^{}]+\}){2,}")
_PLAIN_FUNCTION = re.compile(r"(?<![\\A-Za-z])(sqrt|sin|cos|tan|ln|log|exp|arctan|arcsin|arccos)\b")
_PLAIN_PI = re.compile(r"(?<![A-Za-z\\])(?:pi|PI|Pi)(?![A-Za-z])")
_PLAIN_INFINITY = re.compile(r"(?<![A-Za-z\\])(?:infinity|infty|inf|oo)(?![A-Za-z])", re.IGNORECASE)
_SQRT_BRACKETS = re.compile(r"\\sqrt\s*\(([^()]*)\)")
_SHORT_FRACTION = re.compile(r"\\frac\s*(?:(\d)\s*(\d)|(\d)\s*\{|\{([^{}]*)\}\s*(\d))")
_DOUBLE_ESCAPES = re.compile(r"\\\\(?=[A-Za-z])")
_INNER_DOLLARS = re.compile(r"(?<![\d$\\])\$([^$]*[^$\\])\$(?![\d$])")
_UPRIGHT = re.compile(r"\\mathrm\s*\{\s*([eid])\s*\}")  # the constants e and i, and dx
_ROMAN_NAME = re.compile(r"_\s*\{\s*\\(?:mathrm|text|textrm)\s*\{\s*(\w+)\s*\}\s*\}")
_SPACES = re.compile(r"\s+")


def normalise_notation(answer: str) -> str:
    r"""Bring an answer to one spelling: plain LaTeX, without marks that enclose the whole of it.

    Examples: "½" and "\dfrac12" -> "\frac{1}{2}", "x²" -> "x^{2}", "2√3" -> "2\sqrt{3}", "–5" ->
    "-5", "29,\!322" -> "29,322", "$x$", "**x**", "\text{x}" and "x." -> "x", "10**12" ->
    "10^{12}", "35\degree" -> "35^{\circ}".

    Args:
        answer: Its length is bounded by the caller, because a tower of marks is peeled one by one.
    """
    text = _WIDE.sub(lambda found: chr(ord(found.group()) - 0xFEE0), normalise_exact(answer))
    text = _ELLIPSIS.sub(r"\g<head>\\overline{\g<one>\g<many>}", text)
    text = _unwrap(_DIGIT_GROUPS.sub(",", text))
    if text.isascii() and text.isdecimal():
        return text
    if not text.isascii():
        text = _plain_unicode(text)
    if r"\begin" not in text:
        text = _DOUBLE_ESCAPES.sub(r"\\", text)
    text = _INNER_DOLLARS.sub(r"\1", text).removesuffix("\\")
    text = _EMPTY_COMMANDS.sub(" ", text.replace("**", "^"))
    text = _UPRIGHT.sub(r"\1", text)
    text = _ROMAN_NAME.sub(r"_{\1}", text)
    for pattern, replacement in _SAME_COMMANDS:
        text = pattern.sub(replacement, text)
    text = _HARD_SPACES.sub(" ", text)
    text = _PLAIN_INFINITY.sub(r"\\infty ", _PLAIN_PI.sub(r"\\pi ", text))
    text = _SQRT_BRACKETS.sub(r"\\sqrt{\1}", _PLAIN_FUNCTION.sub(r"\\\1", text))
    text = _SHORT_FRACTION.sub(_long_fraction, text)
    text = _POWER_TOWER.sub(_nested_powers, _PLAIN_POWER.sub(r"^{\1\2}", text))
    return _unwrap(_SPACES.sub(" ", text).strip())


def without_text_commands(text: str) -> str:
    r"""Replace `\text{or}` and its like by their words."""
    return re.sub(rf"\\{_TEXT}\s*\{{([^{{}}]*)\}}", r" \1 ", text)


def _plain_unicode(text: str) -> str:
    text = _VULGAR.sub(_fraction_sign, text)
    text = _RAISED.sub(lambda found: "^{" + found.group().translate(_SUPERSCRIPTS) + "}", text)
    text = _LOWERED.sub(lambda found: "_{" + found.group().translate(_SUBSCRIPTS) + "}", text)
    text = _ROOT.sub(lambda found: rf"\sqrt{{{found.group(1) or found.group(2)}}}", text)
    return text.translate(_TABLE)


def _fraction_sign(found: re.Match[str]) -> str:
    over, _, under = unicodedata.normalize("NFKC", found.group()).partition("⁄")
    return rf"\frac{{{over}}}{{{under}}}"


def _long_fraction(found: re.Match[str]) -> str:
    r"""Put braces around the digits of "\frac12", "\frac1{2}" and "\frac{1}2"."""
    over, under, over_alone, over_braced, under_alone = found.groups()
    if over:
        return rf"\frac{{{over}}}{{{under}}}"
    if over_alone:
        return rf"\frac{{{over_alone}}}{{"
    return rf"\frac{{{over_braced}}}{{{under_alone}}}"


def _nested_powers(tower: re.Match[str]) -> str:
    """Nest powers of powers to the right, with braces for LaTeX: "^{9}^{8}" -> "^{9^{8}}"."""
    exponents = tower.group().removeprefix("^{").removesuffix("}").split("}^{")
    return "".join("^{" + exponent for exponent in exponents) + "}" * len(exponents)


def _unwrap(text: str) -> str:
    """Strip all marks that enclose the whole answer, and one full stop or comma at the end."""
    while True:
        before = text
        text = text.rstrip(",;").removesuffix(".").strip()
        for opening, closing in _DELIMITERS:
            inner = text[len(opening) : len(text) - len(closing)]
            encloses = text == opening + inner + closing and len(text) > len(opening + closing)
            if encloses and opening not in inner and closing not in inner:
                text = inner.strip()
        if whole := _WHOLE_TEXT.fullmatch(text):
            text = whole.group(1).strip()
        if text == before:
            return text
