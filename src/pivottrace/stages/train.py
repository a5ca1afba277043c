"""Training: make training rows of the annotate and weak routes, and train by GRPO on both."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from pivottrace.config import Config
from pivottrace.errors import RunDirError, counted
from pivottrace.labels.budget import labels_of
from pivottrace.labels.training_rows import as_asked, training_rows
from pivottrace.models.sampler import Sampler
from pivottrace.refine import lacks_weak_rows, refuse_idle_rule
from pivottrace.refine.alarms import AlarmEvent
from pivottrace.rewards import reward_named
from pivottrace.rollouts.prompt_room import refuse_long_prompts
from pivottrace.rollouts.rewriting import (
    mirrored,
    put_to_model,
    rewrites_by_model,
    rewrites_from_column,
)
from pivottrace.run.directory import RunDir
from pivottrace.run.rounds import (
    is_last_round,
    round_seed,
    start_model,
    train_settings,
)
from pivottrace.run.storage import read_json_lines, read_parquet
from pivottrace.schemas import ALARMS, METRICS, TRAINING_ROWS
from pivottrace.stages.trl_training import train_by_trl
from pivottrace.stages.verl_training import train_by_verl
from pivottrace.training.model_card import write_model_card
from pivottrace.training.prior_rates import prior_pass_rates
from pivottrace.training.reward import check_training

# On the embedded world 10 passes over 140 rows helped, and 25 passes over 58 rows left the model
# worse than before (docs/results/headline.md). Nothing was measured between the two.
MANY_PASSES = 16


def run(run: RunDir) -> None:
    """Write `training_rows`, train on them, and write the model to `train/model`.

    Training also writes `train/metrics.jsonl` and, with `train.evaluate_steps`,
    `train/learning_curve.jsonl`. A killed run continues from its last checkpoint. Without rows to
    train on, the stage finishes with the fact `trained = False` and its reason.
    """
    if run.is_done("train"):
        return
    if not run.config.train.enabled:
        run.mark_done("train", trained=False, reason="train.enabled is false")
        return
    check_training(run.config)
    rows, left_out = read_training_rows(run)
    counts = {r: rows["route"].to_pylist().count(r) for r in ("annotate", "weak")}
    model: Any = None
    if rows.num_rows:
        model = _load_model(run)
        _refuse_long_prompts(run.config, rows, *model)
        rows = with_rewrites(run, rows, *model)
    run.write_table("training_rows", rows)
    if rows.num_rows == 0:
        reason = "no question is both worth training on and labelled, by a person or a safe vote"
        run.mark_done("train", trained=False, reason=reason, num_rows=counts, left_out=left_out)
        return
    settings = train_settings(run)
    planned = settings.steps * settings.questions_per_step
    refuse_idle_rule(run.config.refine, counts, planned / rows.num_rows)
    for note in training_notes(run.config, counts, planned / rows.num_rows):
        print(f"note: {note}", file=sys.stderr, flush=True)
    run.begin("train")  # from the first checkpoint on, the settings cannot change
    if run.config.train.backend == "verl":
        tokenizer, model = model[1], None  # the memory is verl's now
        of_trainer = train_by_verl(run, rows, tokenizer)
    else:
        of_trainer = train_by_trl(run, rows, *model)
    folder = run.round_path / "train"
    steps = max((row["step"] for row in read_json_lines(folder / METRICS)), default=0)
    stops = [e for e in read_json_lines(folder / ALARMS) if e["action"] == "stop"]
    questions = steps * settings.questions_per_step
    facts: dict[str, Any] = {
        "trained": True,
        "num_rows": counts,
        "left_out": left_out,
        "steps": steps,
        "passes": round(questions / rows.num_rows, 2),
        "rollouts": questions * settings.num_generations,
        **({"stopped": AlarmEvent(**stops[0]).text()} if stops else {}),
        **of_trainer,
    }
    write_model_card(run, facts)
    run.mark_done("train", **facts)


def training_notes(config: Config, counts: Mapping[str, int], passes: float) -> Iterator[str]:
    """Warnings about a training that may go wrong without a visible sign.

    Args:
        config: The configuration of the run.
        counts: Number of training rows by route.
        passes: Number of times that training sees each row.
    """
    if passes >= MANY_PASSES:
        yield (
            f"training sees each row {passes:.0f} times, which can leave the model worse than "
            f"before: lower train.steps, or buy more labels"
        )
    if config.alarms.enabled and counts.get("weak") and not counts.get("annotate"):
        yield "no labelled row is trained on, so no alarm can tell when votes go wrong"
    if counts.get("annotate") and lacks_weak_rows(config.refine, counts):
        yield (
            f"refine.rule = {config.refine.rule} weighs weak rows, and none is trained on, so it "
            f"does nothing"
        )


def read_training_rows(run: RunDir) -> tuple[pa.Table, dict[str, int]]:
    """Rows to train on, in pool order, and how many routed rows were left out, by reason.

    Returns:
        A table of schema `TRAINING_ROWS`, and the counts of rows that were left out. `unlabelled`
        counts annotate rows without a label, which `labels.partial` allows, and
        `cannot_be_answered` the rows that people found to have no answer. `probes` counts probes
        that a later round is calibrated on; the last round does not have this count.

    Raises:
        RunDirError: Labels of annotate rows are missing.
    """
    found = training_rows(run)
    if found.unlabelled and not run.config.labels.partial:
        disputed = set(found.unlabelled) & labels_of(run).keys()
        number = counted(len(found.unlabelled), "annotate row")
        raise RunDirError(
            f"{run.path}: {number} without a label that can be used, such as "
            f"{found.unlabelled[0]!r}. {'Settle' if disputed else 'Get'} them with: pivottrace "
            f"label {'conflicts ' if disputed else ''}{run.path}"
        )
    frozen = reward_named(run.config.weak.reward).needs == "pseudo_label"
    expected: dict[str, float] = {}
    if run.config.train.order == "learnable":
        expected = prior_pass_rates(run, found.rows)
    rows = [
        {
            **row,
            "prior_pass_rate": expected.get(row["question_id"]),
            "prompt": as_asked(run, row["prompt"]),
            "pseudo_label": row["pseudo_label"] if frozen else None,
        }
        for row in found.rows
    ]
    left_out = {"unlabelled": len(found.unlabelled)}
    left_out |= {"cannot_be_answered": len(found.no_answer)} if found.no_answer else {}
    left_out |= {} if is_last_round(run) else {"probes": len(found.waiting)}
    return pa.Table.from_pylist(rows, schema=TRAINING_ROWS), left_out


def with_rewrites(run: RunDir, rows: pa.Table, model: Any, tokenizer: Any) -> pa.Table:
    """The rows, with rewritten questions on the weak rows if the reward needs them.

    With `weak.train_rewrites` each weak row is followed by its mirror image. The mirror image
    trains on the rewritten question, and the original question votes. A resumed training takes the
    model's rewritten questions from the stored `training_rows`.

    Raises:
        DataError: The column of rewritten questions is missing, or some of its cells are empty.
    """
    weak = run.config.weak
    weak_ids = {r["question_id"] for r in rows.to_pylist() if r["route"] == "weak"}
    if reward_named(weak.reward).needs != "rewrite" or not weak_ids:
        return rows
    columns = ["id", "prompt", *(["extra"] if weak.rewrite_column else [])]
    pool = read_parquet(run.table_path("pool"), columns).to_pylist()
    questions = [question for question in pool if question["id"] in weak_ids]
    rewrites = _rewritten_before(run, weak_ids)
    if not rewrites:
        rewrites = _rewrite(run, questions, model, tokenizer)
    changed: list[dict[str, Any]] = []
    for row in rows.to_pylist():
        changed.append({**row, "rewrite": rewrites.get(row["question_id"])})
        if weak.train_rewrites and row["question_id"] in weak_ids:
            changed.append(mirrored(changed[-1]))
    return pa.Table.from_pylist(changed, schema=TRAINING_ROWS)


def _rewrite(
    run: RunDir, questions: Sequence[Mapping[str, Any]], model: Any, tokenizer: Any
) -> dict[str, list[dict[str, str]]]:
    """The rewritten questions as prompts for the model, by id."""
    column = run.config.weak.rewrite_column
    if column is not None:
        texts = rewrites_from_column(questions, column)
    else:
        sampler = _rewriter(run, model, tokenizer)
        texts = rewrites_by_model(questions, run.config, sampler, round_seed(run))
    return {q["id"]: put_to_model(q["prompt"], texts[q["id"]], run.config) for q in questions}


def _rewriter(run: RunDir, model: Any, tokenizer: Any) -> Sampler:
    """The sampler of the model that rewrites: the server's if it serves it, else the model here.

    Several processes of one training sample here, because they must all get the same questions, and
    a server does not promise the same responses twice.
    """
    from pivottrace.models.backends import SERVER
    from pivottrace.models.generate import TransformersSampler  # heavy
    from pivottrace.models.served import ServedSampler

    config, is_one_process = run.config, int(os.environ.get("WORLD_SIZE", "1")) == 1
    is_served = config.rollouts.backend == SERVER and start_model(run) == config.model
    if is_served and is_one_process:
        return ServedSampler(config.rollouts.server, config.model, model, tokenizer)
    return TransformersSampler(model, tokenizer)


def _rewritten_before(run: RunDir, ids: set[str]) -> dict[str, list[dict[str, str]]]:
    """The rewritten questions of an interrupted training of these weak rows, by id; else empty."""
    if not (run.begun_facts("train") and run.table_path("training_rows").is_file()):
        return {}
    stored = run.read_table("training_rows", made_by="train").to_pylist()
    found = {r["question_id"]: r["rewrite"] for r in stored if r["question_id"] in ids}
    return found if found.keys() == ids and all(found.values()) else {}


def _load_model(run: RunDir) -> tuple[Any, Any]:
    # These imports are heavy, so they wait until the stage has rows to train on.
    from pivottrace.models.digests import digests
    from pivottrace.models.identity import refuse_another_model
    from pivottrace.models.load import load_model

    config = start_model(run)
    if run.config.train.backend == "verl":  # it is loaded to be looked at, and verl needs the GPU
        config = config.model_copy(update={"device": "cpu"})
    model, tokenizer = load_model(config)
    refuse_another_model(run, digests(model, tokenizer))
    return model, tokenizer


def _refuse_long_prompts(config: Config, rows: pa.Table, model: Any, tokenizer: Any) -> None:
    """Refuse a limit that was raised too far since the rollouts. Raises ConfigError."""
    from pivottrace.models.load import max_positions
    from pivottrace.models.rendering import render_prompts

    tokens = render_prompts(tokenizer, rows["prompt"].to_pylist(), config.pool)
    prompts = dict(zip(rows["question_id"].to_pylist(), tokens, strict=True))
    refuse_long_prompts(config, max_positions(model.config), prompts, {})
