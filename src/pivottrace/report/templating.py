"""The templates of the report and of the viewer: every text is escaped, and a gap is an error."""

from __future__ import annotations

from functools import cache

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from pivottrace.report import wording
from pivottrace.report.texts import clean, field
from pivottrace.report.view_places import anchor


@cache  # compiling the templates takes a third of the time of a report
def page_environment(*packages: str) -> Environment:
    """The environment of a page.

    Args:
        packages: Packages with further templates. They come before the report's own.
    """
    environment = Environment(
        loader=ChoiceLoader([*map(PackageLoader, packages), PackageLoader("pivottrace.report")]),
        autoescape=True,  # for every template, not only .html, because every text needs it
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "field": field,
        "clean": clean,
        "percent": lambda share: f"{100 * share:.1f} %",
        "whole": lambda number: f"{number:,}",
        "signed": signed,
        "points": lambda share: signed(100 * share, 1),
        "route_note": wording.ROUTE_MEANING.__getitem__,
        "reason_note": wording.reason_meaning,
        "move_note": wording.MOVE_MEANING.__getitem__,
        "failure_note": lambda code: wording.FAILURE_MEANING.get(code, ""),
        "anchor": anchor,
    }
    return environment


def signed(number: float, digits: int = 2) -> str:
    """A number with its sign, and a true minus."""
    return f"{number:+.{digits}f}".replace("-", "−")
