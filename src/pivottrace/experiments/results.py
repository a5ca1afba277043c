"""The result of a finished arm: one small JSON file, written and read back.

It holds counts, not verdicts: right samples of each held-out question, in the order of the base's
result (`before-SEED.json`, which has their ids). It also holds the learning curve, tokens, labels
and routes, and the whole configuration. A file has about 7 kB per arm and seed, so that results can
be committed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.compute as pc

from pivottrace.config import Config, parse_config
from pivottrace.config.presets import flat_values
from pivottrace.errors import ConfigError, RunDirError
from pivottrace.experiments.definition import BASE, Experiment
from pivottrace.labels.budget import bought
from pivottrace.rollouts.held_out import counts_of, held_out_questions
from pivottrace.run.bindings import FREE_SETTINGS
from pivottrace.run.directory import RunDir
from pivottrace.run.storage import num_list_values, read_json, read_json_lines, write_text
from pivottrace.schemas import ALARMS, LEARNING_CURVE, METRICS
from pivottrace.stats.accuracy import QuestionCounts
from pivottrace.stats.arms import Curve


@dataclass(frozen=True)
class Result:
    """The result of one finished arm and seed.

    Attributes:
        name: Name of the arm, or `BASE`.
        seed: Seed of the run.
        counts: Counts of the held-out questions after training; for the base, before training.
        clusters: (Q,) values that are equal for dependent questions: ids, or the column
            `experiment.cluster_by`.
        curve_steps: (K,) steps of the learning curve; empty without one.
        curve_accuracy: (K,) accuracy at these steps, on the first `curve_questions` held-out
            questions.
        training_tokens: (K,) tokens up to these steps: prompt and response tokens of training
            rollouts, and response tokens of samples that only voted.
        facts: All other stored facts.
    """

    name: str
    seed: int
    counts: QuestionCounts
    clusters: tuple[str, ...]
    curve_steps: np.ndarray
    curve_accuracy: np.ndarray
    training_tokens: np.ndarray
    facts: dict[str, Any]

    def curve(self, own_tokens: float) -> Curve:
        """Return the learning curve; `own_tokens` were spent before the first step."""
        return Curve(self.curve_steps, self.curve_accuracy, self.training_tokens + own_tokens)


def write_base_result(experiment: Experiment, seed: int) -> None:
    """Store the accuracy before training, the held-out ids, and the pool's rollout tokens."""
    run = RunDir.open(experiment.base_config(seed).output)
    counts = counts_of(run.read_table("evaluation_before", made_by="evaluate"))
    facts = {
        "question_ids": list(counts.question_ids),
        **_clusters(experiment, run),
        "tokens": rollout_tokens(run),
        "pool": run.stage_facts("pool")["num_questions"],
    }
    _write(experiment, BASE, seed, run, run.config, counts, facts)


def write_result(experiment: Experiment, name: str, seed: int) -> None:
    """Store the result of a finished arm. Raises RunDirError if its run is not finished."""
    run = RunDir.open(experiment.run_path(name, seed))
    trained = run.stage_facts("train")
    if not trained.get("trained"):
        raise RunDirError(
            f"{run.path}: nothing was trained: {trained.get('reason', 'it has not finished')}"
        )
    counts = counts_of(run.read_table("evaluation_after", made_by="evaluate"))
    folder = run.round_path / "train"
    curve, metrics = read_json_lines(folder / LEARNING_CURVE), read_json_lines(folder / METRICS)
    spent, only_votes = {0: 0}, 0.0
    for row in metrics:
        only_votes += row.get("extra_tokens", 0.0)
        spent[row["step"]] = round(row["num_tokens"] + only_votes)
    limit = run.config.train.evaluate_limit or len(counts.question_ids)
    facts = {
        "curve": {
            "questions": min(limit, len(counts.question_ids)),
            "step": [point["step"] for point in curve],
            "accuracy": [round(point["accuracy"], 6) for point in curve],
            "training_tokens": [spent[point["step"]] for point in curve],
        },
        "all_training_tokens": spent[max(spent)],
        "steps": trained["steps"],
        "labels": len(bought(run)),
        "routes": run.stage_facts("triage")["counts"],
        "rows": trained["num_rows"],
        "alarms": read_json_lines(folder / ALARMS),
        "rollout_tokens": rollout_tokens(run),
        "seconds": {stage: round(took, 1) for stage, took in run.seconds().items()},
    }
    _write(experiment, name, seed, run, run.config, counts, facts)


def write_result_elsewhere(there: Experiment, name: str, seed: int) -> None:
    """Store the result of an arm or the base on further held-out questions (`elsewhere`)."""
    run = RunDir.open(there.run_path(name, seed))
    counts = counts_of(run.read_table("evaluation_before", made_by="evaluate"))
    facts: dict[str, Any] = {"model": _model_mark(there, name, seed)}
    if name == BASE:
        facts |= {"question_ids": list(counts.question_ids), **_clusters(there, run)}
    _write(there, name, seed, run, there.config_of(name, seed), counts, facts)


def _model_mark(there: Experiment, name: str, seed: int) -> str | None:
    """Return a digest that identifies the evaluated model, from its result where it was trained."""
    assert there.trained_in is not None
    facts = stored_facts(there.trained_in, name, seed)
    return None if facts is None else _digest(map(str, facts["num_correct"]))


def stored_facts(experiment: Experiment, name: str, seed: int) -> dict[str, Any] | None:
    """Return the content of a result's file; None without a file, or if its model was replaced.

    Raises:
        RunDirError: The file is torn.
    """
    path = experiment.result_path(name, seed)
    if not path.is_file():
        return None
    facts = read_json(path)
    if experiment.trained_in is None or facts["model"] == _model_mark(experiment, name, seed):
        return facts
    return None


def is_clustered(experiment: Experiment, base: dict[str, Any]) -> bool:
    """Return whether a base's facts have the clusters of questions that the experiment needs."""
    return experiment.cluster_by in (None, base.get("clustered_by"))


def read_result(experiment: Experiment, name: str, seed: int) -> Result | None:
    """Return a stored result; None if it does not exist. Raises RunDirError if its file is torn."""
    facts = stored_facts(experiment, name, seed)
    if facts is None:
        return None
    base = facts if name == BASE else stored_facts(experiment, BASE, seed)
    if base is None or not is_clustered(experiment, base):
        column = f"lacks the column {experiment.cluster_by!r} of the held-out questions"
        raise RunDirError(
            f"{experiment.result_path(BASE, seed)} {'is missing' if base is None else column}. "
            f"Store it anew with: pivottrace lab run {experiment.path} --seeds {seed}"
        )
    path, ids = experiment.result_path(name, seed), base["question_ids"]
    if facts["questions_digest"] != _digest(ids):
        raise RunDirError(
            f"{path} was evaluated on other questions than {experiment.result_path(BASE, seed)}. "
            f"Delete the older of the two and run the experiment again."
        )
    right = np.array(facts["num_correct"], dtype=np.float64)
    samples = np.full(right.size, float(facts["num_samples"]))
    curve = facts.get("curve", {})
    return Result(
        name=name,
        seed=seed,
        counts=QuestionCounts(tuple(ids), right, samples),
        clusters=tuple(base["clusters"] if experiment.cluster_by else ids),
        curve_steps=np.array(curve.get("step", []), float),
        curve_accuracy=np.array(curve.get("accuracy", []), float),
        training_tokens=np.array(curve.get("training_tokens", []), float),
        facts=facts,
    )


def refuse_other_settings(
    experiment: Experiment, name: str, seed: int, facts: dict[str, Any]
) -> None:
    """Raise ConfigError if a result was not made with the experiment's settings.

    A setting that is missing in a result of an older version counts as its default. A result with
    a setting that no longer exists is refused.
    """
    path = experiment.result_path(name, seed)
    config = experiment.config_of(name, seed)
    try:
        stored = parse_config(facts["config"], str(path))
    except ConfigError as error:
        raise ConfigError(
            f"{error}\nAn older version made this result. Report on it with that version, or give "
            f"`results` another folder in {experiment.path} to run it anew."
        ) from None
    was = flat_values(stored)
    now = flat_values(config)
    ignored = FREE_SETTINGS | {"output"}
    changed = [
        f"{key}: was {was.get(key)!r}, now {now.get(key)!r}"
        for key in sorted(was.keys() | now.keys())
        if was.get(key) != now.get(key) and key not in ignored
    ]
    if changed:
        raise ConfigError(
            f"{path} was made with other settings:\n  "
            + "\n  ".join(changed)
            + f"\nPut them back, or move it and {experiment.run_path(name, seed)} "
            f"away to run it anew."
        )


def rollout_tokens(run: RunDir) -> dict[str, int]:
    """Return the prompt and response tokens of the pool's greedy traces and of its samples.

    Each sample counts its prompt once, and only samples that were taken count.
    """
    greedy = run.read_parts("rollouts_greedy", "greedy", ["question_id", "prompt_tokens", "tokens"])
    sampled = run.read_parts("rollouts_sampled", "sample", ["question_id", "tokens", "finish"])
    lengths = pc.fill_null(pc.list_value_length(greedy["prompt_tokens"]), 0).to_pylist()
    prompt_of = dict(zip(greedy["question_id"].to_pylist(), lengths, strict=True))
    asked = sampled.filter(pc.field("finish") != "failed")["question_id"].to_pylist()
    samples = sum(prompt_of[question_id] for question_id in asked) + num_list_values(
        sampled["tokens"]
    )
    return {"greedy": sum(lengths) + num_list_values(greedy["tokens"]), "sampled": samples}


def _clusters(experiment: Experiment, run: RunDir) -> dict[str, Any]:
    column = experiment.cluster_by
    if column is None:
        return {}
    extras = [json.loads(question["extra"] or "{}") for question in held_out_questions(run)]
    if not all(column in extra for extra in extras):
        there = ", ".join(sorted(set().union(*extras))) or "none"
        raise ConfigError(
            f"{experiment.path}: experiment.cluster_by = {column!r}, and not every held-out "
            f"question has that column; there are: {there}"
        )
    return {"clustered_by": column, "clusters": [str(extra[column]) for extra in extras]}


def _write(
    experiment: Experiment,
    name: str,
    seed: int,
    run: RunDir,
    config: Config,
    counts: QuestionCounts,
    facts: dict[str, Any],
) -> None:
    values = {
        "experiment": experiment.name,
        "arm": name,
        "seed": seed,
        "versions": run.manifest["versions"],
        "config": config.model_dump(mode="json", exclude={"output"}, exclude_none=True),
        "questions_digest": _digest(counts.question_ids),
        "num_samples": int(counts.num_samples.min()),
        "num_correct": counts.num_correct.astype(int).tolist(),
        **facts,
    }
    path = experiment.result_path(name, seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Each key has its own line, so that long lists keep differences readable.
    lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in values.items()]
    write_text(path, "{\n" + ",\n".join(lines) + "\n}\n")


def _digest(words: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(words).encode()).hexdigest()
