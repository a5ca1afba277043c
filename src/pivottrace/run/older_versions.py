"""Run directories that older versions made are refused."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from pivottrace.errors import RunDirError


def refuse_older(path: Path, manifest: dict[str, Any], stages: Collection[str]) -> None:
    """Refuse a run directory with a stage that no longer exists.

    Older versions had the stage `rollout`: they sampled before they traced, and kept votes in
    `scores`.

    Args:
        path: The run directory, for the message.
        manifest: Its manifest.
        stages: Names of the stages of this version.

    Raises:
        RunDirError: An older version made the run.
    """
    recorded = {stage for of in manifest.get("rounds", {}).values() for stage in of}
    gone = sorted(recorded.difference(stages))
    if gone:
        raise RunDirError(
            f"{path} was made by an older version, whose stage {gone[0]!r} no longer exists. Start "
            f"again in another directory (--output)."
        )
