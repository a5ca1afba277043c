"""The report: one self-contained HTML file about a run directory.

Heavy libraries (matplotlib, jinja2) are imported when the report is built, not with this package.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pivottrace.run.directory import RunDir

__all__ = ["build_report"]


def build_report(
    run: RunDir, unfinished: Sequence[str], decode: Callable[[list[int]], str] | None = None
) -> Path:
    """Write `<run>/report.html` about the results of the run so far, and return its path.

    The report shows the last round that has routed its questions, not the round of `run`. It also
    shows the moves between routes from round to round. The same run directory gives the same bytes.
    If the tables of a section are missing, the section names the command that makes them.

    Args:
        run: The run, at any stage.
        unfinished: Stages that the run still has to do, the next stage first; see
            `pivottrace.pipeline.unfinished`.
        decode: Function from token ids to text, which places the pivots in the examples. The
            default is the tokenizer of the run's model, loaded only if the report has examples. If
            it cannot be loaded, the examples have their text and signal, and a note about the
            missing marks.

    Raises:
        RunDirError: The report cannot be written, or a table of the run is torn.
    """
    from pivottrace.report.render import render_report
    from pivottrace.run.rounds import latest_round

    return render_report(latest_round(run, "triage"), unfinished, decode)
