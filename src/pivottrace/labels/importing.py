"""Answers come in from people: files, corrections, and answers that differ from each other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pivottrace.errors import ConfigError, DataError, first_of
from pivottrace.label_sources import Purpose
from pivottrace.label_sources.people import FILE
from pivottrace.labels import label_studio
from pivottrace.labels.budget import STORE, labels_of
from pivottrace.labels.exchange import FileAnswer, answers_of, read_label, refuse
from pivottrace.labels.file_rows import FileRow, read_rows
from pivottrace.labels.intake import open_store, take_in
from pivottrace.labels.option_answers import check_options, is_letter
from pivottrace.labels.remarks import SOMEBODY, Remark
from pivottrace.labels.slips import unlike_the_model
from pivottrace.labels.store import Answer, Given, Label
from pivottrace.labels.store import read_answers as stored_answers
from pivottrace.labels.waiting import questions_of, requested
from pivottrace.run.directory import RunDir
from pivottrace.verifier import Verifier
from pivottrace.verifier.gold import agree

_LETTERS = (
    "the answers are letters of options, and answers.verifier compares them as mathematics. "
    'verifier = "choice" under [answers] compares letters; it takes another output directory'
)


@dataclass(frozen=True)
class Imported:
    """The fate of a file.

    Attributes:
        new: Questions that had no answer before.
        replaced: Questions whose label was replaced.
        unanswerable: Questions that cannot be answered, by this file.
        blank: Rows without an answer.
        skipped: Ids of the rows that were skipped, because their answers were not asked for.
        differing: Ids of questions whose answers differ now.
        unlike: Answers of another form than the model's own: (question id, answer, its form, the
            model's form) each.
        notes: How answers were read, where that is a question.
    """

    new: int
    replaced: int
    unanswerable: int
    blank: int
    skipped: tuple[str, ...]
    differing: tuple[str, ...]
    unlike: tuple[tuple[str, str, str, str], ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Conflict:
    """A question whose answers differ, with all of them in order of arrival."""

    question_id: str
    question: str
    answers: tuple[Answer, ...]


@dataclass(frozen=True)
class Reading:
    """A file that was read and checked, before anything is stored.

    Attributes:
        rows: Its answers.
        blank: A remark for each row that a person handed in without an answer.
        num_untouched: Rows that no person handed in, such as unopened tasks.
        skipped: Ids of the rows that were skipped, because their answers were not asked for.
        changed: Ids of questions whose label the answers replace.
        unlike: As for `Imported`.
        notes: As for `Imported`.
    """

    rows: tuple[Given, ...]
    blank: tuple[Remark, ...]
    num_untouched: int
    skipped: tuple[str, ...]
    changed: tuple[str, ...]
    unlike: tuple[tuple[str, str, str, str], ...]
    notes: tuple[str, ...]


def read_file(
    run: RunDir,
    path: Path,
    *,
    replace: bool = False,
    confirmed: bool = False,
    skip_unasked: bool = False,
) -> Reading:
    """Read a filled file, and check all of it. Nothing is stored.

    Args:
        run: In its current round.
        path: The file: `.csv`, `.jsonl`, or an export of Label Studio, `.json`.
        replace: Whether its answers take the place of earlier ones.
        confirmed: Whether people stand by answers that cannot be read, or that read as text where
            the model's answers are none.
        skip_unasked: Whether rows of questions that do not wait for a label, or that the run does
            not know, are skipped.

    Raises:
        DataError: An unknown id, a question that was not chosen, an answer that cannot be read or
            looks like a slip, or is no option of its question. The message names all rows.
        ConfigError: The file is to replace labels, and has two answers to one question.
    """
    if is_export(path):
        rows = label_studio.rows(str(path), label_studio.read_export(path), people={})
    else:
        rows = read_rows(path)
    return read_given(
        run, str(path), rows, replace=replace, confirmed=confirmed, skip_unasked=skip_unasked
    )


def is_export(path: Path) -> bool:
    """Whether a file is an export of Label Studio, and no table that people fill in."""
    return path.suffix.lower() == ".json"


def read_given(
    run: RunDir,
    origin: str,
    file_rows: Iterable[FileRow],
    *,
    replace: bool = False,
    confirmed: bool = False,
    skip_unasked: bool = False,
) -> Reading:
    """Read rows of answers, and check all of them. Nothing is stored.

    Args:
        run: In its current round.
        origin: Name of the file or of the project that they come from, for messages.
        file_rows: The rows.
        replace: As for `read_file`, like the arguments that follow.
        confirmed: Whether people stand by answers that look wrong.
        skip_unasked: Whether rows of questions that do not wait for a label are skipped.

    Raises:
        DataError: As `read_file`, or a person has seen another question under the same id.
        ConfigError: As `read_file`.
    """
    ids = run.read_table("pool", made_by="run", columns=["id"])["id"].to_pylist()
    settings, known = run.config.answers, labels_of(run)
    purposes = _purposes(run)
    only = purposes if skip_unasked else None
    file_rows = list(file_rows)
    _refuse_other_questions(run, origin, file_rows)
    found = answers_of(
        origin, file_rows, set(ids), settings.pattern, confirmed=confirmed, only=only
    )
    questions = questions_of(run, [row.question_id for row in found.rows])
    checked = check_options(found.rows, questions, settings.verifier, confirmed=confirmed)
    given = [] if confirmed else [(a.question_id, a.answer, a.place) for a in checked.rows]
    unlike = unlike_the_model(run, given)
    unasked = _unasked(origin, found.rows, purposes)
    refuse(origin, [*found.problems, *unasked, *checked.problems, *unlike.slips])
    if replace:
        with Verifier.of(settings) as verifier:
            _refuse_two_answers(checked.rows, partial(agree, equal=verifier.equal))
    rows = tuple(
        Given(i, answer, FILE.name, purposes[i], annotator, settles=replace)
        for i, answer, annotator, _ in checked.rows
    )
    changed = [row.question_id for row in rows if _changes(row, known)]
    blank = tuple(Remark(i, name or SOMEBODY, "skipped") for i, name in found.blank)
    others = [each for each in unlike.others if not is_letter(each[1], questions[each[0]])]
    notes = [*([found.note] if found.note else []), *checked.notes]
    if len(others) < len(unlike.others):
        notes.append(_LETTERS)
    return Reading(
        rows,
        blank,
        found.num_untouched,
        tuple(found.skipped),
        tuple(changed) if replace else (),
        tuple(others),
        tuple(notes),
    )


def _changes(row: Given, known: Mapping[str, Label]) -> bool:
    """Whether a row gives a question another label, or a label that calibration can use."""
    label = known.get(row.question_id)
    return label is not None and (label.answer != row.answer or label.vote_shown)


def store_file(run: RunDir, reading: Reading) -> Imported:
    """Store the answers of a file, all of them or none, and which questions it leaves open.

    An answer that differs from an earlier one is stored beside it, and neither is used until
    somebody settles the question. Raises BudgetError if they are more than the budget allows.
    """
    with Verifier.of(run.config.answers) as verifier:
        stored = take_in(run, reading.rows, partial(agree, equal=verifier.equal))
    open_store(run).remark(*reading.blank)
    no_answer = len({row.question_id for row in reading.rows if row.answer is None})
    return Imported(
        stored.new,
        stored.settled,
        no_answer,
        len(reading.blank) + reading.num_untouched,
        reading.skipped,
        stored.differing,
        reading.unlike,
        reading.notes,
    )


def read_correction(
    run: RunDir,
    question_id: str,
    text: str,
    annotator: str | None = None,
    *,
    confirmed: bool = False,
) -> Given:
    """Read and check an answer that is to be a question's label, whatever was answered before.

    Args:
        run: In its current round.
        question_id: A question that has a label or waits for one.
        text: The answer as a person writes it.
        annotator: The person's name.
        confirmed: As for `read_file`.

    Raises:
        DataError: The question neither has a label nor waits for one, or the answer cannot be read.
    """
    purposes = _purposes(run)
    if question_id not in purposes:
        raise DataError(
            f"question {question_id!r} has no label in {run.path} and does not wait for one; the "
            f"labels are in {run.path / STORE}"
        )
    where = f"question {question_id!r}"
    read = read_label(text, where, run.config.answers.pattern, confirmed=confirmed)
    if read is None:
        raise DataError(
            f"{where}: {text!r} is no answer. Give one, or 'cannot be answered' to take the "
            f"question out"
        )
    answer = read.answer
    if not confirmed:
        row = FileAnswer(question_id, answer, annotator, where)
        verifier = run.config.answers.verifier
        checked = check_options([row], questions_of(run, [question_id]), verifier)
        slips = unlike_the_model(run, [(question_id, answer, where)]).slips
        for problem in (*checked.problems, *slips):
            raise DataError(problem)
        answer = checked.rows[0].answer
    purpose = purposes[question_id]
    return Given(question_id, answer, FILE.name, purpose, annotator, settles=True)


def conflicts(run: RunDir) -> list[Conflict]:
    """The questions whose answers differ, in the order of their ids."""
    disputed = [i for i, label in labels_of(run).items() if label.disputed]
    answers, questions = stored_answers(run.path / STORE), questions_of(run, disputed)
    return [Conflict(i, questions.get(i, ""), tuple(answers[i])) for i in disputed]


def _purposes(run: RunDir) -> dict[str, Purpose]:
    """The purpose of each question that has a label or may get one by now."""
    of_labels = {i: label.purpose for i, label in labels_of(run).items()}
    return {**requested(run), **of_labels}


def _refuse_other_questions(run: RunDir, origin: str, file_rows: Sequence[FileRow]) -> None:
    """Refuse an answer to another question that has the id of one of this run."""
    seen = [row for row in file_rows if row.question is not None]
    questions = questions_of(run, list({row.id for row in seen}))
    for row in seen:
        if row.id in questions and row.question != label_studio.shown(questions[row.id]):
            raise DataError(
                f"{origin}, {row.where}: {row.id!r} is another question there than in {run.path}. "
                f"It is a task of another run; take the answers from this run's project"
            )


def _unasked(
    origin: str, answers: Sequence[FileAnswer], purposes: Mapping[str, Purpose]
) -> list[str]:
    """The problem of rows whose questions do not wait for a label: one sentence, or none."""
    unasked = [answer for answer in answers if answer.question_id not in purposes]
    if not unasked:
        return []
    others = [f"{a.place.removeprefix(f'{origin}, ')} {a.question_id!r}" for a in unasked[1:]]
    rows = f"; the same holds for {first_of(others)}" if others else ""
    return [
        f"{unasked[0].place}: question {unasked[0].question_id!r} does not wait for a label"
        f"{rows}. Fill in only the file that the run wrote last, or skip the rows of other "
        f"questions with --skip-unasked."
    ]


def _refuse_two_answers(answers: Sequence[FileAnswer], same: Callable[[str, str], bool]) -> None:
    """Refuse a file that is to replace labels and has two answers to one question."""
    first: dict[str, FileAnswer] = {}
    for each in answers:
        before = first.setdefault(each.question_id, each)
        one, other = before.answer, each.answer
        if (one is None) != (other is None) or (one and other and not same(one, other)):
            raise ConfigError(
                f"{each.place}: question {each.question_id!r} is answered "
                f"{other!r} here and {one!r} in {before.place}; with --replace, keep one of them"
            )
