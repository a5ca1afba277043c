"""The report: a run directory in, one self-contained HTML file out.

Heavy libraries (matplotlib, jinja2) are imported when the report is built, not with this package.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pivottrace.run.directory import RunDir

__all__ = ["build_report", "summary"]


def build_report(
    run: RunDir, unfinished: Sequence[str], decode: Callable[[list[int]], str] | None = None
) -> Path:
    """Write `<run>/report.html` of whatever the run has so far, and return its path.

    It shows the last round that has routed its questions, whatever round `run` is in, and how they
    moved between routes from round to round. The same run directory gives the same bytes. Sections
    whose tables are missing say which command makes them.

    Args:
        run: The run, at any stage.
        unfinished: Stages that the run still has to do, the next one first; see
            `pivottrace.pipeline.unfinished`.
        decode: Token ids to text, used to place pivots in the examples. By default the tokenizer
            of the run's model, loaded only when there are examples to show; where it cannot be
            loaded the examples have their text and their signal, and say that marks are missing.

    Raises:
        RunDirError: The report cannot be written, or a table of the run is torn.
    """
    from pivottrace.report.render import render_report
    from pivottrace.run.rounds import latest_round

    return render_report(latest_round(run, "triage"), unfinished, decode)


def summary(run: RunDir) -> dict[str, Any]:
    """Return the headline figures, for the command line's closing lines.

    Keys: `questions`, `probes`, `routes` (counts by route), `labels_used`, `labels_allowed`,
    `accuracy_before` and `accuracy_after` ({accuracy, low, high}, shares in [0, 1], 95 % interval),
    `difference` ({mean, low, high}, paired), `seconds` (by stage), `report` (path). A figure that
    the run does not have yet is None.
    """
    from pivottrace.report.collect import headline

    return headline(run)
