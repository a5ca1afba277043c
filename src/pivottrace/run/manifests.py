"""The manifest's form and its versions. A manifest that cannot be read is refused."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from pivottrace.errors import RunDirError
from pivottrace.run.storage import torn

SCHEMA_VERSION = 1
"""Version of the manifest's form. Manifests of the first versions have none, and are read too."""


def refuse_unreadable(path: Path, manifest: dict[str, Any], stages: Collection[str]) -> None:
    """Refuse a manifest of a newer version, of another form, or with a stage that is gone.

    Args:
        path: The manifest's file, for the message.
        manifest: Its entries.
        stages: Names of the stages of this version.

    Raises:
        RunDirError: Another version made the run.
        TornFileError: An entry has another form than PivotTrace writes.
    """
    version = manifest.get("schema_version", SCHEMA_VERSION)
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise RunDirError(
            f"{path.parent} was made by a newer version of pivottrace: its manifest has version "
            f"{version}, and this one reads versions up to {SCHEMA_VERSION}. Update pivottrace."
        )
    with torn(path):
        for fault in _faults(manifest):
            raise ValueError(fault)
    _refuse_older(path.parent, manifest, stages)


def _faults(manifest: dict[str, Any]) -> Iterator[str]:
    """The deviations from {"rounds": {number: {stage: {"settings": {...}, ...}}}, ...}."""
    if not isinstance(manifest.get("schema_version", SCHEMA_VERSION), int):
        yield "schema_version is not a number"
    versions, rounds = manifest.get("versions", {}), manifest.get("rounds", {})
    if not isinstance(versions, dict):
        yield "versions is not an object"
    if not isinstance(rounds, dict):
        yield "rounds is not an object"
        return
    for index, recorded in rounds.items():
        if not (index.isdecimal() and isinstance(recorded, dict)):
            yield f"round {index} is not an object under a number"
            return
        for stage, facts in recorded.items():
            if not (isinstance(facts, dict) and isinstance(facts.get("settings"), dict)):
                yield f"stage {stage} of round {index} is not an object with settings"


def _refuse_older(run: Path, manifest: dict[str, Any], stages: Collection[str]) -> None:
    """Refuse a run with a stage that no longer exists.

    Older versions had the stage `rollout`: they sampled before they traced, and kept votes in
    `scores`.
    """
    recorded = {stage for of in manifest.get("rounds", {}).values() for stage in of}
    gone = sorted(recorded.difference(stages))
    if gone:
        raise RunDirError(
            f"{run} was made by an older version, whose stage {gone[0]!r} no longer exists. Start "
            f"again in another directory (--output)."
        )
