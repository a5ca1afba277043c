"""The main job as one readable list: every stage in order, each skipped where it has finished."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from pivottrace.errors import ConfigError, LabelsNeeded
from pivottrace.rundir import RunDir

# Command, module, arguments. Modules are imported when their turn comes: most need torch.
STEPS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("pool", "pivottrace.stages.pool", ()),
    ("rollout", "pivottrace.stages.rollouts", ()),
    ("trace", "pivottrace.stages.trace", ()),
    ("score", "pivottrace.stages.score", ()),
    ("calibrate", "pivottrace.stages.calibrate", ()),
    ("triage", "pivottrace.stages.triage", ()),
    ("label", "pivottrace.stages.label", ()),
    ("evaluate", "pivottrace.stages.evaluate", ("before",)),
    ("train", "pivottrace.stages.train", ()),
    ("evaluate", "pivottrace.stages.evaluate", ("after",)),
)
STAGE_NAMES = tuple(dict.fromkeys(name for name, _, _ in STEPS))
# What each stage leaves for people and for the stages after it; {} is the round's folder.
OUTPUTS: dict[str, tuple[str, ...]] = {
    "pool": ("pool.parquet", "evaluation.parquet"),
    "rollout": ("{}/rollouts_greedy", "{}/rollouts_sampled"),
    "trace": ("{}/signals", "reference.json"),
    "score": ("{}/scores.parquet",),
    "calibrate": (
        "{}/probes.parquet",
        "{}/evidence.parquet",
        "{}/calibration.parquet",
        "{}/ranking.parquet",
    ),
    "triage": ("{}/triage.parquet", "{}/routes"),
    "label": ("labels.sqlite",),
    "train": ("{}/train/model", "{}/train/metrics.jsonl"),
    "evaluate": ("{}/evaluation_before.parquet", "{}/evaluation_after.parquet"),
}


def run_all(run: RunDir, until: str | None = None) -> None:
    """Run every stage up to and with `until`, then write the report.

    Without `until`, a run that is not to train ends with its route files: no label is bought that
    nothing here would use, and there is no model to compare.

    Raises:
        LabelsNeeded: people have to give labels; the report so far has been written.
    """
    steps = _steps(run, until)
    with run.locked():
        try:
            for name, _, arguments in steps:
                run_step(run, name, *arguments)
        except LabelsNeeded:
            write_report(run)
            raise
        write_report(run)


def _steps(run: RunDir, until: str | None) -> list[tuple[str, str, tuple[str, ...]]]:
    """The steps of this run, up to and with the last one of the stage `until`."""
    if until is not None and until not in STAGE_NAMES:
        raise ConfigError(f"--until {until}: not one of {', '.join(STAGE_NAMES)}")
    enabled = run.config.train.enabled
    if until == "train" and not enabled:
        raise ConfigError(
            "--until train: train.enabled is false, so nothing is trained. Set it to true, or stop "
            "before with --until label"
        )
    steps = [step for step in STEPS if enabled or (step[0] != "train" and step[2] != ("after",))]
    names = [name for name, _, _ in steps]
    last = until or ("evaluate" if enabled else "triage")
    return steps[: len(names) - names[::-1].index(last)]


def unfinished(run: RunDir) -> list[str]:
    """Stages that the whole run still has to do, in order."""
    left = [name for name, _, args in _steps(run, None) if not is_finished(run, name, *args)]
    return list(dict.fromkeys(left))


def outputs(run: RunDir, stage: str) -> list[Path]:
    """What a stage has left in the run directory, as far as it is there."""
    paths = [
        run.path / name.format(run.round_path.relative_to(run.path)) for name in OUTPUTS[stage]
    ]
    return [path for path in paths if path.exists()]


def run_step(run: RunDir, name: str, *arguments: str) -> None:
    """Run one stage, timed; its own result decides whether there is anything left to do."""
    module = next(module for step, module, _ in STEPS if step == name)
    if name != "train" and not is_finished(run, name, *arguments):
        _refuse_several_processes(run, name)
    stage: Callable[..., None] = import_module(module).run
    if not is_finished(run, name, *arguments):
        print(" ".join(("·", name, *arguments)), file=sys.stderr, flush=True)
    with run.timed(name):
        stage(run, *arguments)
    if name == "pool":
        _refuse_the_impossible(run)


def _refuse_several_processes(run: RunDir, name: str) -> None:
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError(
            f"{name} runs in one process: do what comes before training with `pivottrace run "
            f"{run.path} --until label`, then `accelerate launch -m pivottrace.cli train "
            f"{run.path}`"
        )


def _refuse_the_impossible(run: RunDir) -> None:
    """What cannot go well fails before hours are spent, not after."""
    from pivottrace.annotate import sources
    from pivottrace.tables import driving_estimator
    from pivottrace.verifier import Verifier

    config, allowed = run.config, sources.allowed_labels(run)
    sources.refuse_missing_answers(config, run.stage_facts("pool")["num_with_answer"], allowed)
    driving_estimator(config)
    with Verifier(config.answers.verifier, config.answers.timeout_s) as verifier:
        verifier.load()


def is_finished(run: RunDir, name: str, which: str = "after") -> bool:
    """Whether a stage has nothing left to do; `which` is for the two halves of `evaluate`."""
    facts, train = run.stage_facts(name), run.stage_facts("train")
    if name != "evaluate" or not facts or which in facts:
        return bool(facts)
    no_questions = not {"before", "after"} & facts.keys()
    # The second half waits for a trained model, if there is to be one.
    trains = train.get("trained") if train else run.config.train.enabled
    return no_questions or (which == "after" and not trains)


def write_report(run: RunDir) -> None:
    """Write the report of what there is so far."""
    with run.timed("report"):
        import_module("pivottrace.report").build_report(run)
