"""The files of the viewer in a run directory. The report links to them, and `redo` removes them."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from pivottrace.routing.routes import ROUTES
from pivottrace.run.records import StageRecords

# An id that is a name of a file as it stands, on file systems that ignore case too.
_PLAIN = re.compile(r"(?!.*-[0-9a-f]{8}$)[a-z0-9_][a-z0-9._-]{0,79}")


def view_folder(run: StageRecords) -> Path:
    """The folder of all pages of the viewer."""
    return run.path / "view"


def telling_page(run: StageRecords) -> Path:
    """The page with the most telling questions of every route."""
    return view_folder(run) / "index.html"


def route_page(run: StageRecords, route: str) -> Path:
    """The page with the most telling questions of a route."""
    return view_folder(run) / f"{route}.html"


def question_page(run: StageRecords, question_id: str) -> Path:
    """The page of one question."""
    return view_folder(run) / "questions" / f"{slug(question_id)}.html"


def anchor(question_id: str) -> str:
    """The anchor of a question on a page."""
    return f"question-{slug(question_id)}"


def view_outputs(run: StageRecords) -> list[Path]:
    """The viewer's files that exist: its folder, or its pages if the folder has other files too."""
    folder = view_folder(run)
    named = [telling_page(run), *(route_page(run, route) for route in ROUTES)]
    pages = [path for path in named if path.is_file()]
    pages += sorted((folder / "questions").glob("*.html"))
    others = {path for path in folder.rglob("*") if not path.is_dir()}.difference(pages)
    return pages if others or not folder.is_dir() else [folder]


def slug(question_id: str) -> str:
    """A name for files and anchors: the id itself if it can be one, else its letters and a digest.

    Different ids have different names, also where a file system ignores case.
    """
    if _PLAIN.fullmatch(question_id):
        return question_id
    letters = re.sub(r"[^a-z0-9]+", "-", question_id.lower()).strip("-")[:40]
    digest = hashlib.sha256(question_id.encode(errors="surrogatepass")).hexdigest()[:8]
    return f"{letters or 'question'}-{digest}"
