"""Readings of files that older versions wrote into a run directory."""

from __future__ import annotations

from typing import Any


def with_two_evaluations(manifest: dict[str, Any]) -> dict[str, Any]:
    """Read a manifest whose evaluations before and after training share one record.

    Earlier versions had one stage `evaluate`. Its record held the figures `before` and `after` and
    their `difference`. If an evaluation was left out, the record held `skipped`.

    Args:
        manifest: The manifest on disk, from any version.

    Returns:
        The manifest with the records `evaluate_before` and `evaluate_after` in place of `evaluate`;
        the manifest itself if it has no record `evaluate`.
    """
    rounds = manifest.get("rounds", {})
    if not any("evaluate" in stages for stages in rounds.values()):
        return manifest
    return manifest | {"rounds": {index: _divided(stages) for index, stages in rounds.items()}}


def _divided(stages: dict[str, Any]) -> dict[str, Any]:
    """The records of one round, with the record of `evaluate` divided in two."""
    others = {name: facts for name, facts in stages.items() if name != "evaluate"}
    if "evaluate" not in stages:
        return others
    whole = stages["evaluate"]
    shared = {name: whole[name] for name in ("settings", "unanswered") if name in whole}
    if whole.get("unfinished"):
        # The record began with the first evaluation and was finished by it.
        return others | {"evaluate_before": shared | {"unfinished": True}}
    skipped = {name: whole[name] for name in ("skipped",) if name in whole}
    change = {name: whole[name] for name in ("difference",) if name in whole}
    if "before" in whole:
        others["evaluate_before"] = shared | {"figures": whole["before"]}
    if "after" in whole:
        others["evaluate_after"] = shared | {"figures": whole["after"]} | change
    elif skipped:  # nothing was trained, or no question could be checked
        others["evaluate_after"] = shared | skipped
    if not {"before", "after"} & whole.keys():  # no question could be checked
        others["evaluate_before"] = shared | skipped
    return others
