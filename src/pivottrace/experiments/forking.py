"""An arm's run directory: the stages that the base run has finished under the same settings.

Files are hard-linked, or copied if the file system has no links. Linking is safe because a run
never writes into a finished table; it only renames new tables into place.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from pivottrace.config import Config
from pivottrace.experiments.definition import Arm, Experiment
from pivottrace.run.bindings import settings_of
from pivottrace.run.directory import RunDir
from pivottrace.run.records import BESIDE_FACTS
from pivottrace.run.storage import read_json, write_json
from pivottrace.stages.evidence import THRESHOLDS

STAGES = ("pool", "greedy", "trace", "score", "sample")


def shared_stages(base: Config, config: Config) -> tuple[str, ...]:
    """Return the base's stages that an arm takes over: all before the first stage that it changes.

    The arm makes that stage and all later ones itself. It takes over the accuracy before training
    if it takes over the pool and the settings of the evaluation are the same.
    """
    shared = []
    for stage in STAGES:
        if not _same(stage, base, config):
            break
        shared.append(stage)
    if shared and _same("evaluate_before", base, config):
        shared.append("evaluate_before")
    return tuple(shared)


def fork(experiment: Experiment, arm: Arm, seed: int) -> RunDir:
    """Make an arm's run directory, unless it exists.

    It appears whole or not at all. Its manifest has the facts of the base's stages under the arm's
    own settings, so it is an ordinary run from then on.
    """
    config = experiment.config(arm, seed)
    path = config.output
    if not (path / "manifest.json").is_file():
        base = RunDir.open(experiment.base_config(seed).output)
        beside = path.with_name(f".{path.name}.tmp")
        shutil.rmtree(beside, ignore_errors=True)
        copy = RunDir(beside, config)
        beside.mkdir(parents=True)
        copy.update_manifest(versions=base.manifest["versions"])
        with copy.locked():
            shared = shared_stages(base.config, config)
            for stage in shared:
                for file in base.outputs(stage):
                    link(file, beside / file.relative_to(base.path))
                facts = base.stage_facts(stage)
                copy.mark_done(stage, **{k: v for k, v in facts.items() if k not in BESIDE_FACTS})
        if "trace" in shared and "score" not in shared:
            _forget_thresholds(beside / "reference.json")
        beside.replace(path)
    return RunDir(path, config)


def _forget_thresholds(path: Path) -> None:
    """Remove the thresholds that the base's scores fixed: an arm that scores anew makes its own."""
    kept = {key: value for key, value in read_json(path).items() if key not in THRESHOLDS}
    write_json(path, kept)


def _same(stage: str, base: Config, config: Config) -> bool:
    return settings_of(stage, config) == settings_of(stage, base)


def link(source: Path, target: Path) -> None:
    """Hard-link a file, or every file of a folder, to another place; copy where links fail."""
    if source.is_dir():
        for inner in source.iterdir():
            link(inner, target / inner.name)
        return
    if target.exists():  # two stages write it
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
