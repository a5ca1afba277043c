"""The records of a run's stages, in its manifest: their settings, facts and checksums."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any

from pivottrace.config import Config
from pivottrace.errors import ConfigError, RunDirError
from pivottrace.run.bindings import STAGE_SETTINGS, changed_settings, settings_of
from pivottrace.run.crew import Crew
from pivottrace.run.manifests import SCHEMA_VERSION, refuse_unreadable
from pivottrace.run.outputs import EVALUATIONS, OTHERS, TABLES
from pivottrace.run.sealing import checksum_of
from pivottrace.run.storage import MANIFEST, read_json, torn, write_json

RECORDED_VERSIONS = ("pivottrace", "torch", "transformers", "trl", "pyarrow", "math-verify")
# Entries of a stage's record beside the facts about its result.
BESIDE_FACTS = ("settings", "checksums")
# These stages run once for all rounds. Their records stand in the first round.
RUN_WIDE = ("pool", "evaluate_before", "evaluate_after")
# Another version of these libraries may change the results.
DECISIVE_VERSIONS = ("pivottrace", "torch", "transformers", "trl")


def is_first_process() -> bool:
    """Whether this process writes: only the first of several does."""
    return os.environ.get("RANK", "0") == "0"


class StageRecords:
    """The places of a run's files, and the records of each stage, seen from one round."""

    def __init__(
        self, path: Path, config: Config, round_index: int = 0, crew: Crew | None = None
    ) -> None:
        self.path = path
        self.config = config
        self.round_index = round_index
        self.crew = crew or Crew()

    def turn(self) -> AbstractContextManager[None]:
        """A block that only one worker of the crew runs at a time; see `Crew.turn`."""
        return self.crew.turn(self.path)

    # Places -----------------------------------------------------------------------------------

    @property
    def round_path(self) -> Path:
        """The current round's folder."""
        return self._round_folder(self.round_index)

    def _round_folder(self, index: int) -> Path:
        return self.path / "rounds" / f"{index:02d}"

    def table_path(self, name: str) -> Path:
        """The file of a table: `pool` and `evaluation` belong to the run, others to a round."""
        folder = self.path if name in ("pool", "evaluation") else self.folder_of(name)
        return folder / f"{name}.parquet"

    def folder_of(self, name: str) -> Path:
        """The folder of a round's table. The two evaluations lie in the first and last round."""
        if name == "evaluation_before":
            return self._round_folder(0)
        if name == "evaluation_after":
            return self._round_folder(self.config.rounds.num - 1)
        return self.round_path

    def outputs(self, stage: str) -> list[Path]:
        """The files and folders of a stage that exist."""
        return self.existing((*TABLES.get(stage, ()), *OTHERS.get(stage, ())))

    def existing(self, outputs: Iterable[str]) -> list[Path]:
        """The files and folders of these outputs that exist; `run.outputs` says how they are given.

        Each is named once.
        """
        folder = self.round_path.relative_to(self.path)
        tables = {name: self.table_path(name).relative_to(self.path) for name in EVALUATIONS}
        paths = [self.path / output.format(folder, **tables) for output in outputs]
        return [path for path in dict.fromkeys(paths) if path.exists()]

    # Records ----------------------------------------------------------------------------------

    @property
    def manifest(self) -> dict[str, Any]:
        """The manifest on disk; empty for a new run.

        Raises:
            TornFileError: It is torn. Or it is gone, and a run's files are there.
            RunDirError: As `manifests.refuse_unreadable`.
        """
        path = self.path / MANIFEST
        if not path.is_file():
            self._refuse_files_without_manifest()
            return {}
        manifest = read_json(path)
        refuse_unreadable(path, manifest, STAGE_SETTINGS)
        return manifest

    def _refuse_files_without_manifest(self) -> None:
        """Refuse files that nothing says the settings of: they may be of any."""
        if not (self.path / "config.toml").is_file():
            return
        kept = chain(self.path.glob("rounds/*/**/*.parquet"), self.path.glob("labels.sqlite"))
        if any(kept):
            with torn(self.path / MANIFEST):
                raise FileNotFoundError

    def update_manifest(self, **entries: Any) -> None:
        """Replace top-level entries of the manifest. Only the first of several processes writes."""
        if not is_first_process():
            return
        with self.turn():
            entries = {"schema_version": SCHEMA_VERSION} | self.manifest | entries
            write_json(self.path / MANIFEST, entries, sort_keys=True)

    def begin(self, stage: str, **facts: Any) -> None:
        """Record the settings of a stage before it writes its first output that is kept.

        These settings cannot change afterwards. A stage that has begun or finished keeps its
        record.

        Raises:
            ConfigError: Another worker has begun the stage with other settings.
        """
        before = self.begun_facts(stage)
        if not before:
            with self.turn():
                if not (before := self.begun_facts(stage)):
                    self._record(stage, unfinished=True, **facts)
                    return
        if changed := changed_settings({stage: before["settings"]}, self.config):
            raise ConfigError(
                f"{self.path}: another worker began with other settings:\n  "
                + "\n  ".join(map(str, changed))
                + "\nGive all workers the same settings"
            )

    def mark_done(self, stage: str, **facts: Any) -> None:
        """Record that a stage finished, with its settings and facts about its result.

        A stage that made lost files again gets its old record back, if its tables are the same.

        Raises:
            RunDirError: They differ, and later stages have used the old ones.
        """
        if not is_first_process():
            return
        before, checksums = self.begun_facts(stage), self._checksums(stage)
        if "lost" in before and checksums == before.get("checksums"):
            facts = {k: v for k, v in before.items() if k not in ("unfinished", "lost")}
        elif "lost" in before and "checksums" in before and self._later_stages(stage):
            self._refuse_other_tables(before)
        self._record(stage, **{"checksums": checksums} | facts)

    def reopen(self, stage: str, lost: Sequence[str]) -> None:
        """Let a finished stage make lost files again; names are relative to the run directory.

        The record stays, so that the settings are still bound and the new files can be compared.
        """
        facts = self.begun_facts(stage)
        lost = sorted({*facts.get("lost", ()), *lost})
        self._record(stage, **facts | {"unfinished": True, "lost": lost})

    def _checksums(self, stage: str) -> dict[str, str]:
        """Checksums of a stage's tables: one for all parts of a table, and one per route file."""
        paths = self.existing(TABLES.get(stage, ()))
        files = [
            file
            for path in paths
            for file in (sorted(path.iterdir()) if path.name == "routes" else [path])
        ]
        return {file.relative_to(self.path).as_posix(): checksum_of(file) for file in files}

    def _later_stages(self, stage: str) -> list[str]:
        """The begun stages after this stage, in this round or in a later one."""
        order, found = list(STAGE_SETTINGS), []
        for index, stages in self.manifest.get("rounds", {}).items():
            after = order if int(index) > self.round_index else order[order.index(stage) + 1 :]
            here = int(index) >= self.round_index
            found += [other for other in stages if other in after and (here or other in RUN_WIDE)]
        return found

    def _refuse_other_tables(self, before: dict[str, Any]) -> None:
        """Remove the files that were made again, so that they can be made once more."""
        for name in before["lost"]:
            (self.path / name).unlink(missing_ok=True)
        changed = self._changed_versions(RECORDED_VERSIONS)
        others = ", ".join(changed) or "other hardware, or a source that changed"
        raise RunDirError(
            f"{self.path}: {before['lost'][0]} was made again, and it is not what it was "
            f"(perhaps because of {others}). Later stages have used the old one, so the new one "
            f"was taken away. Put the old one back from a copy, run again as it was made, or "
            f"start again in another directory (--output)."
        )

    def is_done(self, stage: str) -> bool:
        """Whether a stage has finished in this round."""
        return bool(self.stage_facts(stage))

    def stage_facts(self, stage: str) -> dict[str, Any]:
        """The record of `mark_done`; empty if the stage has not finished."""
        facts = self.begun_facts(stage)
        return {} if facts.get("unfinished") else facts

    def begun_facts(self, stage: str) -> dict[str, Any]:
        """The record of `begin` or, later, of `mark_done`; empty if neither was called."""
        return self._stages.get(stage, {})

    @property
    def _stages(self) -> dict[str, dict[str, Any]]:
        """The records of the stages of this round and of the whole run, finished or not."""
        rounds = self.manifest.get("rounds", {})
        stages: dict[str, dict[str, Any]] = dict(rounds.get(str(self.round_index), {}))
        first = rounds.get("0", {})
        return stages | {name: first[name] for name in RUN_WIDE if name in first}

    def _record(self, stage: str, **facts: Any) -> None:
        with self.turn():
            rounds = self.manifest.get("rounds", {})
            stages = rounds.setdefault("0" if stage in RUN_WIDE else str(self.round_index), {})
            stages[stage] = {"settings": settings_of(stage, self.config), **facts}
            self.update_manifest(rounds=rounds)

    def other_versions(self) -> list[str]:
        """Decisive libraries whose version has changed, each as "torch 2.8 (now 2.9)"."""
        return self._changed_versions(DECISIVE_VERSIONS)

    def _changed_versions(self, names: Sequence[str]) -> list[str]:
        recorded, now = self.manifest.get("versions", {}), installed_versions()
        return [
            f"{name} {recorded[name]} (now {now[name]})"
            for name in names
            if recorded.get(name, now[name]) != now[name]
        ]


def installed_versions() -> dict[str, str]:
    """Versions of the libraries that a result may depend on."""
    return {name: version(name) for name in RECORDED_VERSIONS}
