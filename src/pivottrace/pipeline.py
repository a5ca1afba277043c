"""The main job as one readable list: every stage in order. A finished stage is skipped."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from importlib import import_module
from pathlib import Path

from pivottrace.errors import ConfigError, LabelsNeeded, NoAnswersError
from pivottrace.report import build_report
from pivottrace.report.collect import report_path
from pivottrace.report.verdict import too_weak
from pivottrace.run.directory import RunDir
from pivottrace.run.progress import in_words
from pivottrace.run.records import RUN_WIDE
from pivottrace.run.rounds import all_rounds, current_round
from pivottrace.viewer.pages import write_telling

# Stage and module, in the order of the first round. Each module is imported when its stage begins,
# because most modules need torch.
STAGES: dict[str, str] = {
    "pool": "pivottrace.stages.pool",
    "greedy": "pivottrace.stages.greedy",
    "trace": "pivottrace.stages.trace_signals",
    "score": "pivottrace.stages.score",
    "sample": "pivottrace.stages.sample",
    "calibrate": "pivottrace.stages.calibrate",
    "triage": "pivottrace.stages.triage",
    "label": "pivottrace.stages.label",
    "evaluate_before": "pivottrace.stages.evaluate_before",
    "train": "pivottrace.stages.train",
    "evaluate_after": "pivottrace.stages.evaluate_after",
}
# Several workers may make the parts of these stages together, after each has passed the stages
# before. Of the stages without parts, the first worker makes the whole, and the others wait.
IN_PARTS = ("greedy", "trace", "sample", "evaluate_before", "evaluate_after")
SHAREABLE = ("pool", "greedy", "trace", "score", "sample", "evaluate")
"""The commands that several workers may run at once."""
# Users name a stage by its command. The command `evaluate` runs two stages. Every other command
# runs the stage with the command's name.
STAGES_OF = {"evaluate": ("evaluate_before", "evaluate_after")}


def stages_of(command: str) -> tuple[str, ...]:
    """The stages that a command runs, in order."""
    return STAGES_OF.get(command, (command,))


def command_of(stage: str) -> str:
    """The command that runs a stage."""
    return next((name for name, stages in STAGES_OF.items() if stage in stages), stage)


def run_all(run: RunDir, until: str | None = None) -> None:
    """Run every stage of every round up to and with `until`, then write the report.

    `until` is the name of a command. With it, the current round is the last one. Without it, a run
    with `train.enabled = false` ends with its route files. It buys no labels beyond the probes,
    because nothing would use them, and it has no trained model to evaluate.

    Raises:
        ConfigError: The command `until` does not exist, or it is `train` and `train.enabled` is
            false.
        LabelsNeeded: People must give labels. The report so far has been written.
        NoAnswersError: No question gave an answer. The report so far has been written.
    """
    if until is not None:
        _check_until(run, until)
    with run.locked():
        try:
            for index, stage in steps(run, until):
                run_step(run.in_round(index), stage)
        except NoAnswersError:
            write_report(run)
            raise
        except LabelsNeeded as needed:
            write_report(run)
            raise LabelsNeeded(_with_the_choice(run, str(needed))) from needed
        write_report(run)


def _with_the_choice(run: RunDir, steps_to_go_on: str) -> str:
    """The steps of people. If the model is too weak, the choice to stop comes first."""
    if too_weak(current_round(run)) is None:
        return steps_to_go_on
    return (
        f"The model is too weak for these questions, so answers will hardly help. You may stop "
        f"here: nothing more is spent. Or take another model (model.path) in another output "
        f"directory (--output). To go on all the same:\n{steps_to_go_on}"
    )


def run_command(run: RunDir, command: str) -> None:
    """Run the stages of one command. The evaluation after training needs a finished training."""
    for stage in stages_of(command):
        if stage != "evaluate_after" or run.is_done("train"):
            run_step(run, stage)


def refuse_unshareable(command: str | None) -> None:
    """Refuse several workers for a command, or for a run until it. Raises ConfigError."""
    if command not in SHAREABLE:
        raise ConfigError(
            f"--shard: several workers may share {', '.join(SHAREABLE[1:])} and `run --until` one "
            f"of these. Everything else takes one process, so run it without --shard afterwards"
        )


def _check_until(run: RunDir, until: str) -> None:
    commands = list(dict.fromkeys(map(command_of, STAGES)))
    if until not in commands:
        raise ConfigError(f"--until {until}: not one of {', '.join(commands)}")
    if until == "train" and not run.config.train.enabled:
        raise ConfigError(
            "--until train: train.enabled is false, so nothing is trained. Set it to true, or "
            "stop earlier with --until label"
        )


def steps(run: RunDir, until: str | None = None) -> Iterator[tuple[int, str]]:
    """Yield the run's steps in order, up to and with `until`. A step is a round and a stage.

    Rounds are counted while the steps are taken, because an alarm may end training and so the
    rounds. `until` is a command. The last step is the command's last stage in the current round.
    """
    trains = run.config.train.enabled
    command, here = until or ("evaluate" if trains else "triage"), current_round(run).round_index
    left_out = () if trains else ("train", "evaluate_after")
    end = [stage for stage in stages_of(command) if stage not in left_out][-1]
    index = 0
    while index < len(all_rounds(run)):
        for stage in STAGES:
            if stage in left_out or stage == "evaluate_after" or (index and stage in RUN_WIDE):
                continue
            yield index, stage
            if stage == end and (index == here or stage in RUN_WIDE):
                return
        index += 1
    yield index - 1, "evaluate_after"


def unfinished(run: RunDir) -> list[str]:
    """The unfinished stages of the whole run, each once, the next stage first."""
    left = [stage for index, stage in steps(run) if not run.in_round(index).is_done(stage)]
    return list(dict.fromkeys(left))


def run_step(run: RunDir, stage: str) -> None:
    """Run one stage and record its time. The stage itself skips the work if it has finished."""
    done = run.is_done(stage)
    if stage != "train" and not done:
        _refuse_several_processes(run, stage)
    make: Callable[[RunDir], None] = import_module(STAGES[stage]).run
    if not done:
        place = f" (round {run.round_index})" if run.round_index else ""
        print(f"· {in_words(stage)}{place}", file=sys.stderr, flush=True)
    with run.timed(stage), nullcontext() if stage in IN_PARTS else run.turn():
        make(run)
    if stage == "calibrate" and not done and (weak := too_weak(run)):
        # It is said before people label more, and before the training.
        print(f"warning: {weak}. Labels and training will hardly help", file=sys.stderr, flush=True)


def _refuse_several_processes(run: RunDir, name: str) -> None:
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError(
            f"{name} runs in one process: run the stages before training with `pivottrace run "
            f"{run.path} --until label`, then `accelerate launch -m pivottrace.cli train "
            f"{run.path}`"
        )


def write_report(run: RunDir) -> Path:
    """Write the report of the run so far. Raises as `build_pages`."""
    with run.timed("report"), run.turn():
        return build_pages(run)


def build_pages(run: RunDir) -> Path:
    """Write the page of the telling questions, and the report, which links to it.

    Returns:
        The path of the report. Without a pool there is only the report.

    Raises:
        RunDirError: A page cannot be written, or a table of the run is torn.
    """
    if run.table_path("pool").is_file():
        write_telling(run, written=[report_path(run)])
    return build_report(run, unfinished(run))
