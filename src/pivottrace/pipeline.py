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
    if until is not None and until not in STAGE_NAMES:
        raise ConfigError(f"--until {until}: not one of {', '.join(STAGE_NAMES)}")
    steps = [step for step in STEPS if run.config.train.enabled or step[0] != "train"]
    last = len(steps) if until is None else 1 + max(i for i, s in enumerate(steps) if s[0] == until)
    with run.locked():
        try:
            for name, _, arguments in steps[:last]:
                run_step(run, name, *arguments)
                if name == "pool":
                    # An impossible budget fails before hours are spent, not after.
                    import_module("pivottrace.annotate.sources").allowed_labels(run)
        except LabelsNeeded:
            write_report(run)
            raise
        write_report(run)


def run_step(run: RunDir, name: str, *arguments: str) -> None:
    """Run one stage, timed; its own result decides whether there is anything left to do."""
    module = next(module for step, module, _ in STEPS if step == name)
    stage: Callable[..., None] = import_module(module).run
    print(" ".join(("·", name, *arguments)), file=sys.stderr, flush=True)
    with run.timed(name):
        stage(run, *arguments)


def write_report(run: RunDir) -> None:
    """Write the report of what there is so far."""
    with run.timed("report"):
        import_module("pivottrace.report").build_report(run)
