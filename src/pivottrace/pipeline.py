"""The main job as one readable list: every stage in order, each skipped where it has finished."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module

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


def run_all(run: RunDir, until: str | None = None) -> None:
    """Run every stage up to and with `until`, then write the report.

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
    steps = [step for step in STEPS if enabled or step[0] != "train"]
    names = [name for name, _, _ in steps]
    last = names[-1] if until is None else until
    return steps[: len(names) - names[::-1].index(last)]


def run_step(run: RunDir, name: str, *arguments: str) -> None:
    """Run one stage, timed; its own result decides whether there is anything left to do."""
    module = next(module for step, module, _ in STEPS if step == name)
    stage: Callable[..., None] = import_module(module).run
    if not is_finished(run, name, *arguments):
        print(" ".join(("·", name, *arguments)), file=sys.stderr, flush=True)
    with run.timed(name):
        stage(run, *arguments)
    if name == "pool":
        # What is impossible fails before hours are spent, not after.
        import_module("pivottrace.annotate.sources").allowed_labels(run)
        import_module("pivottrace.tables").driving_estimator(run.config)


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
