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
    run = _run_of(arguments, "label export RUN [FILE]", (1, 2))
    with run.locked():
        path = requests.export(run, Path(arguments[1]) if len(arguments) > 1 else None)
    yield (
        f"wrote {path}; next: fill in `answer`, then: pivottrace label import "
        f"{quoted(run.path)} {quoted(path)}"
    )


def import_(arguments: list[str]) -> Iterator[str]:
    """`label import RUN FILE`."""
    rest = list(arguments)
    flags = ("replace", "confirm", "skip-unasked", "redo")
    replace, confirmed, skip_unasked, again = (take_flag(rest, f"--{name}") for name in flags)
    usage = "label import RUN FILE [--replace] [--confirm] [--skip-unasked] [--redo]"
    run, path = _run_of(rest, usage, (2,)), Path(rest[1])
    # All is checked before a stage is forgotten for it.
    reading = importing.read_file(
        run, path, replace=replace, confirmed=confirmed, skip_unasked=skip_unasked
    )
    run, gone = _forget_what_used(run, reading.changed, again, ["import", *arguments])
    with run.locked():
        found = importing.store_file(run, reading)
    yield from gone
    yield from _imported(run, found)


def correct(arguments: list[str]) -> Iterator[str]:
    """`label correct RUN ID ANSWER`."""
    rest = list(arguments)
    confirmed, again = (take_flag(rest, f"--{name}") for name in ("confirm", "redo"))
    annotator = take_option(rest, "--by")
    usage = "label correct RUN ID ANSWER [--by NAME] [--confirm] [--redo]"
    run, question_id = _run_of(rest, usage, (3,)), rest[1]
    given = importing.read_correction(run, question_id, rest[2], annotator, confirmed=confirmed)
    before, gone = labels_of(run).get(question_id), list[str]()
    if before is None or before.answer != given.answer:
        run, gone = _forget_what_used(run, [question_id], again, ["correct", *arguments])
    with run.locked():
        take_in(run, [given])
    was = "" if before is None else f" (before: {_words(before.answer)})"
    yield from gone
    stored = f"{field(question_id)}: {_words(given.answer)}{was}"
    yield f"{stored}; next: pivottrace run {quoted(run.path)}"


def conflicts(arguments: list[str]) -> Iterator[str]:
    """`label conflicts RUN`."""
    run = _run_of(arguments, "label conflicts RUN", (1,))
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
    run = _run_of(arguments, "label comments RUN", (1,))
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
    run = _run_of(rest, "label serve RUN [--port N] [--open]", (1,))
    if port is not None and not (port.isdecimal() and int(port) <= HIGHEST_PORT):
        raise ConfigError(f"--port {port}: give a whole number up to {HIGHEST_PORT}")
    if run.is_done("pool") and source_of(run).ask is None:
        name = source_of(run).name
        raise ConfigError(
            f"labels.source = {name!r} has its answers already, so {run.path} asks nobody. Set "
            f"labels.source to 'page' or 'file' to ask people"
        )
    yield from serve_page(run.path, DEFAULT_PORT if port is None else int(port), opens=opens)
    yield f"next: pivottrace run {quoted(run.path)}"


def _run_of(arguments: list[str], usage: str, lengths: Collection[int]) -> RunDir:
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


def _imported(run: RunDir, found: importing.Imported) -> Iterator[str]:
    fates: list[tuple[int, Callable[[int], str]]] = [
        (found.unanswerable, lambda n: f'{n} of them "cannot be answered"'),
        (found.replaced, lambda n: f"{n} replaced"),
        (found.blank, lambda n: f"{n} {'row has' if n == 1 else 'rows have'} no answer yet"),
        (len(found.skipped), lambda n: f"{counted(n, 'row')} skipped ({_ids(found.skipped)})"),
    ]
    more = "".join(f", {words(n)}" for n, words in fates if n)
    new = counted(found.new, "new label")
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
        yield (
            f"{new} taken in{more}; next: fill in the rest of {quoted(waiting)} and import it "
            f"again{or_without(run)}"
        )
        return
    yield f"{new} taken in{more}; next: pivottrace run {place}"


def _ids(ids: Sequence[str]) -> str:
    return first_of([field(question_id) for question_id in ids])


def _words(answer: str | None) -> str:
    return "cannot be answered" if answer is None else field(answer)
