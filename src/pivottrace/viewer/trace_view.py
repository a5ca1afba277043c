"""A greedy trace for the viewer: its tokens in levels of each signal, and its pivots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pivottrace.report.sparkline import sparkline
from pivottrace.report.texts import CutText, Decode, clean, cut, field, token_texts

LEVELS = 10
# A page with more tokens than this is slow to open.
MAX_TOKENS = 60_000
MAX_TRACE_CHARS = 240_000
# A chunk ends at the first line that ends after so many tokens. Browsers lay out visible chunks.
CHUNK_TOKENS = 200
# The strongest tokens share the last level, so that one odd token does not make all others pale.
TOP_PERCENTILE = 99.0
# Characters of a pivot's text in the list of pivots.
PIVOT_CHARS = 40

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Signal:
    """A signal that can be the background of the tokens.

    Attributes:
        column: Its column of `signals`.
        letter: Its letter in the page's classes.
        title: Its name in words.
        unit: The unit of its values.
        digits: Decimals that are shown.
        is_dark_high: Whether a high value is dark. In self-certainty a low value is the notable
            one.
    """

    column: str
    letter: str
    title: str
    unit: str
    digits: int
    is_dark_high: bool = True


SIGNALS = (
    Signal("far_mass", "f", "far mass", "share of attention", 3),
    Signal("entropy", "e", "entropy", "nats", 3),
    Signal("self_certainty", "c", "self-certainty", "nats", 2, is_dark_high=False),
)


@dataclass(frozen=True)
class Shade:
    """A signal along the S spans of a trace.

    Attributes:
        signal: The signal.
        values: (S,) its values; the darkest one of a span of several tokens.
        levels: (S,) levels of the background, 0 to `LEVELS` - 1; the last is darkest.
        edges: (LEVELS + 1,) values at which the levels change, from the palest to the darkest.
    """

    signal: Signal
    values: list[float]
    levels: list[int]
    edges: list[float]


@dataclass(frozen=True)
class Span:
    """A text that its tokens can be told apart by. Tokens that share a character share a span.

    Attributes:
        text: The text, cleaned.
        first: Position of its first token.
        last: Position of its last token.
        classes: Class names of its levels.
        pivots: Numbers of the pivots in it, from 1.
    """

    text: str
    first: int
    last: int
    classes: str
    pivots: tuple[int, ...]


@dataclass(frozen=True)
class Pivot:
    """A pivot in the list of pivots. Shares are of attention; None if tracing kept no value."""

    number: int
    position: int
    text: str
    far_mass: float | None
    question_mass: float | None


@dataclass(frozen=True)
class TraceView:
    """A greedy trace.

    Attributes:
        num_tokens: Length of the response.
        chunks: The spans in chunks that end with a line; empty if tokens cannot be placed.
        text: The response, if its tokens cannot be placed.
        num_left_out: Tokens that are not shown.
        shades: The signals that are there.
        pivots: The pivots of the reading that ranks the run; None before scoring.
        curve: An SVG of the far mass; None without a signal.
        answer: The answer read off it.
        finish: The way in which it ended.
        failure: The reason why the question has no usable trace, else None.
        notes: Sentences about missing parts.
    """

    num_tokens: int
    chunks: list[list[Span]]
    text: CutText
    num_left_out: int
    shades: list[Shade]
    pivots: list[Pivot] | None
    curve: str | None
    answer: str | None
    finish: str
    failure: str | None
    notes: list[str]


def trace_view(
    greedy: dict[str, Any],
    signals: dict[str, Any] | None,
    pivots: Sequence[int] | None,
    threshold: float | None,
    decode: Decode | None,
) -> TraceView:
    """A trace as the page shows it.

    Args:
        greedy: The row of `rollouts_greedy`.
        signals: The row of `signals`; None before tracing.
        pivots: Positions of the pivots; None before scoring.
        threshold: Tau of the far mass, for the curve.
        decode: From token ids to text; None if the tokenizer cannot be loaded.
    """
    tokens, text = list(greedy["tokens"] or []), greedy["text"] or ""
    known = {s.column: signals[s.column] for s in SIGNALS if signals and signals[s.column]}
    shown = tokens[:MAX_TOKENS]
    pieces = token_texts(shown, decode) if decode and shown else None
    if pieces is not None and len(shown) == len(tokens) and not _agrees("".join(pieces), text):
        pieces = None
    places = sorted(pivots or [])
    spans, shades = _spans(pieces, known, places) if pieces else ([], [])
    far = known.get("far_mass")
    return TraceView(
        num_tokens=len(tokens),
        chunks=_chunks(spans),
        text=cut("" if spans else text, MAX_TRACE_CHARS),
        num_left_out=len(tokens) - len(shown) if spans else 0,
        shades=shades,
        pivots=None if pivots is None else _pivots(places, pieces, signals or {}),
        curve=sparkline(np.asarray(far, np.float64), threshold, places) if far else None,
        answer=greedy["answer"],
        finish=greedy["finish"],
        failure=greedy["failure"] or (signals or {}).get("failure"),
        notes=_notes(bool(tokens), bool(spans), signals, known, pivots),
    )


def _agrees(decoded: str, text: str) -> bool:
    """Whether tokens decode to the stored text, which may be cut before a stop string."""
    return decoded.startswith(text) or decoded.strip().startswith(text.strip())


def _spans(
    pieces: list[str], known: dict[str, list[float]], pivots: list[int]
) -> tuple[list[Span], list[Shade]]:
    """Spans and shades. Tokens without a text of their own join the next token that has one."""
    ends = [i for i, piece in enumerate(pieces) if piece] or [len(pieces) - 1]
    ends[-1] = len(pieces) - 1  # tokens after the last text have no other place
    starts = [0, *(end + 1 for end in ends[:-1])]
    first_of = np.asarray(starts)
    shades = [
        _shade(signal, np.asarray(known[signal.column], np.float64)[: len(pieces)], first_of)
        for signal in SIGNALS
        if signal.column in known
    ]
    numbers: dict[int, list[int]] = {}
    places = np.searchsorted(first_of, [p for p in pivots if p < len(pieces)], "right") - 1
    for number, place in enumerate(places.tolist(), start=1):
        numbers.setdefault(place, []).append(number)
    classes = [
        " ".join(f"{shade.signal.letter}{shade.levels[i]}" for shade in shades)
        for i in range(len(starts))
    ]
    spans = [
        Span(
            clean("".join(pieces[first : last + 1])),
            first,
            last,
            classes[i],
            tuple(numbers.get(i, ())),
        )
        for i, (first, last) in enumerate(zip(starts, ends, strict=True))
    ]
    return spans, shades


def _shade(signal: Signal, values: FloatArray, starts: npt.NDArray[np.int64]) -> Shade:
    """Levels of equal width between the palest value and the `TOP_PERCENTILE`."""
    sign = 1.0 if signal.is_dark_high else -1.0
    darkness = np.maximum.reduceat(sign * np.nan_to_num(values), starts)
    low, high = float(darkness.min()), float(np.percentile(darkness, TOP_PERCENTILE))
    width = max(high - low, 1e-9) / LEVELS
    levels = np.clip((darkness - low) / width, 0, LEVELS - 1).astype(int)
    edges = [sign * (low + width * level) for level in range(LEVELS + 1)]
    return Shade(
        signal,
        [round(value, signal.digits) for value in (sign * darkness).tolist()],
        levels.tolist(),
        edges,
    )


def _chunks(spans: list[Span]) -> list[list[Span]]:
    chunks: list[list[Span]] = []
    for span in spans:
        if not chunks or (len(chunks[-1]) >= CHUNK_TOKENS and chunks[-1][-1].text.endswith("\n")):
            chunks.append([])
        chunks[-1].append(span)
    return chunks


def _pivots(positions: list[int], pieces: list[str] | None, signals: dict[str, Any]) -> list[Pivot]:
    def value(column: str, position: int) -> float | None:
        return signals[column][position] if signals.get(column) else None

    def text(position: int) -> str:
        # A token without a text of its own is part of the next character.
        after = pieces[position:] if pieces else []
        return field(next((piece for piece in after if piece), ""))[:PIVOT_CHARS]

    return [
        Pivot(
            number,
            position,
            text(position),
            value("far_mass", position),
            value("question_mass", position),
        )
        for number, position in enumerate(positions, start=1)
    ]


def _notes(
    has_tokens: bool,
    is_placed: bool,
    signals: dict[str, Any] | None,
    known: dict[str, list[float]],
    pivots: Sequence[int] | None,
) -> list[str]:
    notes = []
    if has_tokens and not is_placed:
        notes.append(
            "The tokens could not be placed in this text: the run's tokenizer could not be loaded, "
            "or it gives another text. So the text has no background and no marks, and the curve "
            "and the list have the pivots."
        )
    missing = [signal.title for signal in SIGNALS if signal.column not in known]
    if signals and missing and signals["failure"] is None:
        notes.append(f"Not kept for this question: {', '.join(missing)}.")
    if pivots:
        notes.append(
            "Tracing keeps how much attention goes far back and how much goes to the question. It "
            "does not keep which earlier token a pivot looks at."
        )
    return notes
