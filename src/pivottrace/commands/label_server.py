"""The commands around labels that people give in Label Studio: push, pull."""

from __future__ import annotations

from collections.abc import Iterator

from pivottrace.commands.flags import take_option
from pivottrace.commands.labelling import IMPORT_FLAGS, run_of, take_import_flags, taken_in
from pivottrace.commands.status import quoted
from pivottrace.errors import ConfigError, counted
from pivottrace.labels.importing import read_given
from pivottrace.labels.label_projects import answers_in
from pivottrace.labels.label_projects import push as push_tasks
from pivottrace.labels.label_studio_server import LabelStudio

WHERE = "[--url URL] [--project N]"


def push(arguments: list[str]) -> Iterator[str]:
    """`label push RUN`."""
    rest = list(arguments)
    studio_url, number = take_option(rest, "--url"), _number(take_option(rest, "--project"))
    run = run_of(rest, f"label push RUN {WHERE}", (1,))
    with LabelStudio(studio_url) as studio, run.locked():
        pushed = push_tasks(run, studio, number)
    present = f", {pushed.present} were there already" if pushed.present else ""
    others = f", {pushed.others} of other questions left alone" if pushed.others else ""
    if pushed.order:
        yield f"note: {pushed.place} may ask in another order: {pushed.order}"
    yield (
        f"{counted(pushed.new, 'task')} added to {pushed.place}{present}{others}; next: answer "
        f"them there (Label All Tasks asks the most valuable first), then: pivottrace label pull "
        f"{quoted(run.path)}"
    )


def pull(arguments: list[str]) -> Iterator[str]:
    """`label pull RUN`."""
    rest = list(arguments)
    options, again = take_import_flags(rest)
    studio_url, number = take_option(rest, "--url"), _number(take_option(rest, "--project"))
    run = run_of(rest, f"label pull RUN {WHERE} {IMPORT_FLAGS}", (1,))
    with LabelStudio(studio_url) as studio:
        place, rows = answers_in(run, studio, number)
    reading = read_given(run, place, rows, **options)
    fill_in = f"answer the rest in {place} and pull again"
    yield from taken_in(run, reading, again, ["pull", *arguments], fill_in)


def _number(text: str | None) -> int | None:
    if text is None:
        return None
    if not text.isdecimal():
        raise ConfigError(f"--project {text}: give the number in the address of the project")
    return int(text)
