"""A run's project in Label Studio: made once, filled with missing tasks, read for answers."""

from __future__ import annotations

import shlex
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pivottrace.errors import (
    ConfigError,
    DataError,
    RunDirError,
    ServerError,
    TornFileError,
    counted,
)
from pivottrace.labels import label_studio
from pivottrace.labels.file_rows import FileRow
from pivottrace.labels.label_studio import Task
from pivottrace.labels.label_studio_server import LabelStudio
from pivottrace.labels.requests import missing, tasks_of
from pivottrace.labels.waiting import questions_of
from pivottrace.run.directory import RunDir
from pivottrace.run.storage import read_json, write_json

REMEMBERED = "label_studio.json"
"""The file in a run directory that has the address and the number of its project, never a key."""
SAMPLING = "Uncertainty sampling"
LONGEST_TITLE = 50  # Label Studio's own limit


@dataclass(frozen=True)
class Pushed:
    """The result of a push.

    Attributes:
        place: Address of the project.
        new: Number of tasks that were added.
        present: Number of waiting questions that had a task already.
        others: Number of tasks of questions that do not wait; they are left alone.
        order: Why the project may serve its tasks in another order; None if it does not.
    """

    place: str
    new: int
    present: int
    others: int
    order: str | None


def push(run: RunDir, studio: LabelStudio, number: int | None = None) -> Pushed:
    """Add a task for each question that waits for a label and has none in the project.

    A push that died in the middle is completed by the next one, and nothing comes twice.

    Args:
        run: In its current round, locked.
        studio: The server.
        number: The project; None takes the project of the run, which is made if it is missing.

    Raises:
        ConfigError: The server refuses the key, or the project cannot take the answers.
        DataError: The project asks another question under the same id.
        RunDirError: No question waits for a label.
        ServerError: The server is away, or not all tasks have arrived.
    """
    asked = missing(run)
    number = _project_of(run, studio, number) or _created(run, studio)
    place = place_of(studio, number)
    project = studio.project(number)
    _refuse_other_controls(place, project)
    write_json(run.path / REMEMBERED, {"url": studio.url, "project": number})
    present = _tasks_by_question(run, place, studio.tasks(number))
    scored = {task["data"]["question_id"]: task for task in tasks_of(run, asked)}
    lacking = [task for i, task in scored.items() if i not in present]
    studio.import_tasks(number, lacking)
    _score_again(studio, scored, present)
    arrived = studio.tasks(number)
    left = scored.keys() - map(label_studio.id_of, arrived)
    if left:
        raise ServerError(
            f"{place}: {counted(len(left), 'task')} of {len(lacking)} have not arrived yet. Give "
            f"the same command again; it adds only what lacks"
        )
    others = sum(label_studio.id_of(task) not in scored for task in arrived)
    return Pushed(place, len(lacking), len(scored) - len(lacking), others, _other_order(project))


def answers_in(
    run: RunDir, studio: LabelStudio, number: int | None = None
) -> tuple[str, list[FileRow]]:
    """The answers of a project, as rows of a label file.

    Args:
        run: The run.
        studio: The server.
        number: As for `push`.

    Returns:
        The address of the project, and the rows.

    Raises:
        ConfigError: The run has no project, or the server refuses the key.
        DataError: As `label_studio.rows`.
        ServerError: The server is away.
    """
    number = _project_of(run, studio, number)
    if number is None:
        raise ConfigError(
            f"{run.path} has no project in Label Studio yet. Make one with pivottrace label push, "
            f"or name one with --project N"
        )
    place = place_of(studio, number)
    tasks = label_studio.tasks_in(place, studio.tasks(number))
    return place, list(label_studio.rows(place, tasks, studio.people()))


def place_of(studio: LabelStudio, number: int) -> str:
    """The address of a project for people."""
    return f"{studio.url}/projects/{number}"


def _project_of(run: RunDir, studio: LabelStudio, number: int | None) -> int | None:
    """The number of the run's project: the user names it, or the last push has remembered it."""
    if number is not None:
        return number
    known = _remembered(run)
    if known and known["url"] != studio.url:
        named = known.get("project", "N")
        raise ConfigError(
            f"{run.path / REMEMBERED}: the project of this run is at {known['url']}, and you name "
            f"{studio.url}. If this is the same server under another name, or the project has "
            f"moved, name the project: --project {named}"
        )
    if "project" in known:
        return int(known["project"])
    return studio.project_with(known["mark"]) if known else None


def _remembered(run: RunDir) -> dict[str, Any]:
    """The address with the project's number or mark; empty before the first push.

    Raises:
        RunDirError: The file is damaged. `repair` cannot make it again.
    """
    path = run.path / REMEMBERED
    try:
        return read_json(path) if path.is_file() else {}
    except TornFileError as error:
        raise RunDirError(
            f"{path} is damaged. Name the project of this run with pivottrace label push "
            f"{shlex.quote(str(run.path))} --project N; its number is in its address"
        ) from error


def _created(run: RunDir, studio: LabelStudio) -> int:
    """Make the project of a run.

    Its mark is on the disk before the project exists. So a push that dies in between finds the
    project again.
    """
    mark = _remembered(run).get("mark") or uuid.uuid4().hex
    write_json(run.path / REMEMBERED, {"url": studio.url, "mark": mark})
    name = run.path.resolve().name
    settings = {
        "title": f"PivotTrace {name}"[:LONGEST_TITLE],
        "description": f"Questions of the run {name} ({mark})",
        "label_config": label_studio.CONFIGURATION,
        "expert_instruction": label_studio.INSTRUCTION,
        "show_instruction": True,
        "sampling": SAMPLING,
        "model_version": label_studio.MODEL_VERSION,
        "maximum_annotations": 1,
        "show_collab_predictions": False,
    }
    return studio.create_project(settings)


def _refuse_other_controls(place: str, project: Mapping[str, Any]) -> None:
    """Refuse a project whose configuration would give no answer that we can read."""
    controls = project.get("parsed_label_config") or {}
    for name, kind in label_studio.CONTROLS.items():
        if controls.get(name, {}).get("type") != kind:
            raise ConfigError(
                f"{place}: its labelling interface has no {kind} with the name {name!r}. Put the "
                f"configuration there that pivottrace label export writes with --format "
                f"label-studio (Settings, Labeling Interface, Code), or name another project"
            )


def _other_order(project: Mapping[str, Any]) -> str | None:
    """The setting by which a project serves tasks in another order than that of asking."""
    wanted = {"sampling": SAMPLING, "model_version": label_studio.MODEL_VERSION}
    for setting, value in wanted.items():
        if project.get(setting) != value:
            return f"its {setting} is {project.get(setting)!r}, and {value!r} serves them in order"
    return None


def _tasks_by_question(run: RunDir, place: str, tasks: Sequence[Task]) -> dict[str, Task]:
    """The tasks of this run's questions, by the id of the question.

    Raises:
        DataError: A task has the id of a question of this run, and asks another question.
    """
    found = {i: task for task in tasks if (i := label_studio.id_of(task)) is not None}
    questions = questions_of(run, [*found])
    for question_id, question in questions.items():
        if found[question_id]["data"].get("question") != label_studio.shown(question):
            raise DataError(
                f"{place}, task {found[question_id].get('id')}: {question_id!r} is another "
                f"question there than in {run.path}, so it belongs to another run. Name another "
                f"project with --project N"
            )
    return {i: found[i] for i in questions}


def _score_again(
    studio: LabelStudio, scored: Mapping[str, Task], present: Mapping[str, Task]
) -> None:
    """Give tasks that are there already the scores that their questions have now.

    A task of an earlier request may wait again, as a probe that became an annotation does. A task
    has no score if an import died before it was written.
    """
    for question_id in scored.keys() & present.keys():
        task, wanted = present[question_id], scored[question_id]["predictions"][0]["score"]
        ours = [p for p in task["predictions"] if p["model_version"] == label_studio.MODEL_VERSION]
        if not ours:
            studio.predict(task["id"], wanted)
        elif ours[0]["score"] != wanted:
            studio.change_score(ours[0]["id"], wanted)
