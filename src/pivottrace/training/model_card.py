"""The model card beside trained weights: their base model, their labels and their training.

It holds no question and no answer, because one may publish a model whose pool is private.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pivottrace
from pivottrace.config import EMBEDDED_MODEL
from pivottrace.errors import counted
from pivottrace.labels.budget import allowed_labels, bought
from pivottrace.models.places import is_hub_id
from pivottrace.run.bindings import settings_of
from pivottrace.run.directory import RunDir
from pivottrace.run.readings import evaluation_facts
from pivottrace.run.records import installed_versions, is_first_process
from pivottrace.run.rounds import train_settings
from pivottrace.run.storage import digest_file, read_json_lines, write_text
from pivottrace.schemas import ALARMS

CARD = "README.md"
# Words tell the other settings of the train stage. Texts are left out: they may quote the pool.
PLACE = "verl_python"  # it is a place on this machine
TABLED = ("train", "weak", "refine", "alarms", "rounds", "rollouts.stop", "answers")


def write_model_card(run: RunDir, training: Mapping[str, Any]) -> Path | None:
    """Write the card of the run's trained model anew; None if there is no model.

    Args:
        run: A run whose model is trained. The card shows the figures of its evaluation so far.
        training: The train stage's facts.
    """
    folder = run.round_path / "train" / "model"
    if not folder.is_dir() or not is_first_process():
        return None
    path = folder / CARD
    write_text(path, "\n".join(_lines(run, training)) + "\n")
    return path


def _lines(run: RunDir, training: Mapping[str, Any]) -> Iterator[str]:
    model, evaluation = run.config.model, evaluation_facts(run)
    yield from ("---", *_front_matter(run), "---", "")
    yield f"# {Path(model.path).name or model.path}, trained with few labels"
    yield ""
    yield (
        "Trained by GRPO on annotated and self-labelled questions at once, which "
        f"PivotTrace {pivottrace.__version__} chose from a pool without answers."
    )
    if model.path == EMBEDDED_MODEL:
        yield ""
        yield "This is the tiny reasoner of the package's made-up world. It is useless outside it."
    yield from _section("Base model", _base(run))
    yield from _section("Labels and rows", _labels(run, training))
    yield from _section("Training", _training(run, training))
    yield from _section("Held-out accuracy", _evaluation(evaluation))
    yield from _section("Lineage", _lineage(run))
    yield from ("", "## Settings", "", "| setting | value |", "|---|---|")
    for key, value in _settings(run):
        text = json.dumps(value, ensure_ascii=False).replace("|", "\\|").replace("`", "'")
        yield f"| {key} | `{text}` |"


def _front_matter(run: RunDir) -> Iterator[str]:
    model = run.config.model
    yield "library_name: transformers"
    if is_hub_id(model.path):
        yield f"base_model: {json.dumps(model.path)}"  # JSON strings are YAML
    yield "tags: [grpo, rlvr, pivottrace]"


def _section(title: str, rows: Iterator[tuple[str, Any]]) -> Iterator[str]:
    yield from ("", f"## {title}", "")
    for name, value in rows:
        yield f"- {name}: {value}"


def _base(run: RunDir) -> Iterator[tuple[str, Any]]:
    # The rollouts of a later round come from a trained model, so we take the first round.
    model, greedy = run.config.model, run.in_round(0).begun_facts("greedy")
    yield "model", f"`{model.path}`"
    if model.revision:
        yield "revision", f"`{model.revision}`"
    yield "digest of its weights", f"`{greedy.get('model_digest', 'not recorded')}`"
    yield "digest of its tokenizer", f"`{greedy.get('tokenizer_digest', 'not recorded')}`"


def _labels(run: RunDir, training: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    purposes = Counter(label.purpose for label in bought(run).values())
    size = run.stage_facts("pool").get("num_questions")
    used = sum(purposes.values())
    share = f" ({used / size:.1%} of the pool)" if size else ""
    yield "pool", counted(size or 0, "question")
    yield "label budget", counted(allowed_labels(run), "label") if size else "unknown"
    yield "labels used", f"{used}{share}, {purposes['probe']} of them probes"
    routes = run.stage_facts("triage").get("counts") or {}
    if routes:
        yield "routes", ", ".join(f"{count} {route}" for route, count in routes.items())
    rows = training.get("num_rows", {})
    yield "rows trained on", ", ".join(f"{count} {route}" for route, count in rows.items())
    left_out = {k: n for k, n in training.get("left_out", {}).items() if n}
    if left_out:
        reasons = (f"{n} {k.replace('_', ' ')}" for k, n in left_out.items())
        yield "rows left out", ", ".join(reasons)


def _training(run: RunDir, training: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    config, folder = run.config, run.round_path / "train"
    settings = train_settings(run)
    planned = f"{settings.steps}" + (f" of round {run.round_index}" if run.round_index else "")
    yield "trainer", training.get("trainer", "TRL")
    yield "steps", f"{training['steps']} of {planned}" if "steps" in training else planned
    yield "rollouts per step", f"{settings.questions_per_step} x {settings.num_generations}"
    yield "passes over the rows", training.get("passes", "unknown")
    yield "order of rows", settings.order
    yield "reward of annotate rows", "verified against the label"
    yield "reward of weak rows", config.weak.reward
    yield "refinement", config.refine.rule
    rank = settings.lora_rank
    yield "weights trained", "all" if rank is None else f"adapters of rank {rank}, merged"
    alarms = Counter((event["what"], event["action"]) for event in read_json_lines(folder / ALARMS))
    told = (f"{what}: {action} (x {n})" for (what, action), n in sorted(alarms.items()))
    yield "alarms", ", ".join(told) or "none went off"


def _evaluation(facts: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for which in ("before", "after"):
        figures = facts.get(which)
        if figures:
            yield which, _accuracy(figures)
    difference = facts.get("difference")
    if difference:
        low, mean, high = (100 * difference[k] for k in ("low", "mean", "high"))
        yield "difference, paired", f"{mean:+.1f} points ({low:+.1f} to {high:+.1f})"
    sets = facts.get("sets", [])
    for each in sets if len(sets) > 1 else []:
        for which in ("before", "after"):
            if which in each:
                yield f"{each['name']}, {which}", _accuracy(each[which])
    if difference:
        yield "intervals", "95 %, clustered by question"
    if "after" not in facts:
        yield "after", "not measured"


def _accuracy(figures: Mapping[str, Any]) -> str:
    text = f"{figures['accuracy']:.1%} ({figures['low']:.1%} to {figures['high']:.1%}), "
    if "num_sets" in figures:
        return f"{text}mean over {figures['num_sets']} sets"
    return f"{text}avg@{figures['k']} over {counted(figures['num_questions'], 'question')}"


def _lineage(run: RunDir) -> Iterator[tuple[str, Any]]:
    pool = run.table_path("pool")
    if pool.is_file():
        yield "pool (pool.parquet), SHA-256", f"`{digest_file(pool)}`"
    yield "seed", run.config.seed
    yield "round", run.round_index
    versions = run.manifest.get("versions") or installed_versions()
    yield "versions", ", ".join(f"{name} {number}" for name, number in versions.items())
    yield "made by", "`pivottrace run config.toml`, with the run directory's resolved `config.toml`"
    digest = run.manifest.get("config_digest")
    if digest:
        yield "its SHA-256", f"`{digest}`"


def _settings(run: RunDir) -> Iterator[tuple[str, Any]]:
    for name, value in settings_of("train", run.config).items():
        if name not in TABLED:
            continue
        if isinstance(value, dict):
            yield from ((f"{name}.{k}", inner) for k, inner in value.items() if k != PLACE)
        else:
            yield name, value
