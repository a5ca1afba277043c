"""`pivottrace view`: pages of single questions, for one question, a route, or every route."""

from __future__ import annotations

import webbrowser
from collections.abc import Iterator
from pathlib import Path

from pivottrace.commands.flags import take_flag, take_option
from pivottrace.commands.opening import open_run
from pivottrace.commands.status import quoted
from pivottrace.errors import ConfigError
from pivottrace.run.directory import RunDir
from pivottrace.viewer.pages import write_question, write_route, write_telling


def view(arguments: list[str]) -> Iterator[str]:
    """`view RUN [QUESTION_ID] [--route ROUTE] [--open]`: write a page, and yield lines about it.

    Raises:
        ConfigError: The arguments are wrong, or no question has the id.
        RunDirError: The run has no questions yet, or the page cannot be written.
    """
    rest = list(arguments)
    route, opens = take_option(rest, "--route"), take_flag(rest, "--open")
    question_id = rest.pop() if len(rest) == 2 and not rest[1].startswith("--") else None
    if route is not None and question_id is not None:
        raise ConfigError("give either a question or --route")
    path = _write(open_run("view", rest), question_id, route)
    yield f"view: {quoted(path)}"
    if not opens:
        yield f"next: open {quoted(path)}"
    elif not webbrowser.open(path.resolve().as_uri()):
        yield f"no browser could be opened here; next: open {quoted(path)}"


def _write(run: RunDir, question_id: str | None, route: str | None) -> Path:
    if question_id is not None:
        return write_question(run, question_id)
    return write_telling(run) if route is None else write_route(run, route)
