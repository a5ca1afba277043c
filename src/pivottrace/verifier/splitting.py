r"""Cuts through LaTeX at its outermost level, where no bracket or brace is open."""

import re


def words(text: str) -> list[str]:
    """A list of words, for tables that read better as one text."""
    return text.split()


_OPENING = {"(": ")", "[": "]", "{": "}", r"\{": r"\}", r"\langle": r"\rangle"}
_CLOSING = {")", "]", "}", r"\}", r"\rangle"}
_TOKEN = re.compile(r"\\[A-Za-z]+|\\.|.", re.DOTALL)
_RELATIONS = {"=", r"\approx", "<", ">", r"\le", r"\ge", r"\in"}
_WORDS_BETWEEN = re.compile(
    r"\s*,?\s*(?:\\(?:text|textrm|mathrm|mbox|textnormal)\s*\{\s*(?:or|and)\s*\}"
    r"|(?<![A-Za-z\\])(?:or|and)(?![A-Za-z])|\\(?:lor|vee|land|wedge)(?![A-Za-z]))\s*",
    re.IGNORECASE,
)
_THOUSANDS = re.compile(r"(?<!\d)((?!0)\d{1,3}|\d{3}),(?=\d{3}(?!\d))")


def _tokens(text: str) -> list[tuple[str, int, int]]:
    """(token, position, brackets open around it); an opening bracket counts as outside itself.

    A bracket that closes nothing counts as closed: "[1, 2)" and "(1, 2]" are intervals.
    """
    tokens, depth = [], 0
    for found in _TOKEN.finditer(text):
        token = found.group()
        if token in _CLOSING:
            depth = max(0, depth - 1)
        tokens.append((token, found.start(), depth))
        if token in _OPENING:
            depth += 1
    return tokens


def enclosed(text: str) -> tuple[str, str, str] | None:
    r"""(opening, inside, closing) of text that one pair of brackets encloses, mixed ones too."""
    tokens = _tokens(text)
    if len(tokens) < 2 or tokens[0][0] not in _OPENING or tokens[-1][0] not in _CLOSING:
        return None
    if any(depth == 0 for _, _, depth in tokens[1:-1]) or tokens[-1][2] != 0:
        return None
    opening, closing = tokens[0][0], tokens[-1][0]
    if (opening == r"\{") != (closing == r"\}") or "{" in (opening, closing):
        return None
    inside = text[len(opening) : tokens[-1][1]]
    return (opening, inside, closing) if opening != r"\langle" else ("(", inside, ")")


def has_pairs_of_braces(text: str) -> bool:
    """Whether every brace that groups closes, and none closes before it opens."""
    depth = 0
    for found in _TOKEN.finditer(text):
        depth += (found.group() == "{") - (found.group() == "}")
        if depth < 0:
            return False
    return depth == 0


def split_at(text: str, *separators: str) -> list[str]:
    """Cut at separators of the outermost level."""
    parts, start = [], 0
    for token, position, depth in _tokens(text):
        if depth == 0 and token in separators:
            parts.append(text[start:position])
            start = position + len(token)
    return [part.strip() for part in (*parts, text[start:])]


def split_alternatives(text: str) -> list[str]:
    """Cut at commas, "or" and "and"; a comma between thousands cuts nothing: "1,234" is whole."""
    guarded = _THOUSANDS.sub("\\1\x00", text)
    guarded = _WORDS_BETWEEN.sub(" , ", guarded)
    parts = split_at(guarded, ",", ";")
    return [part.replace("\x00", ",") for part in parts]


def split_relation(text: str) -> list[str] | None:
    r"""[left, sign, right, …] of text with "=", "\approx", "<", ">", "\le", "\ge" or "\in"."""
    parts, start = [], 0
    for token, position, depth in _tokens(text):
        if depth == 0 and token in _RELATIONS:
            parts += [text[start:position], "=" if token == r"\approx" else token]
            start = position + len(token)
    parts.append(text[start:])
    return parts if len(parts) > 1 and all(part.strip() for part in parts) else None


# Inside these a sum reaches further than its next sign.
_REACHING = re.compile(r"\\(?:int|sum|prod|lim|begin|pm|mp)(?![A-Za-z])|[|=<>]")
_OPERATORS = {"+", "-", "*", "/", "^", "_", ",", r"\cdot", r"\times", r"\div", r"\frac"}


def split_sum(text: str) -> list[tuple[int, str]]:
    """Cut a sum into (sign, term); text that is no plain sum is one term."""
    if _REACHING.search(text):
        return [(1, text)]
    terms: list[tuple[int, str]] = []
    sign, start, before = 1, 0, "+"
    for token, position, depth in _tokens(text):
        if depth == 0 and token in ("+", "-"):
            term = text[start:position].strip()
            this = -1 if token == "-" else 1
            if not term:
                sign, start = sign * this, position + 1
            elif before not in _OPERATORS:
                terms.append((sign, term))
                sign, start = this, position + 1
        if not token.isspace():
            before = token
    return [*terms, (sign, text[start:].strip())]
