"""The pages of the viewer: which questions are on each, their links, and the files."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shlex
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from markupsafe import Markup

from pivottrace.errors import ConfigError
from pivottrace.report import collect
from pivottrace.report.templating import page_environment
from pivottrace.report.texts import clean, field
from pivottrace.report.view_places import anchor, question_page, route_page, telling_page
from pivottrace.report.wording import marked_titles
from pivottrace.routing.routes import ROUTES
from pivottrace.run.choices import driving_estimator, estimators_of
from pivottrace.run.directory import RunDir
from pivottrace.run.readings import is_combined
from pivottrace.run.rounds import current_round, latest_round
from pivottrace.run.storage import disk_errors, write_text
from pivottrace.viewer.question_view import QuestionView, question_views
from pivottrace.viewer.ranked_pool import Neighbour, RankedPool
from pivottrace.viewer.trace_view import LEVELS, SIGNALS, TraceView


def write_question(run: RunDir, question_id: str) -> Path:
    """Write the page of a question and the pages of its neighbours, so that its links work.

    It shows the last round that has routed its questions. The same run gives the same bytes.

    Raises:
        ConfigError: No question has this id. The message has similar ids.
        RunDirError: There is no pool, a table is torn, or the page cannot be written.
    """
    run = latest_round(run, "triage")
    ranked = RankedPool(run)
    ranked.refuse_unknown(question_id)
    before, after = ranked.neighbours(question_id)
    ids = [*(near.question_id for near in (*before, *after)), question_id]
    paths = [question_page(run, each) for each in ids]
    views = question_views(run, ranked, dict.fromkeys(ids), is_short=False)
    for path, view in zip(paths, views, strict=True):
        write_page(run, path, f"Question {field(view.question_id)}", [view], ranked, paths)
    return paths[-1]


def write_route(run: RunDir, route: str) -> Path:
    """Write the page of a route's most telling questions. Raises as `write_question`.

    Raises:
        ConfigError: There is no such route, or no question takes it.
    """
    if route not in ROUTES:
        raise ConfigError(f"--route {route}: not one of {', '.join(ROUTES)}")
    run = latest_round(run, "triage")
    ranked = RankedPool(run)
    chosen = {i: why for i, (own, why) in ranked.chosen().items() if own == route}
    if not chosen:
        why = "no question takes it" if ranked.triage is not None else "nothing is routed yet"
        raise ConfigError(f"--route {route}: {why}. See the routes: pivottrace status {run.path}")
    views = question_views(run, ranked, dict(chosen), is_short=True)
    path = route_page(run, route)
    return write_page(run, path, f"Telling questions of the route {route}", views, ranked)


def write_telling(run: RunDir, written: Sequence[Path] = ()) -> Path:
    """Write the page of the most telling questions of every route. Raises as `write_question`.

    Args:
        run: The run.
        written: Other files that the same command writes, such as the report.
    """
    run = latest_round(run, "triage")
    ranked = RankedPool(run)
    chosen = {question_id: why for question_id, (_, why) in ranked.chosen().items()}
    views = question_views(run, ranked, dict(chosen), is_short=True)
    title = "Telling questions" if ranked.triage is not None else "A first look"
    return write_page(run, telling_page(run), title, views, ranked, written)


def write_page(
    run: RunDir,
    path: Path,
    title: str,
    views: Sequence[QuestionView],
    ranked: RankedPool,
    written: Sequence[Path] = (),
) -> Path:
    """Write one page; return its path. It links only to files that exist or are being written.

    Args:
        run: The run, in the round that is shown.
        path: The file.
        title: Its title.
        views: Its questions.
        ranked: The ranking.
        written: Files that the same command writes, perhaps after this one.

    Raises:
        RunDirError: The page cannot be written.
    """
    here = {view.question_id: f"#{anchor(view.question_id)}" for view in views}

    def link_to(target: Path) -> str | None:
        if target not in written and not target.is_file():
            return None
        return os.path.relpath(target, path.parent).replace(os.sep, "/")

    def link(question_id: str) -> str | None:
        """A link to a question: on this page, or on its own page if that exists."""
        return here.get(question_id) or link_to(question_page(run, question_id))

    environment = page_environment("pivottrace.viewer")
    environment.filters |= {"numbers": token_numbers, "shown": shown_number}
    driving = "combination" if is_combined(run) else driving_estimator(run.config)
    script = (files("pivottrace.viewer") / "templates" / "view.js").read_text(encoding="utf-8")
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    text = environment.get_template("view.html").render(
        title=title,
        name=run.path.name,
        path=clean(shlex.quote(str(run.path))),
        report=link_to(collect.report_path(run)),
        index=None if path == telling_page(run) else link_to(telling_page(run)),
        views=views,
        by_route=_by_route(views),
        link=link,
        neighbour_links=lambda view: _steps(view, link),
        num_ranked=ranked.num_ranked,
        round=run.round_index,
        newer=current_round(run).round_index if current_round(run).begun_facts("greedy") else 0,
        estimator=marked_titles(estimators_of(run.config)).get(driving, driving),
        signals=SIGNALS,
        levels=LEVELS,
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )
    write_text(path, text)
    return path


def token_numbers(trace: TraceView) -> Markup:
    """The numbers of a trace's tokens as JSON, for the script. They are numbers only."""
    spans = [span for chunk in trace.chunks for span in chunk]
    numbers: dict[str, Any] = {"first": [s.first for s in spans], "last": [s.last for s in spans]}
    numbers |= {shade.signal.column: shade.values for shade in trace.shades}
    return Markup(json.dumps(numbers, separators=(",", ":")))


def shown_number(value: float, digits: int) -> str:
    """A number with its decimals, and no minus before a zero."""
    return f"{round(value, digits) + 0.0:.{digits}f}"


def _by_route(views: Sequence[QuestionView]) -> Mapping[str, list[QuestionView]]:
    """The questions to choose from, by route; all under "" before triage."""
    found: dict[str, list[QuestionView]] = {}
    for view in views:
        found.setdefault(view.routing.route if view.routing else "", []).append(view)
    return found


def _steps(view: QuestionView, link: Any) -> tuple[str | None, str | None]:
    """The links to the more certain and the less certain neighbour."""

    def nearest(neighbours: list[Neighbour]) -> str | None:
        return link(neighbours[0].question_id) if neighbours else None

    return nearest(view.before[::-1]), nearest(view.after)
