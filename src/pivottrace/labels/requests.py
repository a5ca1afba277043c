"""The files that people fill in: which one a run waits for, and how it is written."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from pivottrace.errors import RunDirError
from pivottrace.label_sources import Purpose
from pivottrace.labels.budget import labels_of
from pivottrace.labels.exchange import Request, export_requests
from pivottrace.labels.label_studio import Task, score, task_of, write_tasks
from pivottrace.labels.waiting import missing_labels, questions_of, requested, second_probes
from pivottrace.run.directory import RunDir

FILES: dict[Purpose, str] = {"probe": "probes_to_label.csv", "annotation": "annotate_to_label.csv"}
# For the second probes of an adaptive draw: the first file has answers in it by then.
MORE_PROBES = "more_probes_to_label.csv"


def export(run: RunDir, path: Path | None = None) -> Path:
    """Write the file of questions that wait for a label.

    Raises:
        RunDirError: No question waits for a label.
    """
    asked_as = missing(run)
    return write_requests(run, [*asked_as], next(iter(asked_as.values())), path)


def export_tasks(run: RunDir, path: Path | None = None) -> tuple[Path, Path]:
    """Write the questions that wait for a label as tasks of Label Studio, with its configuration.

    Args:
        run: In its current round.
        path: The file of the tasks, which ends in `.json`; None takes the request's own place in
            the run directory. The configuration lies beside it and ends in `.xml`.

    Returns:
        The file of the tasks, and the file of the configuration.

    Raises:
        DataError: The suffix or the folder is wrong, or another file is there.
        RunDirError: No question waits for a label.
    """
    asked_as = missing(run)
    path = path or _request_file(run, next(iter(asked_as.values()))).with_suffix(".json")
    return write_tasks(path, tasks_of(run, asked_as))


def missing(run: RunDir) -> dict[str, Purpose]:
    """The questions that wait for a label, with its purpose, in the order of asking.

    Raises:
        RunDirError: No question waits for a label.
    """
    known = labels_of(run)
    found = {i: purpose for i, purpose in requested(run).items() if i not in known}
    if not found:
        raise RunDirError(
            f"{run.path}: no question waits for a label. Go on with: {run.until('run')}"
        )
    return found


def tasks_of(run: RunDir, question_ids: Collection[str]) -> list[Task]:
    """Tasks of Label Studio for some of the requested questions, in the order of asking.

    A score depends on the question's place among all that the request asks. So it is the same in
    every call, whichever questions have got their labels by then.
    """
    asked_as, texts = requested(run), questions_of(run, [*question_ids])
    number = 2 * (run.round_index + run.manifest.get("redone", 0)) + run.is_done("calibrate")
    name = run.path.resolve().name
    return [
        task_of(Request(i, texts[i], purpose), score(place, len(asked_as), number), name)
        for place, (i, purpose) in enumerate(asked_as.items())
        if i in texts
    ]


def waiting_file(run: RunDir) -> Path | None:
    """The file that people have to fill in before the run can go on, if it waits for one."""
    known = labels_of(run)
    if all(i in known for i in missing_labels(run)):
        return None
    path = _request_file(run, "annotation" if run.is_done("calibrate") else "probe")
    return path if path.is_file() else None


def write_requests(
    run: RunDir, question_ids: Sequence[str], purpose: Purpose, path: Path | None = None
) -> Path:
    """Write the file that asks these questions; returns where it is.

    Args:
        run: In the round that asks.
        question_ids: In the order to ask them.
        purpose: The purpose of the labels.
        path: The file to write; None takes the request's own file in the run directory.

    Raises:
        DataError: As `exchange.export_requests`.
    """
    questions = questions_of(run, question_ids)
    path = path or _request_file(run, purpose)
    export_requests(path, [Request(i, questions[i], purpose) for i in question_ids])
    return path


def _request_file(run: RunDir, purpose: Purpose) -> Path:
    second = purpose == "probe" and second_probes(run)
    name = MORE_PROBES if second else FILES[purpose]
    if run.round_index:  # the first round's file has answers in it by then
        name = name.replace(".csv", f"_{run.round_index:02d}.csv")
    redone = run.manifest.get("redone", 0)
    if redone:  # the file of the stage that was forgotten may have answers in it
        name = name.replace(".csv", f"_again_{redone}.csv")
    return run.path / name
