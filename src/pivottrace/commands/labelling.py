"""The commands around labels that people give: files, the page, corrections, comments."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

from pivottrace.commands.flags import take_flag, take_option
from pivottrace.commands.redo import redo, would_be_forgotten
from pivottrace.commands.status import or_without, quoted
from pivottrace.errors import ConfigError, counted, first_of
from pivottrace.ingest.settling import shortened
from pivottrace.labels import importing, requests
from pivottrace.labels.budget import STORE, labels_of, source_of
from pivottrace.labels.buying import settling
from pivottrace.labels.intake import take_in
from pivottrace.labels.remarks import read_remarks
from pivottrace.labels.store import Answer
from pivottrace.labels.used import stages_that_used
from pivottrace.report.texts import clean, field
from pivottrace.run.directory import RunDir
from pivottrace.run.rounds import current_round


def export(arguments: list[str]) -> Iterator[str]:
    """`label export RUN [FILE]`."""
    rest = list(arguments)
    form = take_option(rest, "--format")
    run = run_of(rest, "label export RUN [FILE] [--format label-studio]", (1, 2))
    path = Path(rest[1]) if len(rest) > 1 else None
    if form == "label-studio":
        yield from _export_tasks(run, path)
        return
    if form is not None:
        raise ConfigError(
            f"--format {form}: give label-studio, or leave --format out for a file that ends in "
            f".csv or .jsonl"
        )
    with run.locked():
        path = requests.export(run, path)
    yield (
        f"wrote {path}; next: fill in `answer`, then: pivottrace label import "
        f"{quoted(run.path)} {quoted(path)}"
    )


def _export_tasks(run: RunDir, path: Path | None) -> Iterator[str]:
    with run.locked():
        tasks, configuration = requests.export_tasks(run, path)
    yield f"wrote {tasks} and {configuration}"
    yield (
        f"next: in a project of Label Studio, put {configuration.name} into Settings, Labeling "
        f"Interface, Code, and import {tasks.name}. Answer there, export as JSON, then: "
        f"pivottrace label import {quoted(run.path)} EXPORT.json. Or have all of this done by: "
        f"pivottrace label push {quoted(run.path)}"
    )


def import_(arguments: list[str]) -> Iterator[str]:
    """`label import RUN FILE`."""
    rest = list(arguments)
    options, again = take_import_flags(rest)
    run = run_of(rest, f"label import RUN FILE {IMPORT_FLAGS}", (2,))
    path = Path(rest[1])
    reading = importing.read_file(run, path, **options)
    in_studio = "answer the rest in Label Studio, export it again and import that file"
    fill_in = in_studio if importing.is_export(path) else None
    yield from taken_in(run, reading, again, ["import", *arguments], fill_in)


IMPORT_FLAGS = "[--replace] [--confirm] [--skip-unasked] [--redo]"


def take_import_flags(arguments: list[str]) -> tuple[dict[str, bool], bool]:
    """Remove the flags of an import, and return the options of its reading, and `--redo`."""
    flags = {"replace": "replace", "confirmed": "confirm", "skip_unasked": "skip-unasked"}
    options = {name: take_flag(arguments, f"--{flag}") for name, flag in flags.items()}
    return options, take_flag(arguments, "--redo")


def taken_in(
    run: RunDir,
    reading: importing.Reading,
    again: bool,
    command_line: Sequence[str],
    fill_in: str | None = None,
) -> Iterator[str]:
    """Store answers that were read and checked; yields the result and the next command.

    Args:
        run: In its current round.
        reading: The answers. All was checked before a stage is forgotten for it.
        again: Whether the stages that used a changed label are forgotten.
        command_line: The present command after `pivottrace label`, for the refusal.
        fill_in: How to give the answers that are missing; None names the file that waits.
    """
    run, gone = _forget_what_used(run, reading.changed, again, command_line)
    with run.locked():
        found = importing.store_file(run, reading)
    yield from gone
    yield from _imported(run, found, fill_in)


def correct(arguments: list[str]) -> Iterator[str]:
    """`label correct RUN ID ANSWER`."""
    rest = list(arguments)
    confirmed, again = (take_flag(rest, f"--{name}") for name in ("confirm", "redo"))
    annotator = take_option(rest, "--by")
    usage = "label correct RUN ID ANSWER [--by NAME] [--confirm] [--redo]"
    run, question_id = run_of(rest, usage, (3,)), rest[1]
    given = importing.read_correction(run, question_id, rest[2], annotator, confirmed=confirmed)
    before, gone = labels_of(run).get(question_id), list[str]()
    if before is None or before.answer != given.answer or before.vote_shown:
        run, gone = _forget_what_used(run, [question_id], again, ["correct", *arguments])
    with run.locked():
        take_in(run, [given])
    was = "" if before is None else f" (before: {_words(before.answer)})"
    yield from gone
    stored = f"{field(question_id)}: {_words(given.answer)}{was}"
    yield f"{stored}; next: pivottrace run {quoted(run.path)}"


def conflicts(arguments: list[str]) -> Iterator[str]:
    """`label conflicts RUN`."""
    run = run_of(arguments, "label conflicts RUN", (1,))
    found = importing.conflicts(run)
    if not found:
        yield "no answers differ from each other"
        return
    for conflict in found:
        yield f"{field(conflict.question_id)}  {field(shortened(conflict.question))}"
        for answer in conflict.answers:
            yield f"    {_words(answer.answer)}  by {_giver(answer)}"
        yield f"    to settle: {clean(settling(run, conflict.question_id))}"
    if any(all(a.annotator is None for a in conflict.answers) for conflict in found):
        yield (
            f"if the last answers are your own corrections: pivottrace label import "
            f"{quoted(run.path)} FILE --replace"
        )


def _giver(answer: Answer) -> str:
    """The person who gave an answer, with the time if there is no name."""
    if answer.annotator is not None:
        return field(answer.annotator)
    return f"somebody at {answer.created_at}" if answer.created_at else "somebody"


def comments(arguments: list[str]) -> Iterator[str]:
    """`label comments RUN`."""
    run = run_of(arguments, "label comments RUN", (1,))
    found = [each for each in read_remarks(run.path / STORE) if each.kind == "comment"]
    if not found:
        yield "no comments"
    for each in found:
        yield f"{field(each.question_id)}  {field(each.text)}  by {field(each.annotator)}"


def serve(arguments: list[str]) -> Iterator[str]:
    """`label serve RUN`."""
    from pivottrace.label_page.serving import DEFAULT_PORT, HIGHEST_PORT  # heavy, as is the next
    from pivottrace.label_page.serving import serve as serve_page

    rest = list(arguments)
    opens, port = take_flag(rest, "--open"), take_option(rest, "--port")
    run = run_of(rest, "label serve RUN [--port N] [--open]", (1,))
    if port is not None and not (port.isdecimal() and int(port) <= HIGHEST_PORT):
        raise ConfigError(f"--port {port}: give a whole number up to {HIGHEST_PORT}")
    if run.is_done("pool") and source_of(run).ask is None:
        name = source_of(run).name
        raise ConfigError(
            f"labels.source = {name!r} has its answers already, so {run.path} does not ask people. "
            f"Set labels.source to 'page' or 'file' to ask people"
        )
    yield from serve_page(run.path, DEFAULT_PORT if port is None else int(port), opens=opens)
    yield f"next: pivottrace run {quoted(run.path)}"


def run_of(arguments: list[str], usage: str, lengths: Collection[int]) -> RunDir:
    """The run that the first argument names, in its current round.

    Raises:
        ConfigError: There are more or fewer arguments than the usage has, or unknown flags.
    """
    if len(arguments) not in lengths or any(text.startswith("--") for text in arguments[:2]):
        raise ConfigError(f"usage: pivottrace {usage}")
    return current_round(RunDir.open(Path(arguments[0])))


def _forget_what_used(
    run: RunDir, question_ids: Collection[str], again: bool, command_line: Sequence[str]
) -> tuple[RunDir, list[str]]:
    """Forget the stages that used one of these labels, or refuse to change them.

    `command_line` is the present command after `pivottrace label`, for the refusal.

    Returns:
        The run in the round that is the current one then, and lines about what went with the
        stages.

    Raises:
        ConfigError: A stage has used one of them, and the user has not asked for `--redo`.
    """
    used = stages_that_used(run, question_ids)
    if used is None:
        return run, []
    where, command = run.in_round(used[0]), used[1]
    if not again:
        would = would_be_forgotten(where, command)
        stages = ", ".join(name.replace("_", " ") for name in would.stages)
        raise ConfigError(
            f"{command} has used this label already. It can be changed, if these stages are made "
            f"again: {stages}. Rollouts and labels are kept. "
            f"{_goes_too(would.beside)}To do just that: "
            f"{shlex.join(['pivottrace', 'label', *command_line, '--redo'])}"
        )
    return where, list(redo(where, command).lines())


def _goes_too(names: Sequence[str]) -> str:
    return (
        f"Files that show their results go: {', '.join(map(shlex.quote, names))}. " if names else ""
    )


def _imported(run: RunDir, found: importing.Imported, fill_in: str | None) -> Iterator[str]:
    unit = "task" if fill_in else "row"
    fates: list[tuple[int, Callable[[int], str]]] = [
        (found.unanswerable, lambda n: f'{n} of them "cannot be answered"'),
        (found.replaced, lambda n: f"{n} replaced"),
        (found.blank, lambda n: f"{counted(n, unit)} {'has' if n == 1 else 'have'} no answer yet"),
        (len(found.skipped), lambda n: f"{counted(n, 'row')} skipped ({_ids(found.skipped)})"),
    ]
    more = "".join(f", {words(n)}" for n, words in fates if n)
    new = counted(found.new, "new label")
    yield from (f"note: {note}" for note in found.notes)
    for question_id, answer, kind, own in found.unlike:
        yield (
            f"note: question {field(question_id)}: {field(answer)!r} reads as {kind}, and the "
            f"model's answers as {own}. If it is a slip: pivottrace label correct "
            f"{quoted(run.path)} {shlex.quote(field(question_id))} ANSWER"
        )
    place = quoted(run.path)
    if found.differing:
        what = "1 answer differs" if len(found.differing) == 1 else f"{len(found.differing)} differ"
        yield (
            f"{new} taken in{more}; {what} from an earlier answer and waits to be settled "
            f"(--replace takes a corrected file's answers as settled); next: "
            f"pivottrace label conflicts {place}"
        )
        return
    if found.new and run.begun_facts("train"):
        yield (
            f"{new} taken in{more}; training began without them. To train with them: "
            f"pivottrace redo {place} train, then pivottrace run {place}"
        )
        return
    waiting = requests.waiting_file(run)
    if found.blank and waiting is not None:
        yield (f"{new} taken in{more}; next: {fill_in or _fill_in(waiting)}{or_without(run)}")
        return
    yield f"{new} taken in{more}; next: pivottrace run {place}"


def _fill_in(waiting: Path) -> str:
    return f"fill in the rest of {quoted(waiting)} and import it again"


def _ids(ids: Sequence[str]) -> str:
    return first_of([field(question_id) for question_id in ids])


def _words(answer: str | None) -> str:
    return "cannot be answered" if answer is None else field(answer)
