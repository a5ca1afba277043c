"""Label Studio's tasks, its labelling configuration, and its annotations as rows of answers.

Nothing here shows the model's answer to a person: an answer that is shown draws people to it. A
task carries a prediction without a result. Its score alone counts, because uncertainty sampling
serves the lowest score first. The facts are of Label Studio 1.23.2.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pivottrace.errors import DataError
from pivottrace.ingest.options import options_in
from pivottrace.ingest.rows import each_key_once
from pivottrace.labels.exchange import Request
from pivottrace.labels.file_rows import SHORT_FORM, FileRow, read_text
from pivottrace.run.storage import write_text

MODEL_VERSION = "pivottrace"
"""The name of our predictions. A project that does not name it serves its tasks at random."""
UNANSWERABLE = "cannot be answered"
CONFIGURATION = """\
<View style="white-space: pre-wrap">
  <Text name="question" value="$question"/>
  <TextArea name="answer" toName="question" rows="1" maxSubmissions="1" editable="true" \
placeholder="the final answer alone"/>
  <Choices name="choice" toName="question" choice="single" value="$choices"/>
</View>
"""
"""The labelling configuration. `Text` shows markup as it is written; `HyperText` would run it."""
CONTROLS = {"answer": "TextArea", "choice": "Choices"}
"""The kinds of the controls that answers are read from, by name."""
INSTRUCTION = (
    "Write the final answer alone, without the way to it, or choose an option. Skip the question "
    'if you do not know the answer. Choose "cannot be answered" if no person can answer it, '
    "because something is missing or wrong in it."
)

Task = Mapping[str, Any]


def score(place: int, number: int, request: int) -> float:
    """The score of a question; the lowest is served first.

    Args:
        place: Its place in the order of asking, from 0.
        number: Number of questions that are asked.
        request: Number of the request in its run, from 0.

    Returns:
        A score in (0, 1). All scores of a request lie below the scores of earlier requests: their
        questions have become less valuable.
    """
    lowest, bound = 1 / (request + 2), 1 / (request + 1)
    return lowest + (bound - lowest) * place / number


def task_of(request: Request, its_score: float, run: str) -> Task:
    """A task as Label Studio imports it.

    Args:
        request: The question.
        its_score: As `score` gives it.
        run: Name of the run, for people who look at several.
    """
    options = options_in(request.question)
    choices = [*(options.labels if options else ()), UNANSWERABLE]
    return {
        "data": {
            "question_id": request.id,
            "question": shown(request.question),
            "choices": [{"value": choice} for choice in choices],
            "purpose": request.purpose,
            "run": run,
        },
        "predictions": [{"model_version": MODEL_VERSION, "score": its_score, "result": []}],
    }


def shown(question: str) -> str:
    """A question as a task has it: Label Studio's database takes no NUL, and shows CR as a line."""
    return question.replace("\0", "").replace("\r\n", "\n")


def id_of(task: Task) -> str | None:
    """The id of the question that a task asks; None for a task that was not made here."""
    found = task["data"].get("question_id")
    return found if isinstance(found, str) else None


def write_tasks(path: Path, tasks: Sequence[Task]) -> tuple[Path, Path]:
    """Write tasks to a file, and the labelling configuration beside it.

    Args:
        path: Ends in `.json`; its folder exists. Tasks without annotations are replaced there.
        tasks: As `task_of` makes them.

    Returns:
        The file of the tasks, and the file of the configuration.

    Raises:
        DataError: The suffix is another one, the folder is missing, or another file is there.
        OutOfDiskError: If the disk is full.
        RunDirError: If a file cannot be written.
    """
    if path.suffix.lower() != ".json":
        raise DataError(f"{path}: tasks of Label Studio are JSON; give a name that ends in .json")
    if not path.parent.is_dir():
        raise DataError(f"{path}: its folder does not exist; make it, or choose another place")
    configuration = path.with_suffix(".xml")
    if path.exists() and not _are_our_tasks(path):
        raise DataError(f"{path} is another file and is left as it is; choose another place")
    if configuration.exists() and read_text(configuration) != CONFIGURATION:
        raise DataError(
            f"{configuration} is another file, and the labelling configuration goes there. It is "
            f"left as it is; move it away, or choose another place"
        )
    write_text(path, json.dumps(tasks, ensure_ascii=False, indent=1) + "\n")
    write_text(configuration, CONFIGURATION)
    return path, configuration


def _are_our_tasks(path: Path) -> bool:
    """Whether a file holds tasks to import, so that no answer is lost if it is replaced."""
    try:
        tasks = json.loads(read_text(path))
    except (ValueError, RecursionError):
        return False
    return isinstance(tasks, list) and all(
        isinstance(task, dict) and task.keys() == {"data", "predictions"} for task in tasks
    )


def read_export(path: Path) -> list[Task]:
    """The tasks of a file that Label Studio exported as JSON.

    Raises:
        DataError: The file is no such export.
    """
    try:
        tasks = json.loads(read_text(path), object_pairs_hook=each_key_once)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not valid JSON ({error}); export it again") from error
    found = tasks_in(str(path), tasks)
    if found and not any("annotations" in task for task in found):
        raise DataError(
            f"{path}: has tasks without annotations. This is a file for Label Studio's import; "
            f"give the file of its export (Export, JSON)"
        )
    return found


def tasks_in(origin: str, tasks: Any) -> list[Task]:
    """Tasks that came from Label Studio, with the form that `rows` needs.

    Args:
        origin: Name of the file or of the project, for messages.
        tasks: The parsed JSON.

    Raises:
        DataError: They are in another form.
    """
    if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
        raise DataError(
            f"{origin}: is no list of tasks. A label file that ends in .json is an export of Label "
            f"Studio (Export, JSON); other files end in .csv or .jsonl"
        )
    for number, task in enumerate(tasks, start=1):
        if "annotation_id" in task and "data" not in task:
            raise DataError(f"{origin}: {SHORT_FORM}")
        if not isinstance(task.get("data"), dict) or not _are_annotations(task):
            raise DataError(
                f"{origin}, row {number}: is no task of Label Studio with data and annotations. "
                f"Export the project as JSON again"
            )
    return tasks


def rows(origin: str, tasks: Iterable[Task], people: Mapping[int, str]) -> Iterator[FileRow]:
    """Yield a row for each answer, and a blank row for each task without an answer.

    Skipped and empty annotations are no answers. Drafts are none either, because they were not
    submitted.

    Args:
        origin: Name of the file or of the project, for messages.
        tasks: As `tasks_in` gives them.
        people: E-mail addresses by the number of the user; others are named by their number.

    Raises:
        DataError: An annotation has two answers, or all annotations are of another configuration.
    """
    tasks = list(tasks)
    _refuse_other_configuration(origin, tasks)
    for task in tasks:
        answered, looked_at = False, task.get("annotations") or []
        for annotation in _submitted(task):
            where = f"task {task.get('id')}, annotation {annotation.get('id')}"
            cell = _answer(annotation, f"{origin}, {where}")
            if cell:
                answered = True
                yield _row(task, where, cell, _annotator(annotation, people))
        if not answered:
            by = _annotator(looked_at[-1], people) if looked_at else None
            row = _row(task, f"task {task.get('id')}", "", by)
            yield replace(row, is_given=bool(looked_at))


def _row(task: Task, where: str, cell: str, annotator: str | None) -> FileRow:
    data = task["data"]
    return FileRow(
        where,
        str(data.get("question_id", "")),
        cell,
        annotator,
        question=str(data.get("question", "")),
        names=("question_id", "answer"),
    )


def _submitted(task: Task) -> list[dict[str, Any]]:
    """The annotations of a task that were not skipped, in order of their numbers."""
    found = [a for a in task.get("annotations", []) if not a.get("was_cancelled")]
    return sorted(found, key=lambda annotation: int(annotation.get("id", 0)))


def _answer(annotation: Mapping[str, Any], where: str) -> str:
    """The answer in an annotation, stripped; empty without one."""
    found = {text.strip(): None for text in _texts(annotation["result"])}
    given = [text for text in found if text]
    if len(given) > 1:
        raise DataError(
            f"{where}: has {len(given)} answers, {' and '.join(map(repr, given))}. Keep one of "
            f"them in Label Studio, and take the answers again"
        )
    return given[0] if given else ""


def _texts(results: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """The texts and choices of our controls. A text may stand alone or in a list."""
    for result in results:
        if result.get("from_name") not in CONTROLS:
            continue  # a control that the team has added, such as one for remarks
        for found in (result["value"].get("text", []), result["value"].get("choices", [])):
            yield from map(str, found if isinstance(found, list) else [found])


def _annotator(annotation: Mapping[str, Any], people: Mapping[int, str]) -> str | None:
    """The name of the person who answered: an export names the user by number, or as an object."""
    by = annotation.get("completed_by")
    if isinstance(by, dict):
        return by.get("email") or f"Label Studio user {by.get('id')}"
    return None if by is None else people.get(by, f"Label Studio user {by}")


def _are_annotations(task: Task) -> bool:
    """Whether the annotations of a task have the form that Label Studio gives them."""
    annotations = task.get("annotations", [])
    return isinstance(annotations, list) and all(
        isinstance(annotation, dict)
        and isinstance(annotation.get("id", 0), int)
        and isinstance(annotation.get("result"), list)
        and all(isinstance(result, dict) for result in annotation["result"])
        and all(isinstance(result.get("value"), dict) for result in annotation["result"])
        for annotation in annotations
    )


def _refuse_other_configuration(origin: str, tasks: Sequence[Task]) -> None:
    """Refuse annotations that were all made with other controls, which would look like blanks."""
    names = {
        str(result.get("from_name"))
        for task in tasks
        for annotation in _submitted(task)
        for result in annotation["result"]
    }
    if names and not names & CONTROLS.keys():
        raise DataError(
            f"{origin}: its annotations have the controls {', '.join(sorted(names))}, and answers "
            f"are read from {' and '.join(CONTROLS)}. Label with the configuration that "
            f"pivottrace label export writes with --format label-studio"
        )
