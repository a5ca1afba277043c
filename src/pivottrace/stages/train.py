"""Training: the annotate and weak routes to training rows, and GRPO on both at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from pivottrace.annotate import sources
from pivottrace.core.evaluation import average_accuracy
from pivottrace.errors import RunDirError
from pivottrace.held_out import counts_of, held_out_questions, sample_and_check
from pivottrace.ingest import format_prompt
from pivottrace.progress import progress
from pivottrace.rounds import is_last, round_seed, start_model, steps_before, train_settings
from pivottrace.rundir import RunDir, read_parquet
from pivottrace.types import TRAINING_ROWS


def run(run: RunDir) -> None:
    """Write `training_rows`, train on them, and leave the model in `train/model`.

    Beside the model lie `train/metrics.jsonl` and, with `train.evaluate_steps`,
    `train/learning_curve.jsonl`. A killed run goes on from its last checkpoint. Where there is
    nothing to train on, the stage finishes with the fact `trained = False` and its reason.
    """
    if run.is_done("train"):
        return
    if not run.config.train.enabled:
        run.mark_done("train", trained=False, reason="train.enabled is false")
        return
    rows, left_out = read_training_rows(run)
    run.write_table("training_rows", rows)
    counts = {r: rows["route"].to_pylist().count(r) for r in ("annotate", "weak")}
    if rows.num_rows == 0:
        reason = "no question is both worth training on and labelled, by a person or a safe vote"
        run.mark_done("train", trained=False, reason=reason, num_rows=counts, left_out=left_out)
        return
    verifier_facts = _train(run, rows)
    settings = train_settings(run)
    run.mark_done(
        "train",
        trained=True,
        num_rows=counts,
        left_out=left_out,
        steps=settings.steps,
        passes=round(settings.steps * settings.questions_per_step / rows.num_rows, 2),
        rollouts=settings.steps * settings.questions_per_step * settings.num_generations,
        **verifier_facts,
    )


def read_training_rows(run: RunDir) -> tuple[pa.Table, dict[str, int]]:
    """Rows to train on, in pool order, and how many routed rows were left out, by reason.

    Labels come from the label store only, and the pool's answer column is never read, so no truth
    that was not paid for is in the training process. Rows of weight 0 would only cost rollouts.

    Returns:
        A table of schema `TRAINING_ROWS`, and counts of `zero_weight` and `unlabelled` rows (the
        latter where `labels.partial` lets a run go on without some of them), and of `probes` that
        a later round is calibrated on, where there is one.

    Raises:
        RunDirError: Labels of annotate rows are missing.
    """
    triage = run.read_table("triage", made_by="triage").select(["question_id", "route", "weight"])
    labels = {i: label.answer for i, label in sources.store(run).labels().items()}
    routed = {r["question_id"]: r for r in triage.to_pylist() if r["route"] in ("annotate", "weak")}
    unlabelled = [i for i, r in routed.items() if r["route"] == "annotate" and i not in labels]
    if unlabelled and not run.config.labels.partial:
        raise RunDirError(
            f"{run.path}: {len(unlabelled)} annotate rows have no label, such as {unlabelled[0]!r}"
            f". Get them with: pivottrace label {run.path}"
        )
    zero_weight = [i for i, r in routed.items() if not r["weight"]]
    prompts = read_parquet(run.table_path("pool"), ["id", "prompt"]).to_pylist()
    waiting = _waiting_probes(run) & routed.keys() - {*unlabelled, *zero_weight}
    pool, dropped = run.config.pool, {*unlabelled, *zero_weight, *waiting}
    rows = [
        {
            **routed[question["id"]],
            "prompt": format_prompt(question["prompt"], pool.system_prompt, pool.prompt_suffix),
            "label": _label(routed[question["id"]], labels),
        }
        for question in prompts
        if question["id"] in routed and question["id"] not in dropped
    ]
    table = pa.Table.from_pylist(rows, schema=TRAINING_ROWS)
    left_out = {"zero_weight": len(zero_weight), "unlabelled": len(unlabelled)}
    return table, left_out | ({} if is_last(run) else {"probes": len(waiting)})


def _waiting_probes(run: RunDir) -> set[str]:
    """Probes that are not trained on yet, so that later rounds may be calibrated on them."""
    if is_last(run) or run.config.rounds.train_probes == "every_round":
        return set()
    return set(run.read_table("evidence", made_by="calibrate")["question_id"].to_pylist())


def _label(row: Mapping[str, Any], labels: Mapping[str, str]) -> str | None:
    return labels[row["question_id"]] if row["route"] == "annotate" else None


def _train(run: RunDir, rows: pa.Table) -> dict[str, int]:
    """Train; returns the verifier's counts, of this process where training was resumed."""
    # Heavy; imported once there is something to train on.
    from functools import partial

    from pivottrace.backends import hf
    from pivottrace.backends.identity import refuse_another_model
    from pivottrace.backends.trl import train_grpo
    from pivottrace.core.answers import extract_answer
    from pivottrace.rewards.mix import mixed_reward
    from pivottrace.verifier import Verifier

    config, settings = run.config, train_settings(run)
    model, tokenizer = hf.load_model(start_model(run))
    refuse_another_model(run, model, tokenizer)
    with (
        Verifier(config.answers.verifier, config.answers.timeout_s) as verifier,
        progress("train", settings.steps, "steps") as update,
    ):
        reward = mixed_reward(
            extract=partial(extract_answer, pattern=config.answers.pattern),
            check=verifier.check_many,
            equal=verifier.equal,
            num_generations=config.train.num_generations,
        )
        train_grpo(
            model,
            tokenizer,
            rows,
            reward,
            settings,
            run.round_path / "train",
            seed=round_seed(run),
            schedule=(steps_before(run), config.train.steps),
            chat_template_args=config.pool.chat_template_args,
            stop=tuple(config.rollouts.stop),
            evaluate=_learning_curve(run, tokenizer, verifier),
            on_log=lambda step, metrics: update(step),
        )
    return verifier.facts()


def _learning_curve(run: RunDir, tokenizer: Any, verifier: Any) -> Any:
    """What gives a point of the learning curve from the model; None without questions."""
    questions = held_out_questions(run)[: run.config.train.evaluate_limit]
    if not questions:
        return None

    def evaluate(model: Any) -> dict[str, float]:
        # The same seed at every point: what differs between points is the model.
        table = sample_and_check(model, tokenizer, questions, run.config, verifier, run.config.seed)
        accuracy = average_accuracy(counts_of(table))
        return {"accuracy": accuracy.mean, "low": accuracy.low, "high": accuracy.high}

    return evaluate
