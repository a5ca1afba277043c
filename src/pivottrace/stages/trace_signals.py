"""Tracing: attention, logits and hidden states of every greedy trace, by one teacher-forced pass.

First a seeded reference sample is traced to choose the long-range heads. The heads are stored in
the run directory (`reference.json`). Later rounds use the same heads, so scores stay comparable.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from pivottrace.run.directory import RunDir
from pivottrace.run.part_work import run_parts
from pivottrace.run.progress import counted, part_sizes, progress
from pivottrace.run.rounds import start_model
from pivottrace.run.storage import read_json, read_parquet, write_json
from pivottrace.schemas import SIGNALS

if TYPE_CHECKING:
    from pivottrace.models.response_tracer import Tracer

SIGNAL_COLUMNS = (
    "far_mass",
    "far_mass_all",
    "waad",
    "entropy",
    "log_prob",
    "self_certainty",
    "question_mass",
)
# The field of `TokenSignals` that heads are chosen by, for each value of `trace.heads`.
HEADS_BY = {"long_range": "head_far_mass", "changing": "head_deviation"}


def run(run: RunDir) -> None:
    """Write the parts of `signals`, one for each part of the greedy rollouts.

    Raises:
        RunDirError: The rollouts are missing, or they came from another model.
    """
    if run.is_done("trace"):
        return
    rollouts = run.read_parts(
        "rollouts_greedy", "greedy", ["question_id", "prompt_tokens", "tokens", "failure"]
    )

    from pivottrace.models.identity import refuse_another_model
    from pivottrace.models.response_tracer import Tracer

    window = run.config.trace.window or run.config.pivots.window
    tracer = run.crew.open(Tracer, start_model(run), run.config.trace, window)
    refuse_another_model(run, tracer.digests)
    with run.turn():
        heads = _reference_heads(run, rollouts, tracer)

    part_size = run.config.rollouts.part_size
    num_parts = -(-len(rollouts) // part_size)
    with progress("trace", len(rollouts)) as update:
        run_parts(
            run,
            "signals",
            num_parts,
            lambda index: _trace_part(run.part_path("rollouts_greedy", index), tracer, heads),
            on_parts=counted(update, part_sizes(len(rollouts), part_size)),
        )
    num_heads = None if heads is None else sum(map(len, heads.values()))
    with run.turn():
        if not run.is_done("trace"):
            run.mark_done("trace", num_parts=num_parts, num_heads=num_heads)


def _trace(tracer: Tracer, rows: Sequence[dict[str, Any]], heads: Any) -> list[Any]:
    """One `TokenSignals` per row; None for a row without a response."""
    usable = [i for i, row in enumerate(rows) if row["failure"] is None]
    pairs = [(rows[i]["prompt_tokens"], rows[i]["tokens"]) for i in usable]
    found = dict(zip(usable, tracer.trace(pairs, heads), strict=True))
    return [found.get(i) for i in range(len(rows))]


def _reference_heads(run: RunDir, rollouts: pa.Table, tracer: Tracer) -> Any:
    """The long-range heads of the reference traces, read from `reference.json` if it exists."""
    path = run.path / "reference.json"
    if not path.is_file():
        usable = [i for i, failure in enumerate(rollouts["failure"].to_pylist()) if failure is None]
        size = min(run.config.pivots.reference_size, len(usable))
        chosen = random.Random(run.config.seed).sample(usable, size)
        sample = rollouts.take(pa.array(chosen, pa.int64())).to_pylist()
        profile = _profile(run, sample, tracer)
        run.begin("trace")
        write_json(path, profile)
    heads = read_json(path)["heads"]
    return None if heads is None else {int(layer): chosen for layer, chosen in heads.items()}


def _profile(run: RunDir, sample: list[dict[str, Any]], tracer: Tracer) -> dict[str, Any]:
    from pivottrace.attention.tracing import profile_heads

    heads = None
    if run.config.trace.heads != "all":
        by = HEADS_BY[run.config.trace.heads]
        values = [getattr(signals, by) for signals in _trace(tracer, sample, None)]
        finite = [of_heads for of_heads in values if np.isfinite(of_heads).any()]
        if finite:
            heads = profile_heads(np.stack(finite), run.config.trace.head_percentile)
    return {"question_ids": [row["question_id"] for row in sample], "heads": heads}


def _trace_part(path: Path, tracer: Tracer, heads: Any) -> pa.Table:
    rows = read_parquet(path, made_by="greedy").to_pylist()
    signals = _trace(tracer, rows, heads)
    return pa.Table.from_pylist(list(map(_signal_row, rows, signals)), schema=SIGNALS)


def _signal_row(row: dict[str, Any], signal: Any) -> dict[str, Any]:
    record = {"question_id": row["question_id"], "failure": row["failure"]}
    if signal is None:
        return record | dict.fromkeys((*SIGNAL_COLUMNS, "layer_path", "top2_margin"))
    if not all(np.isfinite(getattr(signal, name)).all() for name in SIGNAL_COLUMNS):
        record["failure"] = "nan_logits"
    record |= {name: getattr(signal, name) for name in SIGNAL_COLUMNS}
    path = None if signal.layer_path is None else asdict(signal.layer_path)
    return record | {"layer_path": path, "top2_margin": float(signal.top2_margin)}
