"""A few questions of each route, with the response, the pivots marked in it, and the numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pivottrace.errors import ModelError
from pivottrace.ingest.prompts import last_user_message
from pivottrace.labels.budget import bought
from pivottrace.report import collect
from pivottrace.report.sparkline import sparkline
from pivottrace.report.texts import (
    MAX_QUESTION_CHARS,
    MAX_RESPONSE_CHARS,
    CutText,
    Decode,
    Piece,
    cut,
    mark_pivots,
    token_texts,
)
from pivottrace.report.wording import reason_meaning
from pivottrace.routing.routes import ROUTES
from pivottrace.run.directory import RunDir

PER_ROUTE = 3


@dataclass(frozen=True)
class Example:
    """One question as the report shows it. Its texts are cleaned, but not escaped.

    Attributes:
        question: The last user message.
        response: The greedy response in stretches; each pivot is a stretch of its own.
        num_left_out: Characters of the response that are not shown.
        marked: Whether the pivots could be placed in the text.
        signal: An SVG of the far mass, or None without a signal.
        num_pivots: Number of pivots, by the reading that ranks the run.
        greedy_answer: The answer read off the response; None without an answer.
        vote: The majority answer and its share, None on an abstention.
        truth: The true answer if it was paid for, else None.
        greedy_right: Whether the greedy answer is right; None if that was not checked.
        numbers: Names and values of the row.
    """

    question_id: str
    route: str
    reason: str
    reason_text: str
    question: CutText
    response: list[Piece]
    num_left_out: int
    marked: bool
    signal: str | None
    num_pivots: int
    greedy_answer: str | None
    vote: tuple[str, float] | None
    truth: str | None
    greedy_right: bool | None
    numbers: list[tuple[str, str]]


def examples(run: RunDir, decode: Decode | None) -> dict[str, list[Example]] | None:
    """Examples by route, in the routes' order; None before triage.

    From each route they are the questions at 1/6, 3/6 and 5/6 of its places by (rank, id). So they
    are typical questions, not the most flattering ones.
    """
    triage = collect.table(run, "triage")
    if triage is None:
        return None
    rows = _chosen(triage)
    ids = [row["question_id"] for row in rows]
    sources = _sources(run, ids)
    decode = decode or (_tokenizer_decode(run) if ids else None)
    by_route: dict[str, list[Example]] = {route: [] for route in ROUTES}
    for row in rows:
        by_route[row["route"]].append(_example(run, row, sources, decode))
    return by_route


def _chosen(triage: pa.Table) -> list[dict[str, Any]]:
    chosen: list[dict[str, Any]] = []
    for route in ROUTES:
        found = triage.filter(pc.field("route") == route)
        # Rows without a rank come last, which is the order that pyarrow gives to nulls.
        found = found.sort_by([("rank", "ascending"), ("question_id", "ascending")])
        places = {len(found) * (2 * i + 1) // (2 * PER_ROUTE) for i in range(PER_ROUTE)}
        kept = sorted(place for place in places if place < len(found))
        chosen += found.take(pa.array(kept, pa.int64())).to_pylist()  # typed: it may be empty
    return chosen


def _sources(run: RunDir, ids: list[str]) -> dict[str, dict[str, Any]]:
    """Every table that an example needs, by name and then by question id."""

    def keyed(rows: list[dict[str, Any]], key: str = "question_id") -> dict[str, Any]:
        return {row[key]: row for row in rows}

    greedy = collect.part_rows(
        run, "rollouts_greedy", ["question_id", "tokens", "text", "answer", "failure"], ids
    )
    return {
        # We leave out the column `answer`: it may hold truths that were not paid for.
        "pool": keyed(_rows(run, "pool", ids, "id", ["id", "prompt"]), "id"),
        "scores": keyed(_rows(run, "scores", ids)),
        "votes": keyed(_rows(run, "votes", ids)),
        "evidence": keyed(_rows(run, "evidence", ids)),
        "greedy": keyed(greedy),
        "signals": keyed(collect.part_rows(run, "signals", ["question_id", "far_mass"], ids)),
        "labels": {i: label for i, label in bought(run).items() if i in set(ids)},
    }


def _rows(
    run: RunDir, name: str, ids: list[str], key: str = "question_id", columns: Any = None
) -> list[dict[str, Any]]:
    found = collect.table(run, name)
    if found is None:
        return []
    rows: list[dict[str, Any]] = (
        found.select(columns or found.column_names).filter(pc.field(key).isin(ids)).to_pylist()
    )
    return rows


def _example(
    run: RunDir, row: dict[str, Any], sources: dict[str, dict[str, Any]], decode: Decode | None
) -> Example:
    question_id = row["question_id"]
    score = sources["scores"].get(question_id, {})
    trace = sources["greedy"].get(question_id, {})
    signal = sources["signals"].get(question_id, {}).get("far_mass")
    label = sources["labels"].get(question_id)
    prompt = sources["pool"].get(question_id, {}).get("prompt") or []
    pivots = score.get("onsets" if run.config.pivots.reading == "onset" else "peaks") or []
    response, num_left_out, marked = _response(trace, pivots, decode)
    votes = sources["votes"].get(question_id, {})
    vote = votes.get("vote_answer")
    return Example(
        question_id=question_id,
        route=row["route"],
        reason=row["reason"],
        reason_text=reason_meaning(row["reason"]),
        question=cut(last_user_message(prompt) if prompt else "", MAX_QUESTION_CHARS),
        response=response,
        num_left_out=num_left_out,
        marked=marked,
        signal=sparkline(np.asarray(signal, np.float64), threshold(run), pivots)
        if signal
        else None,
        num_pivots=len(pivots),
        greedy_answer=trace.get("answer"),
        vote=None if vote is None else (vote, votes["vote_share"]),
        truth=label.answer if label else None,
        greedy_right=sources["evidence"].get(question_id, {}).get("greedy_right"),
        numbers=_numbers(row),
    )


def threshold(run: RunDir) -> float | None:
    """The frozen threshold tau of the far mass; None before scoring, or without a usable trace."""
    value = run.stage_facts("score").get("threshold")
    return None if value is None else float(value)


def _response(
    trace: dict[str, Any], pivots: list[int], decode: Decode | None
) -> tuple[list[Piece], int, bool]:
    """(stretches, characters left out, whether pivots are marked)."""
    tokens, text = trace.get("tokens") or [], trace.get("text") or ""
    # We decode only as many tokens as can be shown: a character takes at most a few tokens.
    shown = tokens[: 4 * MAX_RESPONSE_CHARS]
    pieces = token_texts(shown, decode) if decode and shown else None
    if pieces is not None and (len(shown) < len(tokens) or _agrees("".join(pieces), text)):
        stretches, left_out = mark_pivots(pieces, [p for p in pivots if p < len(pieces)])
        return stretches, max(left_out, len(text) - MAX_RESPONSE_CHARS), True
    plain = cut(text, MAX_RESPONSE_CHARS)
    return ([Piece(plain.text)] if plain.text else []), plain.num_left_out, not pivots


def _agrees(decoded: str, text: str) -> bool:
    """Whether tokens decode to the stored text (which may be cut before a stop string)."""
    return decoded.startswith(text) or decoded.strip().startswith(text.strip())


def _numbers(row: dict[str, Any]) -> list[tuple[str, str]]:
    def number(name: str, digits: int = 3) -> str:
        return "–" if row[name] is None else f"{row[name]:.{digits}f}"

    def share(name: str) -> str:
        if row[name] is None:
            return "–"
        return f"{row[name]:.2f} ({number(f'{name}_low', 2)} – {number(f'{name}_high', 2)})"

    return [
        ("place in the ranking", number("rank")),
        ("uncertainty", number("score", 4)),
        ("expected share of right samples", number("mu", 2)),
        ("chance that the vote is right", share("vote")),
        ("a label would teach", number("label_gain")),
        ("the vote would teach", number("vote_gain")),
        ("the label beyond the vote", number("priority")),
        ("weight in training", number("weight", 2)),
    ]


def _tokenizer_decode(run: RunDir) -> Callable[[list[int]], str] | None:
    """A decoder by the run's own tokenizer; None if the model no longer exists."""
    from pivottrace.models.load import load_tokenizer

    try:
        tokenizer = load_tokenizer(run.config.model)
    except ModelError:
        return None

    def decode(tokens: list[int]) -> str:
        text: str = tokenizer.decode(tokens, skip_special_tokens=True)
        return text

    return decode
