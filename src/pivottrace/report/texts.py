"""Make hostile text safe to show, and place a response's tokens in its text.

The template escapes all markup. This module deals with the other dangers: characters that hide or
reorder the visible text, and excessive length.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass

Decode = Callable[[list[int]], str]

MAX_QUESTION_CHARS = 2_000
MAX_RESPONSE_CHARS = 6_000
MAX_FIELD_CHARS = 160
MAX_CONFIG_CHARS = 40_000

# Joiners are part of ordinary Persian, Hindi and emoji; every other format character hides.
_ALLOWED = {"\n", "\t", "\u200c", "\u200d"}
# Control, format (bidi overrides, tags, zero-width), surrogate, line and paragraph separators.
_UNSAFE_CATEGORIES = {"Cc", "Cf", "Cs", "Zl", "Zp"}
# Longest run of tokens that may wait for the rest of one character (four bytes in UTF-8).
_MAX_PENDING_TOKENS = 16
_REPLACEMENT = "\ufffd"


@dataclass(frozen=True)
class CutText:
    """A text that is safe to show, and the number of characters left out at its end."""

    text: str
    num_left_out: int


@dataclass(frozen=True)
class Piece:
    """A stretch of a response. `pivots` are the numbers (from 1) of the pivots on it."""

    text: str
    pivots: tuple[int, ...] = ()


def clean(text: str) -> str:
    """Make every control, bidi and zero-width character visible, as in `⟨U+202E⟩`.

    Line feeds and tabs stay. A carriage return before a line feed is dropped.
    """
    text = text.replace("\r\n", "\n")
    return "".join(_visible(c) if _is_unsafe(c) else c for c in text)


def cut(text: str, limit: int) -> CutText:
    """The first `limit` characters of a text, cleaned, and the number of characters left out."""
    return CutText(clean(text[:limit]), max(0, len(text) - limit))


def field(value: object) -> str:
    """A short value (an id, an answer, a setting) on one line, cleaned and cut with an ellipsis."""
    shown = cut(str(value), MAX_FIELD_CHARS)
    line = " ".join(shown.text.split())
    return f"{line}… ({shown.num_left_out:,} more characters)" if shown.num_left_out else line


def token_texts(tokens: Sequence[int], decode: Decode) -> list[str] | None:
    """Split a response's text into one piece per token. The joined pieces are the text.

    A token is decoded together with the tokens before it. Alone it may lack part of a character
    (byte-level BPE spreads a character over tokens) or lose its leading space. If several tokens
    make one character, the character belongs to the last of them, and the others have an empty
    piece.

    Args:
        tokens: (T,) ids of the response.
        decode: Function from token ids to text.

    Returns:
        (T,) texts, or None if the joined pieces differ from the text, so that no pivot can be
        placed.
    """
    pieces: list[str] = []
    start = done = 0  # context begins at `start`; tokens before `done` are in `pieces`
    for end in range(1, len(tokens) + 1):
        context = decode(list(tokens[start:done]))
        text = decode(list(tokens[start:end]))
        waiting = text.endswith(_REPLACEMENT) and end - done < _MAX_PENDING_TOKENS
        if len(text) < len(context) or (waiting and end < len(tokens)):
            pieces.append("")
            continue
        pieces.append(text[len(context) :])
        start, done = done, end
    return pieces if "".join(pieces) == decode(list(tokens)) else None


def mark_pivots(
    pieces: Sequence[str], pivots: Sequence[int], limit: int = MAX_RESPONSE_CHARS
) -> tuple[list[Piece], int]:
    """Join the pieces between pivots, and number the pieces on pivots in order.

    A pivot on an empty piece is marked on the next piece that has text.

    Args:
        pieces: (T,) one text per token.
        pivots: Response positions of the pivots, 0 to T - 1.
        limit: Maximum number of characters to show.

    Returns:
        The cleaned stretches up to the limit, and the number of characters that were left out.
    """
    number = {position: i + 1 for i, position in enumerate(sorted(pivots))}
    stretches: list[Piece] = []
    plain, waiting, shown = "", [], 0
    for position, piece in enumerate(pieces):
        waiting += [number[position]] if position in number else []
        piece = piece[: max(0, limit - shown)]
        shown += len(piece)
        if waiting and piece:
            # The space that a token begins with is not part of the word to mark.
            word = piece.lstrip(" ") or piece
            plain += piece[: len(piece) - len(word)]
            stretches += [Piece(clean(plain)), Piece(clean(word), tuple(waiting))]
            plain, waiting = "", []
        else:
            plain += piece
    stretches.append(Piece(clean(plain)))
    return [s for s in stretches if s.text], sum(map(len, pieces)) - shown


def _is_unsafe(character: str) -> bool:
    return character not in _ALLOWED and unicodedata.category(character) in _UNSAFE_CATEGORIES


def _visible(character: str) -> str:
    return f"⟨U+{ord(character):04X}⟩"
