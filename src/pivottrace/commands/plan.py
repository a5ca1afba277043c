"""`pivottrace plan`: the expected result of each label budget, before labels are bought.

It reads a run whose probes are labelled, and routes its pool once per budget. Without labelled
probes correctness is unknown. The plan then has only counts, from fixed shares of the ranking.
"""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from pivottrace.errors import BudgetError
from pivottrace.report.plan_figure import plan_figure
from pivottrace.routing.budgets import CostModel, expectation, learning_bands
from pivottrace.routing.probes import default_num_probes, rank_fractions
from pivottrace.routing.routes import PAPER_FRACTIONS, ROUTES
from pivottrace.routing.vote_model import drawn
from pivottrace.run import readings
from pivottrace.run.choices import triage_options
from pivottrace.run.directory import RunDir
from pivottrace.run.pool_routes import agreement_of, expectations, route_pool
from pivottrace.run.scored_pool import probe_evidence
from pivottrace.run.storage import read_parquet, write_parquet, write_text
from pivottrace.stages.calibrate import drawn_probes

# 0, 5, 10 … 100 % of the pool.
SHARES = tuple(percent / 100 for percent in range(0, 101, 5))
NUM_DRAWS = 100  # of the vote model, for the bands
PLAN = pa.schema(
    [
        ("budget", pa.float64()),  # share of the pool, in [0, 1]
        ("labels", pa.int64()),  # all labels: the probes, and the annotations beside them
        *((route, pa.int64()) for route in ROUTES),
        ("wrong_votes", pa.float64()),  # expected share of wrong votes; null without weak rows
        ("learning", pa.float64()),  # expected, in units of p(1-p); null if not calibrated
        ("learning_low", pa.float64()),
        ("learning_high", pa.float64()),
        ("tokens", pa.float64()),  # sampled in one pass of training over the trained rows
        ("hours", pa.float64()),  # of that pass, on the device that the rates were measured on
    ]
)


def make_plan(run: RunDir) -> pa.Table:
    """Compute the plan and write it as `plan.{parquet,csv,json,svg}` into the round's folder.

    Raises:
        RunDirError: The pool has not been sampled.
        BudgetError: The settings ask for more probes than there are questions.
    """
    rows = _calibrated(run) if _num_probes(run) else _by_fractions(run)
    costs = cost_model(run)
    for row in rows:
        trained = row["annotate"] + row["weak"]
        row["tokens"] = costs.tokens(trained) if costs else None
        row["hours"] = costs.seconds(trained) / 3600 if costs else None
    table = pa.Table.from_pylist(rows, schema=PLAN)
    path = run.round_path / "plan.parquet"
    write_parquet(path, table)
    buffer = pa.BufferOutputStream()
    pyarrow.csv.write_csv(table, buffer)
    write_text(path.with_suffix(".csv"), buffer.getvalue().to_pybytes().decode())
    facts = {"cost_model": costs and asdict(costs), "device": run.config.model.device}
    write_text(path.with_suffix(".json"), json.dumps({"rows": rows} | facts, indent=2) + "\n")
    write_text(path.with_suffix(".svg"), plan_figure(rows, _num_probes(run)))
    return table


def _num_probes(run: RunDir) -> int:
    return int(run.stage_facts("calibrate").get("num_probes") or 0)


def _calibrated(run: RunDir) -> list[dict[str, Any]]:
    """One row per budget, by the vote model. The labelled probes are part of every budget."""
    evidence_rows = run.read_table("evidence", made_by="calibrate").to_pylist()
    num_labels = int(run.stage_facts("calibrate")["labels_used"])
    probes = probe_evidence(evidence_rows)
    scored, model = readings.scored_pool(run, evidence_rows), readings.vote_model(run)
    assert model is not None  # there are labelled probes
    agreement = agreement_of(scored)
    expected = expectations(scored, model, agreement)
    ranks, size = rank_fractions(scored.scores), scored.scores.size
    rows: list[dict[str, Any]] = []
    results = []
    for share in SHARES:
        routed = route_pool(
            scored,
            budget=max(0, int(share * size + 1e-9) - num_labels),
            expected=expected,
            probes=probes,
            options=triage_options(run.config),
            ranks=ranks,
        )
        result = expectation(routed.result, expected)
        results.append(routed.result)
        annotated = routed.result.route == ROUTES.index("annotate")
        bought = num_labels + int((annotated & ~scored.evidence.labelled).sum())
        row: dict[str, Any] = {"budget": share, "labels": bought, **routed.result.counts()}
        row |= {"wrong_votes": _known(result.wrong_votes), "learning": result.learning}
        rows.append(row)
    values = drawn(model, NUM_DRAWS, run.config.seed)
    draws = (expectations(scored, model, agreement, each) for each in values)
    low, high = learning_bands(results, draws)
    for row, bottom, top in zip(rows, low.tolist(), high.tolist(), strict=True):
        row |= {"learning_low": bottom, "learning_high": top}
    return rows


def _by_fractions(run: RunDir) -> list[dict[str, Any]]:
    """One row per budget, by shares of the ranking. The share to discard is from the paper.

    Each budget first pays the probes that calibration would draw. Their labels are not known yet,
    so all of them count as annotated. In place of an adaptive draw we take the even one. A run
    refuses a budget below `calibrate.num_probes`, so such a budget has no row.
    """
    scored = readings.scored_pool(run, [])
    ranks, size = rank_fractions(scored.scores), scored.scores.size
    rows = []
    for share in SHARES:
        fixed = (share, min(PAPER_FRACTIONS[1], 1.0 - share))
        options = replace(triage_options(run.config), fractions=fixed)
        allowed = int(share * size + 1e-9)
        if allowed < (run.config.calibrate.num_probes or 0):
            continue
        probes = _would_draw(run, scored.scores, allowed)
        labelled = np.isin(np.arange(size), probes)
        routed = route_pool(
            replace(scored, evidence=replace(scored.evidence, labelled=labelled)),
            budget=allowed - probes.size,
            expected=None,
            probes=None,
            options=options,
            ranks=ranks,
        )
        counts = routed.result.counts()
        rows.append({"budget": share, "labels": counts["annotate"], **counts})
    if not rows:
        raise BudgetError(
            f"calibrate.num_probes = {run.config.calibrate.num_probes} is more than the "
            f"{size} questions of the pool: lower it"
        )
    return rows


def _would_draw(run: RunDir, scores: np.ndarray, allowed: int) -> np.ndarray:
    """The probes (indices) that calibration would draw from this number of labels."""
    wanted = run.config.calibrate.num_probes
    if wanted is None:
        by_value = run.config.calibrate.draw == "by_value"
        wanted = default_num_probes(scores.size, allowed, by_value)
    return drawn_probes(run, scores, wanted)[0]


def cost_model(run: RunDir) -> CostModel | None:
    """The rates that this run measured; None without timings."""
    seconds = run.seconds(all_rounds=False)
    greedy = _lengths(run, "rollouts_greedy", prompts=True)
    sampled = _lengths(run, "rollouts_sampled")
    generating = seconds.get("greedy", 0.0) + seconds.get("sample", 0.0)
    if not (generating and seconds.get("trace") and sampled["num"] and greedy["num"]):
        return None
    return CostModel(
        generated_per_s=(greedy["tokens"] + sampled["tokens"]) / generating,
        traced_per_s=(greedy["tokens"] + greedy["prompt"]) / seconds["trace"],
        prompt_tokens=greedy["prompt"] / greedy["num"],
        # Uncertain questions have more samples, and often longer ones, so questions count equally.
        response_tokens=sampled["mean"] / sampled["questions"],
        num_generations=run.config.train.num_generations,
    )


def _lengths(run: RunDir, name: str, prompts: bool = False) -> dict[str, float]:
    """Count rows and tokens of a table of rollouts, part by part.

    `mean` is the sum of the questions' own mean lengths, and `questions` their number.
    """
    totals = dict.fromkeys(("num", "tokens", "prompt", "mean", "questions"), 0.0)
    columns = ["question_id", "tokens", *(["prompt_tokens"] if prompts else [])]
    for path in sorted((run.round_path / name).glob("part-*.parquet")):
        part = read_parquet(path, columns)
        totals["num"] += len(part)
        lengths = pc.list_value_length(part["tokens"])
        totals["tokens"] += pc.sum(lengths).as_py() or 0
        by_question = pa.table({"id": part["question_id"], "length": lengths}).group_by("id")
        means = by_question.aggregate([("length", "mean")])["length_mean"]
        totals["mean"] += pc.sum(means).as_py() or 0
        totals["questions"] += len(means)
        if prompts:
            totals["prompt"] += pc.sum(pc.list_value_length(part["prompt_tokens"])).as_py() or 0
    return totals


def _known(value: float) -> float | None:
    return None if np.isnan(value) else value
