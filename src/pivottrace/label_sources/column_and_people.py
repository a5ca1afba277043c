"""A half-labelled pool: its own answers, which cost nothing, and people for the rest."""

from __future__ import annotations

from pivottrace.label_sources import LabelSource
from pivottrace.label_sources.people import ask

COLUMN_AND_FILE = LabelSource(
    "column+file",
    "the pool's own answers, all of them and at no cost, and a file for the rest",
    ask=ask,
    owns_column=True,
)
