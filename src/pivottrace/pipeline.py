"""The main job as one readable list: every stage in order, each skipped where it has finished."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from pivottrace.config import Config
from pivottrace.errors import ConfigError, LabelsNeeded
from pivottrace.routing.shares import round_steps
from pivottrace.run.directory import RUN_WIDE, RunDir
from pivottrace.run.rounds import current, every

# Command, module, arguments. Modules are imported when their turn comes: most need torch.
STEPS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("pool", "pivottrace.stages.pool", ()),
    ("rollout", "pivottrace.stages.rollout", ()),
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
    "triage": ("{}/triage.parquet", "{}/flows.parquet", "{}/routes"),
    "label": ("labels.sqlite",),
    "train": ("{}/train/model", "{}/train/metrics.jsonl"),
}


def run_all(run: RunDir, until: str | None = None) -> None:
    """Run every stage of every round up to and with `until`, then write the report.

    With `until` the round that the run is in is the last. Without `until`, a run that is not to
    train ends with its route files: no label is bought that nothing here would use, and there is no
    model to compare.

    Raises:
        LabelsNeeded: people have to give labels; the report so far has been written.
    """
    steps = _steps(run, until)
    with run.locked():
        try:
            for index, name, arguments in steps:
                last = len(every(run)) - 1  # an alarm may have ended training since
                if index <= last or arguments == ("after",):
                    run_step(run.in_round(min(index, last)), name, *arguments)
        except LabelsNeeded:
            write_report(run)
            raise
        write_report(run)


# A round, a stage, its arguments.
Step = tuple[int, str, tuple[str, ...]]


def _steps(run: RunDir, until: str | None) -> list[Step]:
    """The steps of this run, up to and with the last one of the stage `until` in this round."""
    if until is not None and until not in STAGE_NAMES:
        raise ConfigError(f"--until {until}: not one of {', '.join(STAGE_NAMES)}")
    if not run.config.train.enabled:
        if until == "train":
            raise ConfigError(
                "--until train: train.enabled is false, so nothing is trained. Set it to true, or "
                "stop before with --until label"
            )
        steps = [(0, *s) for s in _named() if s[0] != "train" and s[1] != ("after",)]
        return _up_to(steps, until or "triage", 0)
    rounds = [each.round_index for each in every(run)]
    steps = [(index, *step) for index in rounds for step in _named() if _is_in(index, *step)]
    steps += [(rounds[-1], *step) for step in _named() if step[1] == ("after",)]
    here = rounds[-1] if until in (None, "evaluate") else current(run).round_index
    return _up_to(steps, until or "evaluate", here)


def _named() -> list[tuple[str, tuple[str, ...]]]:
    return [(name, arguments) for name, _, arguments in STEPS]


def _is_in(index: int, name: str, arguments: tuple[str, ...]) -> bool:
    """Whether a round has this step; the second evaluation comes after them all."""
    if arguments == ("after",):
        return False
    return index == 0 or name not in RUN_WIDE


def _up_to(steps: list[Step], until: str, last_round: int) -> list[Step]:
    """The steps up to and with the last one of a stage in a round."""
    names = [name for index, name, _ in steps if index <= last_round]
    return steps[: len(names) - names[::-1].index(until)]


def unfinished(run: RunDir) -> list[str]:
    """Stages that the whole run still has to do, each once, the next one first."""
    steps = _steps(run, None)
    left = [name for index, name, a in steps if not is_finished(run.in_round(index), name, *a)]
    return list(dict.fromkeys(left))


def outputs(run: RunDir, stage: str) -> list[Path]:
    """What a stage has left in the run directory, as far as it is there."""
    if stage == "evaluate":
        paths = [run.table_path(f"evaluation_{which}") for which in ("before", "after")]
    else:
        folder = run.round_path.relative_to(run.path)
        paths = [run.path / name.format(folder) for name in OUTPUTS[stage]]
    return [path for path in paths if path.exists()]


def run_step(run: RunDir, name: str, *arguments: str) -> None:
    """Run one stage, timed; its own result decides whether there is anything left to do."""
    module = next(module for step, module, _ in STEPS if step == name)
    if name != "train" and not is_finished(run, name, *arguments):
        _refuse_several_processes(run, name)
    stage: Callable[..., None] = import_module(module).run
    if not is_finished(run, name, *arguments):
        place = (f"(round {run.round_index})",) if run.round_index else ()
        print(" ".join(("·", name, *arguments, *place)), file=sys.stderr, flush=True)
    with run.timed(name):
        stage(run, *arguments)
    if name == "pool":
        facts = run.stage_facts("pool")
        refuse_the_impossible(run.config, facts["num_questions"], facts["num_with_answer"])


def _refuse_several_processes(run: RunDir, name: str) -> None:
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError(
            f"{name} runs in one process: do what comes before training with `pivottrace run "
            f"{run.path} --until label`, then `accelerate launch -m pivottrace.cli train "
            f"{run.path}`"
        )


def refuse_the_impossible(config: Config, num_questions: int, num_answered: int) -> int:
    """What cannot go well fails before hours are spent, not after.

    Args:
        config: The run's.
        num_questions: In the pool.
        num_answered: Those that have an answer there.

    Returns:
        The labels that the budget allows.

    Raises:
        PivotTraceError: The first thing that is wrong, with its cure.
    """
    from pivottrace.labels import buying
    from pivottrace.run.readings import driving_estimator
    from pivottrace.training.reward import check_training
    from pivottrace.verifier import Verifier

    allowed = buying.budget_labels(config.labels.budget, num_questions)
    if config.train.enabled:
        round_steps(config.train.steps, config.rounds.num)
        check_training(config)
    buying.refuse_missing_answers(config, num_answered, allowed)
    driving_estimator(config)
    with Verifier(config.answers.verifier, config.answers.timeout_s) as verifier:
        verifier.load()
    return allowed


def is_finished(run: RunDir, name: str, which: str = "after") -> bool:
    """Whether a stage has nothing left to do; `which` is for the two halves of `evaluate`."""
    facts = run.stage_facts(name)
    if name != "evaluate" or not facts or which in facts:
        return bool(facts)
    no_questions = not {"before", "after"} & facts.keys()
    # The second half waits for a trained model, if there is to be one.
    rounds = every(run)
    trained = any(r.stage_facts("train").get("trained") for r in rounds)
    waits = run.config.train.enabled and not all(r.is_done("train") for r in rounds)
    trains = trained or waits
    return no_questions or (which == "after" and not trains)


def write_report(run: RunDir) -> None:
    """Write the report of what there is so far."""
    with run.timed("report"):
        import_module("pivottrace.report").build_report(run)
