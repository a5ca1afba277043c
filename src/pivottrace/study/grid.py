"""The choice of settings: every combination of reading, statistic, heads, zeta, psi and Delta.

The chosen combination looks better on these questions than it is: report it on others.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from pivottrace.config import PoolConfig
from pivottrace.errors import ConfigError
from pivottrace.stats.ranking_metrics import FloatArray, auroc, spearman
from pivottrace.study.far_mass import QUESTION, Tracer
from pivottrace.study.pivot_scores import READINGS, STATISTICS, PivotSettings, pivot_scores
from pivottrace.study.pools import PoolEvidence

HEAD_PERCENTILES = (50.0, 75.0, 90.0, 95.0)
ALL_HEADS = "all"
ZETAS = (80.0, 85.0, 90.0, 95.0)
PSIS = (0.05, 0.1, 0.2, 0.3, 0.4)
WINDOWS = (5, 10, 20)
SIGNALS = ("far_mass", "question_mass")
COLUMNS = (
    "auroc",
    "spearman",
    "signal",
    "reading",
    "statistic",
    "heads",
    "zeta",
    "psi",
    "window",
)
RESERVED = ("evaluation", "held_out")
Key = tuple[Any, ...]  # COLUMNS after the two figures


def refuse_reserved_questions(pools: Sequence[PoolConfig]) -> None:
    """Refuse to choose on the world's questions reserved for reports. Raises ConfigError."""
    for pool in pools:
        source = pool.questions
        splits = [pool.split, *(split for split in RESERVED if f"split={split}" in source)]
        if source.startswith("world:") and any(split in RESERVED for split in splits):
            raise ConfigError(
                f"--grid chooses settings, and {source} is reserved for reporting on the choice. "
                f"Choose on another split: world:default?split=development"
            )


def grid(pools: Sequence[PoolEvidence]) -> list[dict[str, Any]]:
    """Return one row of `COLUMNS` per combination, best AUROC first; zeta is None for peaks.

    AUROC is for "the greedy answer is wrong", and Spearman is against the correctness of unseen
    samples. Both are means over the pools, weighted by their questions.
    """
    figures: dict[Key, list[tuple[float, float]]] = {}
    for pool in pools:
        for key, scores in _combinations(pool):
            pair = (auroc(scores, pool.wrong)[0], spearman(scores, pool.correctness)[0])
            figures.setdefault(key, []).append(pair)
    sizes = [pool.wrong.size for pool in pools]
    rows = []
    for key, pairs in figures.items():
        means = np.average(np.array(pairs), axis=0, weights=sizes)
        rows.append(dict(zip(COLUMNS, (*map(float, means), *key), strict=True)))
    # A constant score has no Spearman, and its AUROC is one half or undefined; it goes last.
    return sorted(rows, key=lambda row: (-np.nan_to_num(row["auroc"], nan=-1.0), str(row)))


def as_csv(rows: Sequence[dict[str, Any]]) -> str:
    """Return the rows as CSV, with figures to five decimals."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        figures = {name: f"{row[name]:.5f}" for name in ("auroc", "spearman")}
        writer.writerow(row | figures)
    return text.getvalue()


def _combinations(pool: PoolEvidence) -> Iterator[tuple[Key, FloatArray]]:
    tracer = Tracer(pool.run, pool.question_ids)
    chosen = tracer.choose_heads(WINDOWS, HEAD_PERCENTILES)
    sets: dict[tuple[int, str], Any] = {(w, ALL_HEADS): None for w in WINDOWS}
    sets |= {(w, f"{by} {percentile:g}"): of for (w, by, percentile), of in chosen.items()}
    # Heads are chosen by their far mass at each window, for both signals.
    on_question = {(QUESTION, key): heads for key, heads in sets.items()}
    signals = tracer.means((*WINDOWS, QUESTION), {**sets, **on_question})
    for signal in SIGNALS:
        for window, name in sets:
            of = signals[(window, name) if signal == SIGNALS[0] else (QUESTION, (window, name))]
            for psi in PSIS:
                # Zeta is a threshold of the first reading only, so the second one has None.
                for zeta in (None, *ZETAS):
                    reading = READINGS[1] if zeta is None else READINGS[0]
                    settings = PivotSettings(zeta or ZETAS[-1], psi, window)
                    scores = pivot_scores(
                        of, pool.question_ids, tracer.reference_ids, settings, (reading,)
                    )
                    for statistic in STATISTICS:
                        key = (signal, reading, statistic, name, zeta, psi, window)
                        yield key, scores[f"{reading}_{statistic}"]
