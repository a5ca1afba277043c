"""The run directory: where stages meet.

    config.toml          the resolved configuration
    manifest.json        versions, digests, and for each stage the settings it began with
    timings.jsonl        seconds per stage (never inside a result table, so that results repeat)
    pool.parquet         questions; evaluation.parquet, held-out questions
    labels.sqlite        the true answers that were paid for
    rounds/00, 01 …      each holds one pass of rollouts, signals, scores, triage and training
    report.html
    view/                pages of single questions

A table is either whole or absent (`storage`). Long tables are written part by part, and a finished
part is never repeated. A stage deletes a torn part (a file that has changed since it was written)
and makes it again. If the stage has finished, `reopen` lets it do so.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pyarrow as pa

from pivottrace.config import Config, dump_config, load_config
from pivottrace.errors import ConfigError, RunDirError, TornFileError, first_line
from pivottrace.run.crew import STORING_S, Crew
from pivottrace.run.other_settings import refuse_other_settings
from pivottrace.run.records import StageRecords, installed_versions, is_first_process
from pivottrace.run.storage import (
    disk_errors,
    num_rows,
    read_parquet,
    schema_of,
    sweep,
    torn,
    write_parquet,
    write_text,
)
from pivottrace.schemas import NOTED_STEP, WHOLE

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
FORGOTTEN = "forgotten"
"""The name under which `RunDir.seconds` has the time of stages that were forgotten."""


class RunDir(StageRecords):
    """One run on disk: `RunDir.create` makes or resumes it, `RunDir.open` reads it."""

    @classmethod
    def create(cls, config: Config, crew: Crew | None = None) -> RunDir:
        """Make the directory, or resume an existing one, for a crew. Raises as `locked`."""
        run = cls(config.output.expanduser(), config, crew=crew)
        with run.locked():
            return run

    @classmethod
    def open(cls, path: Path) -> RunDir:
        """Open a directory that `create` made, and write nothing.

        Raises:
            ConfigError: There is no run at this path.
            TornFileError: Its configuration cannot be read.
        """
        if not (path / "config.toml").is_file():
            raise ConfigError(
                f"{path} is not a run directory (it has no config.toml). "
                f"Start one with: pivottrace run CONFIG.toml"
            )
        try:
            config = load_config(path / "config.toml")
            if not (path / "config.toml").stat().st_size:
                raise ConfigError("it is empty")
        except ConfigError as error:
            raise TornFileError(
                f"{path / 'config.toml'} cannot be read ({first_line(error)}). Put it back from a "
                f"copy, or give the run's own configuration again: pivottrace run CONFIG.toml "
                f"--output {shlex.quote(str(path))}"
            ) from error
        # A run directory may have been moved, so its present path counts, not the stored one.
        return cls(path, config.model_copy(update={"output": path}))

    def in_round(self, index: int) -> RunDir:
        """The same run in one of its rounds: stages then read, write and record in that round."""
        return (
            self if index == self.round_index else RunDir(self.path, self.config, index, self.crew)
        )

    # Tables -----------------------------------------------------------------------------------

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
            raise RunDirError(
                f"{path} is missing. Make it with the stages before it: {self.until(made_by)}"
            )
        return path

    def until(self, command: str) -> str:
        """The command that runs everything up to a stage; it also says what people have to do."""
        until = "" if command == "run" else f" --until {command}"
        return f"pivottrace run {shlex.quote(str(self.path))}{until}"

    def part_path(self, name: str, index: int) -> Path:
        """The file of part `index` of a table in parts."""
        return self.folder_of(name) / name / f"part-{index:05d}.parquet"

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
            raise RunDirError(f"{folder} is not complete. Finish it with: {self.until(made_by)}")
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

    # One process at a time --------------------------------------------------------------------

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the run, so that only its crew writes it, and store its configuration.

        Further processes of one training write nothing and take no lock.

        Raises:
            ConfigError: A setting that a stage began with has changed; the message names the keys.
            RunBusyError: Another process holds the lock.
            RunDirError: The directory cannot be written.
        """
        if not is_first_process():
            yield
            return
        with disk_errors(self.path):
            self.round_path.mkdir(parents=True, exist_ok=True)
        with self.held():
            with self.turn():
                self._take_up()
            yield

    @contextmanager
    def held(self, wait_s: float = STORING_S) -> Iterator[None]:
        """Keep every other process from writing the run, and leave its configuration as it is.

        Args:
            wait_s: Seconds to wait for another process that holds it.

        Raises:
            RunBusyError: Another process holds the lock.
            RunDirError: The directory cannot be written.
        """
        with disk_errors(self.path):
            lock = self.crew.lock(self.path, wait_s)
        try:
            yield
        finally:
            os.close(lock)

    def _take_up(self) -> None:
        if not self.crew.is_shared:  # the file of a living worker may look abandoned
            sweep(self.path)
        self.remove_forgotten()
        self._free_training()
        self._refuse_changed_settings()
        text = dump_config(self.config)
        write_text(self.path / "config.toml", text)
        self.update_manifest(
            config_digest=hashlib.sha256(text.encode()).hexdigest(),
            versions=self.manifest.get("versions") or installed_versions(),
        )

    def remove_forgotten(self) -> None:
        """Remove the outputs of forgotten stages (`commands.redo`), as the manifest lists them.

        Their records are gone before their files are. So a killed process leaves a list, and the
        next process goes on with it.

        Raises:
            RunDirError: The list names something outside the run. Nothing is removed then.
        """
        names = self.manifest.get("to_remove", [])
        for name in map(Path, names):  # a folder of the run may be a link to another disk
            if name.is_absolute() or ".." in name.parts or not name.parts:
                raise RunDirError(
                    f"{self.path / 'manifest.json'}: to_remove names {str(name)!r}, which is not "
                    f"inside the run; put the manifest back from a copy"
                )
        for path in (self.path / name for name in names):
            if path.is_dir():
                shutil.rmtree(path.resolve())
            path.unlink(missing_ok=True)  # a link is left of a linked folder
        if names:
            self.update_manifest(to_remove=[])

    def _free_training(self) -> None:
        """Forget a training without a whole checkpoint: it begins again, with any settings."""
        rounds = self.manifest.get("rounds", {})
        for index, stages in rounds.items():
            folder = self.in_round(int(index)).round_path / "train"
            patterns = ("model", f"checkpoints/*/{WHOLE}", f"verl/checkpoints/{NOTED_STEP}")
            kept = any(found for pattern in patterns for found in folder.glob(pattern))
            if stages.get("train", {}).get("unfinished") and not kept:
                del stages["train"]
                self.update_manifest(rounds=rounds)

    def _refuse_changed_settings(self) -> None:
        rounds = self.manifest.get("rounds", {}).values()
        records = [{name: own["settings"] for name, own in stages.items()} for stages in rounds]
        refuse_other_settings(self.path, records, self.config)

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

    def forget_seconds(self, stages: Collection[str]) -> None:
        """Count what these stages took in this round as time of forgotten stages (`FORGOTTEN`)."""
        path = self.path / "timings.jsonl"
        if not path.is_file():
            return
        lines = path.read_text(errors="replace").splitlines()
        for number, line in enumerate(lines):
            with suppress(json.JSONDecodeError, KeyError, TypeError):
                row = json.loads(line)
                if row["stage"] in stages and row.get("round", 0) == self.round_index:
                    lines[number] = json.dumps(row | {"stage": FORGOTTEN, "was": row["stage"]})
        write_text(path, "".join(f"{line}\n" for line in lines))

    def seconds(self, all_rounds: bool = True) -> dict[str, float]:
        """Seconds spent on each stage over all attempts, without lines that a kill has torn.

        A forgotten stage begins at nothing again, because its old time says nothing about the files
        that are there. Its old time stands under `FORGOTTEN`, so the sum is the time really spent.
        """
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
