"""The run directory: where stages meet.

    config.toml          the resolved configuration
    manifest.json        versions, digests, and for each stage the settings it began with
    timings.jsonl        seconds per stage (never inside a result table, so that results repeat)
    pool.parquet         questions; evaluation.parquet, held-out questions
    labels.sqlite        the true answers that were paid for
    rounds/00, 01 …      each holds one pass of rollouts, signals, scores, triage and training
    report.html

A table is either whole or absent (`storage`). Long tables are written part by part, and a finished
part is never repeated. A stage deletes a torn part (a file that has changed since it was written)
and makes it again. If the stage has finished, `reopen` lets it do so.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa

from pivottrace.config import Config, dump_config, load_config
from pivottrace.errors import ConfigError, RunDirError, TornFileError
from pivottrace.run.bindings import STAGE_SETTINGS, changed_settings, settings_of
from pivottrace.run.manifests import SCHEMA_VERSION, refuse_unreadable
from pivottrace.run.outputs import EVALUATIONS, OTHERS, TABLES
from pivottrace.run.sealing import checksum_of
from pivottrace.run.storage import (
    MANIFEST,
    disk_errors,
    num_rows,
    read_json,
    read_parquet,
    schema_of,
    sweep,
    torn,
    write_json,
    write_parquet,
    write_text,
)
from pivottrace.schemas import WHOLE

# The tables that an interrupted stage keeps when it resumes, each with its stage. The stage's
# settings are recorded before the first of these is written. Training records its settings with
# its first whole checkpoint, calibration with the first label that it buys for a probe.
KEPT: dict[str, str] = {
    "rollouts_greedy": "greedy",
    "rollouts_first": "sample",
    "rollouts_sampled": "sample",
    "rollouts_truth": "truth",
    "signals": "trace",
    "evaluation_before": "evaluate_before",
    "evaluation_after": "evaluate_after",
}
RECORDED_VERSIONS = ("pivottrace", "torch", "transformers", "trl", "pyarrow", "math-verify")
# These stages run once for all rounds. Their records stand in the first round.
RUN_WIDE = ("pool", "evaluate_before", "evaluate_after")
# Another version of these libraries may change the results.
DECISIVE_VERSIONS = ("pivottrace", "torch", "transformers", "trl")


def is_first_process() -> bool:
    """Whether this process writes: only the first of several does."""
    return os.environ.get("RANK", "0") == "0"


class RunDir:
    """One run on disk: `RunDir.create` makes or resumes it, `RunDir.open` reads it."""

    def __init__(self, path: Path, config: Config, round_index: int = 0):
        self.path = path
        self.config = config
        self.round_index = round_index

    @classmethod
    def create(cls, config: Config) -> RunDir:
        """Make the directory, or resume an existing one. Raises as `locked`."""
        run = cls(config.output.expanduser(), config)
        with run.locked():
            return run

    @classmethod
    def open(cls, path: Path) -> RunDir:
        """Open a directory that `create` made, and write nothing.

        Raises:
            RunDirError: There is no run at this path.
        """
        if not (path / "config.toml").is_file():
            raise RunDirError(
                f"{path} is not a run directory (it has no config.toml). "
                f"Start one with: pivottrace run CONFIG.toml"
            )
        config = load_config(path / "config.toml")
        # A run directory may have been moved, so its present path counts, not the stored one.
        return cls(path, config.model_copy(update={"output": path}))

    def in_round(self, index: int) -> RunDir:
        """The same run in one of its rounds: stages then read, write and record in that round."""
        return self if index == self.round_index else RunDir(self.path, self.config, index)

    @property
    def round_path(self) -> Path:
        """The current round's folder."""
        return self.path / "rounds" / f"{self.round_index:02d}"

    # Tables -----------------------------------------------------------------------------------

    def table_path(self, name: str) -> Path:
        """The file of a table: `pool` and `evaluation` belong to the run, others to a round."""
        folder = self.path if name in ("pool", "evaluation") else self._folder(name)
        return folder / f"{name}.parquet"

    def _folder(self, name: str) -> Path:
        """The folder of a table. The two evaluations lie in the first and the last round."""
        if name == "evaluation_before":
            return self.in_round(0).round_path
        if name == "evaluation_after":
            return self.in_round(self.config.rounds.num - 1).round_path
        return self.round_path

    def write_table(self, name: str, table: pa.Table) -> Path:
        """Write a whole table at once, atomically."""
        if name in KEPT:
            self.begin(KEPT[name])
        path = self.table_path(name)
        if is_first_process():
            write_parquet(path, table)
        return path

    def read_table(self, name: str, made_by: str, columns: Sequence[str] | None = None) -> pa.Table:
        """Read a table. The message about a missing table names the command `made_by`.

        Raises:
            RunDirError: The table is missing, torn, or lacks one of the columns.
        """
        return read_parquet(self.existing_table(name, made_by), columns, made_by=made_by)

    def table_schema(self, name: str) -> pa.Schema:
        """The schema of a table that exists. Raises TornFileError."""
        return schema_of(self.table_path(name))

    def existing_table(self, name: str, made_by: str) -> Path:
        """The path of a table, for readers in parts.

        Raises:
            RunDirError: It is not made yet.
            TornFileError: It was made, and is gone.
        """
        path = self.table_path(name)
        if not path.is_file():
            if self.is_done("pool" if made_by == "run" else made_by):
                with torn(path):
                    raise FileNotFoundError
            raise RunDirError(f"{path} is missing. Make it with: pivottrace {made_by} {self.path}")
        return path

    def part_path(self, name: str, index: int) -> Path:
        """The file of part `index` of a table in parts."""
        return self._folder(name) / name / f"part-{index:05d}.parquet"

    def has_part(self, name: str, index: int) -> bool:
        """Whether a part exists and is whole. A torn part is removed, so that it is made again."""
        path = self.part_path(name, index)
        if not path.is_file():
            return False
        try:
            num_rows(path)
        except TornFileError:
            path.unlink()
            return False
        return True

    def write_part(self, name: str, index: int, table: pa.Table) -> None:
        """Write one part, atomically."""
        self.begin(KEPT[name])
        write_parquet(self.part_path(name, index), table)

    def read_parts(self, name: str, made_by: str, columns: Sequence[str] | None = None) -> pa.Table:
        """All parts of a table in order. Raises as `iter_parts`."""
        return pa.concat_tables(self.iter_parts(name, made_by, columns))

    def iter_parts(
        self, name: str, made_by: str, columns: Sequence[str] | None = None
    ) -> Iterator[pa.Table]:
        """Yield one part after the other, for tables that are too long for Python objects.

        Raises:
            RunDirError: The stage has not finished, it made other parts than these, or a part
                lacks one of the columns.
        """
        folder = self.round_path / name
        if not self.is_done(made_by):
            raise RunDirError(
                f"{folder} is not complete. Finish it with: pivottrace {made_by} {self.path}"
            )
        found = {path.name for path in folder.glob("part-*.parquet")}
        num_parts = self.stage_facts(made_by).get("num_parts", len(found))
        paths = [self.part_path(name, index) for index in range(num_parts)]
        surplus = sorted(found.difference(path.name for path in paths))
        if surplus:
            raise RunDirError(
                f"{folder} should hold {num_parts} parts: {surplus[0]} is surplus "
                f"({len(surplus)} such files). Take it away, or start again in another directory "
                f"(--output)."
            )
        for path in paths:
            yield read_parquet(path, columns, made_by=made_by)

    def refuse_torn_tables(self) -> None:
        """Compare every whole table with its checksum. Raises TornFileError."""
        for folder in (self.path, *sorted((self.path / "rounds").glob("[0-9]*"))):
            for path in sorted(folder.glob("*.parquet")):
                num_rows(path)

    def outputs(self, stage: str) -> list[Path]:
        """The files and folders of a stage that exist."""
        return self._existing((*TABLES.get(stage, ()), *OTHERS.get(stage, ())))

    def _existing(self, outputs: Sequence[str]) -> list[Path]:
        folder = self.round_path.relative_to(self.path)
        tables = {name: self.table_path(name).relative_to(self.path) for name in EVALUATIONS}
        paths = [self.path / output.format(folder, **tables) for output in outputs]
        return [path for path in dict.fromkeys(paths) if path.exists()]

    # Manifest ---------------------------------------------------------------------------------

    @property
    def manifest(self) -> dict[str, Any]:
        """The manifest on disk; empty for a new run.

        Raises as `storage.read_json` and `manifests.refuse_unreadable`.
        """
        path = self.path / MANIFEST
        manifest = read_json(path) if path.is_file() else {}
        refuse_unreadable(path, manifest, STAGE_SETTINGS)
        return manifest

    def update_manifest(self, **entries: Any) -> None:
        """Replace top-level entries of the manifest. Only the first of several processes writes."""
        if not is_first_process():
            return
        entries = {"schema_version": SCHEMA_VERSION} | self.manifest | entries
        write_json(self.path / MANIFEST, entries, sort_keys=True)

    def begin(self, stage: str, **facts: Any) -> None:
        """Record the settings of a stage before it writes its first output that is kept.

        These settings cannot change afterwards. A stage that has begun or finished keeps its
        record.
        """
        if stage not in self._stages:
            self._record(stage, unfinished=True, **facts)

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
        paths = self._existing(TABLES.get(stage, ()))
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

    # One process at a time --------------------------------------------------------------------

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the run, so that two processes never write it, and store its configuration.

        Further processes of one training write nothing and take no lock.

        Raises:
            ConfigError: A setting that a stage began with has changed; the message names the keys.
            RunDirError: Another process holds the lock, or the directory cannot be written.
        """
        if not is_first_process():
            yield
            return
        with disk_errors(self.path):
            self.round_path.mkdir(parents=True, exist_ok=True)
            file = (self.path / ".lock").open("w")
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise RunDirError(
                    f"{self.path}: another process is working on this run. Wait for it to end."
                ) from None
            sweep(self.path)
            self._free_training()
            self._refuse_changed_settings()
            text = dump_config(self.config)
            write_text(self.path / "config.toml", text)
            self.update_manifest(
                config_digest=hashlib.sha256(text.encode()).hexdigest(),
                versions=self.manifest.get("versions") or installed_versions(),
            )
            yield

    def _free_training(self) -> None:
        """Forget a training without a whole checkpoint: it begins again, with any settings."""
        rounds = self.manifest.get("rounds", {})
        for index, stages in rounds.items():
            folder = self.in_round(int(index)).round_path / "train"
            kept = (folder / "model").is_dir() or any(folder.glob(f"checkpoints/*/{WHOLE}"))
            if stages.get("train", {}).get("unfinished") and not kept:
                del stages["train"]
                self.update_manifest(rounds=rounds)

    def _refuse_changed_settings(self) -> None:
        # A dictionary, because rounds that recorded the same settings give the same line.
        changed: dict[str, None] = {}
        for stages in self.manifest.get("rounds", {}).values():
            used = {stage: facts["settings"] for stage, facts in stages.items()}
            changed |= dict.fromkeys(changed_settings(used, self.config))
        if changed:
            raise ConfigError(
                f"{self.path} was made with other settings:\n  "
                + "\n  ".join(changed)
                + "\nPut them back, or give another output directory (--output)."
            )

    # Timings ----------------------------------------------------------------------------------

    @contextmanager
    def timed(self, stage: str, part: str | None = None) -> Iterator[None]:
        """Append the seconds that the block took to timings.jsonl, even when the block fails.

        With `part`, the seconds belong to a part of a stage that is timed as a whole too. Only the
        first of several processes writes them.
        """
        started = time.monotonic()
        try:
            yield
        finally:
            row = {"stage": stage, "seconds": round(time.monotonic() - started, 3)}
            if self.round_index:
                row["round"] = self.round_index
            line = json.dumps(row if part is None else row | {"part": part})
            # A disk error here must not hide an error of the stage, and must not stop the stage.
            if is_first_process():
                with suppress(OSError), (self.path / "timings.jsonl").open("a") as file:
                    file.write(line + "\n")

    def seconds(self, all_rounds: bool = True) -> dict[str, float]:
        """Seconds spent on each stage over all attempts, without lines that a kill has torn."""
        totals = self._seconds(all_rounds)
        return {stage: took for (stage, part), took in totals.items() if part is None}

    def part_seconds(self, stage: str) -> dict[str, float]:
        """Seconds spent on each timed part of a stage, over all attempts."""
        return {p: took for (of, p), took in self._seconds().items() if of == stage and p}

    def _seconds(self, all_rounds: bool = True) -> dict[tuple[str, str | None], float]:
        path = self.path / "timings.jsonl"
        totals: dict[tuple[str, str | None], float] = {}
        lines = path.read_text(errors="replace").splitlines() if path.is_file() else []
        for line in lines:
            with suppress(json.JSONDecodeError, KeyError, TypeError):
                row = json.loads(line)
                key = (row["stage"], row.get("part"))
                if all_rounds or row.get("round", 0) == self.round_index:
                    totals[key] = totals.get(key, 0.0) + row["seconds"]
        return totals


def run_parts(
    run: RunDir,
    name: str,
    num_parts: int,
    make: Callable[[int], pa.Table],
    on_part: Callable[[int], None] = lambda index: None,
) -> None:
    """Make the parts that are missing, in order.

    `on_part` is called first with the index of the last finished part before the first gap, or -1
    if the first part is missing. Then it is called with the index of each part that was made.
    """
    missing = [index for index in range(num_parts) if not run.has_part(name, index)]
    on_part(missing[0] - 1 if missing else num_parts - 1)
    for index in missing:
        run.write_part(name, index, make(index))
        on_part(index)


def part_seed(seed: int, kind: str, index: int) -> int:
    """A seed for one part: it depends on run seed, kind and part only, so not on the machine."""
    digest = hashlib.sha256(f"{seed}/{kind}/{index}".encode()).digest()
    return int.from_bytes(digest[:4], "big")


def installed_versions() -> dict[str, str]:
    """Versions of the libraries that a result may depend on."""
    return {name: version(name) for name in RECORDED_VERSIONS}
