"""Labels enter the run's store here, and the first probe's label fixes how probes are drawn."""

from __future__ import annotations

import json
import operator
import shlex
from collections.abc import Callable, Sequence
from typing import Any

from pivottrace.errors import ConfigError
from pivottrace.labels.budget import STORE, allowed_labels, probes_wanted
from pivottrace.labels.store import Given, LabelStore, Stored
from pivottrace.run.bindings import settings_of
from pivottrace.run.directory import RunDir

DRAWN_BY = b"drawn_by"
"""Key of the metadata of `probes` that holds, as JSON, what they were drawn by."""
# Settings of calibration that do not change which questions are drawn.
_NOT_OF_THE_DRAW = ("answers", "labels.source")


def take_in(
    run: RunDir, rows: Sequence[Given], agree: Callable[[str, str], bool] = operator.eq
) -> Stored:
    """Store answers, all or none. `agree` says whether two answers are the same.

    Once a probe is labelled, the settings that the probes were drawn by cannot change any more.

    Raises:
        BudgetError: The store would hold more labels than the budget allows.
        ConfigError: The stored probes were drawn by other settings than the present settings.
        DataError: As `LabelStore.add_many`.
    """
    if any(row.purpose == "probe" for row in rows) and not run.begun_facts("calibrate"):
        _refuse_probes_of_another_draw(run)
        run.begin("calibrate", probes_wanted=probes_wanted(run))
    return open_store(run).add_many(rows, agree)


def open_store(run: RunDir) -> LabelStore:
    """The run's label store, opened to write; who only reads takes `budget.bought`."""
    return LabelStore(run.path / STORE, allowed_labels(run))


def drawn_by(run: RunDir) -> dict[str, Any]:
    """The inputs of the draw of probes: the settings of calibration, and the number of probes."""
    settings = settings_of("calibrate", run.config)
    kept = {key: value for key, value in settings.items() if key not in _NOT_OF_THE_DRAW}
    return kept | {"probes_wanted": probes_wanted(run)}


def _refuse_probes_of_another_draw(run: RunDir) -> None:
    """Refuse labels of probes that were drawn, and given out, before a setting of the draw changed.

    Raises:
        ConfigError: The stored probes are of another ranking, number or way of drawing.
    """
    stored = run.table_schema("probes").metadata or {}
    if DRAWN_BY not in stored:
        return  # drawn by an older version
    was, now = json.loads(stored[DRAWN_BY]), drawn_by(run)
    changed = [f"{key}: was {was[key]!r}, now {now[key]!r}" for key in now if was[key] != now[key]]
    if changed:
        raise ConfigError(
            f"the probes of {run.path} were drawn by other settings:\n  "
            + "\n  ".join(changed)
            + "\nPut them back, or draw them anew: pivottrace calibrate "
            + shlex.quote(str(run.path))
        )
