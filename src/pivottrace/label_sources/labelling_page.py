"""People who answer on the labelling page. They may fill in the file too."""

from __future__ import annotations

from pivottrace.label_sources import LabelSource
from pivottrace.label_sources.people import ask

PAGE = LabelSource("page", "the labelling page of `pivottrace label serve`, or a file", ask=ask)
