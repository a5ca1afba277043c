"""The run directory: where stages meet.

    config.toml          the resolved configuration
    manifest.json        versions, digests, seeds, and for each finished stage the settings it used
    timings.jsonl        seconds a stage (never inside a result table, so that results repeat)
    pool.parquet         questions; evaluation.parquet, held-out questions
    labels.sqlite        true answers that were paid for
    rounds/00/           one pass of rollouts, signals, scores, triage and training
    report.html

A table is written beside its place and renamed into it, so it is either whole or absent. Long
tables are written part by part; a finished part is never repeated. A torn part (a file that parquet
cannot read) is deleted and made again.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pivottrace.config import Config, dump_config, load_config
from pivottrace.errors import ConfigError, OutOfDiskError, RunDirError

# What each stage reads of the configuration: a change there is refused once the stage has finished.
STAGE_SETTINGS: dict[str, tuple[str, ...]] = {
    "pool": ("pool", "labels.source", "answers.pattern"),
    "rollout": (
        "seed",
        "pool",
        "model.path",
        "model.revision",
        "model.dtype",
        "answers",
        "rollouts",
    ),
    "trace": ("trace", "model.path", "model.revision", "model.dtype", "pivots.reference_size"),
    "score": ("pivots", "score", "answers"),
    "calibrate": ("labels.budget", "labels.source", "calibrate"),
    "triage": ("labels.budget", "triage"),
    "label": ("labels",),
    "train": ("train",),
    "evaluate": ("evaluate",),
}
# Settings that change how fast, never what.
FREE_SETTINGS = {"trace.batch_size", "model.device"}
RECORDED_VERSIONS = ("pivottrace", "torch", "transformers", "trl", "pyarrow", "math-verify")


class RunDir:
    """One run on disk: `RunDir.create` for a new or resumed run, `RunDir.open` for a made one."""

    def __init__(self, path: Path, config: Config, round_index: int = 0):
        self.path = path
        self.config = config
        self.round_index = round_index

    @classmethod
    def create(cls, config: Config) -> RunDir:
        """Make the directory, or take up the one that is there.

        Raises:
            ConfigError: a setting that a finished stage used has changed; the keys are named.
            RunDirError: the directory cannot be written.
        """
        run = cls(config.output, config)
        with _disk_errors(run.path):
            run.round_path.mkdir(parents=True, exist_ok=True)
            run._refuse_changed_settings()
            _replace(run.path / "config.toml", dump_config(config).encode())
        if "versions" not in run.manifest:
            run.update_manifest(versions={name: version(name) for name in RECORDED_VERSIONS})
        return run

    @classmethod
    def open(cls, path: Path) -> RunDir:
        """Open a directory that `run` or `init` made.

        Raises:
            RunDirError: there is none.
        """
        if not (path / "config.toml").is_file():
            raise RunDirError(
                f"{path} is not a run directory (it has no config.toml). "
                f"Start one with: pivottrace run CONFIG.toml"
            )
        config = load_config(path / "config.toml")
        # A run directory may have been moved: where it lies is where it is.
        return cls.create(config.model_copy(update={"output": path}))

    @property
    def round_path(self) -> Path:
        """The current round's folder."""
        return self.path / "rounds" / f"{self.round_index:02d}"

    # Tables -----------------------------------------------------------------------------------

    def table_path(self, name: str) -> Path:
        """`pool` and `evaluation` belong to the run, every other table to the round."""
        folder = self.path if name in ("pool", "evaluation") else self.round_path
        return folder / f"{name}.parquet"

    def write_table(self, name: str, table: pa.Table) -> Path:
        """Write a whole table at once, atomically."""
        path = self.table_path(name)
        write_parquet(path, table)
        return path

    def read_table(self, name: str, made_by: str) -> pa.Table:
        """Read a table; `made_by` is the stage that a missing one is blamed on."""
        path = self.table_path(name)
        if not path.is_file():
            raise RunDirError(f"{path} is missing. Make it with: pivottrace {made_by} {self.path}")
        return pq.read_table(path)

    def part_path(self, name: str, index: int) -> Path:
        """Where part `index` of a table in parts lies."""
        return self.round_path / name / f"part-{index:05d}.parquet"

    def has_part(self, name: str, index: int) -> bool:
        """Whether a part is there and whole; a torn one is removed so that it is made again."""
        path = self.part_path(name, index)
        if not path.is_file():
            return False
        try:
            pq.read_metadata(path)
        except (pa.ArrowInvalid, OSError):
            path.unlink()
            return False
        return True

    def write_part(self, name: str, index: int, table: pa.Table) -> None:
        """Write one part, atomically."""
        write_parquet(self.part_path(name, index), table)

    def read_parts(self, name: str, made_by: str, columns: Sequence[str] | None = None) -> pa.Table:
        """All parts of a table in order; refuses where the stage has not finished."""
        if not self.is_done(made_by):
            raise RunDirError(
                f"{self.round_path / name} is not complete. "
                f"Finish it with: pivottrace {made_by} {self.path}"
            )
        paths = sorted((self.round_path / name).glob("part-*.parquet"))
        return pa.concat_tables([pq.read_table(path, columns=columns) for path in paths])

    # Manifest ---------------------------------------------------------------------------------

    @property
    def manifest(self) -> dict[str, Any]:
        """The manifest as it stands on disk; empty for a new run."""
        path = self.path / "manifest.json"
        return json.loads(path.read_text()) if path.is_file() else {}

    def update_manifest(self, **entries: Any) -> None:
        """Replace top-level entries of the manifest."""
        text = json.dumps(self.manifest | entries, indent=2, sort_keys=True) + "\n"
        write_text(self.path / "manifest.json", text)

    def is_done(self, stage: str) -> bool:
        """Whether a stage has finished in this round."""
        return stage in self._stages()

    def mark_done(self, stage: str, **facts: Any) -> None:
        """Record that a stage finished, with the settings it used and facts about its result."""
        settings = {key: self._setting(key) for key in STAGE_SETTINGS[stage]}
        rounds = self.manifest.get("rounds", {})
        stages = rounds.setdefault(str(self.round_index), {})
        stages[stage] = {"settings": settings, **facts}
        self.update_manifest(rounds=rounds)

    def stage_facts(self, stage: str) -> dict[str, Any]:
        """What `mark_done` recorded; empty where the stage has not finished."""
        return self._stages().get(stage, {})

    def _stages(self) -> dict[str, Any]:
        return self.manifest.get("rounds", {}).get(str(self.round_index), {})

    def _setting(self, key: str) -> Any:
        value: Any = self.config.model_dump(mode="json")
        for part in key.split("."):
            value = value[part]
        return value

    def _refuse_changed_settings(self) -> None:
        changed: list[str] = []
        for stage, facts in self._stages().items():
            for key, was in facts["settings"].items():
                changed += [
                    f"{k}: was {old!r}, now {new!r} (used by {stage})"
                    for k, old, new in _differences(key, was, self._setting(key))
                ]
        if changed:
            raise ConfigError(
                f"{self.path} was made with other settings:\n  "
                + "\n  ".join(dict.fromkeys(changed))
                + "\nPut them back, or give another output directory (--output)."
            )

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run for this process, so that two never write the same parts.

        Raises:
            RunDirError: another process holds it.
        """
        with (self.path / ".lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise RunDirError(
                    f"{self.path}: another process is working on this run. Wait for it to end."
                ) from None
            yield

    # Timings ----------------------------------------------------------------------------------

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Append the seconds that the block took to timings.jsonl, also when it fails."""
        started = time.monotonic()
        try:
            yield
        finally:
            line = json.dumps({"stage": stage, "seconds": round(time.monotonic() - started, 3)})
            with (self.path / "timings.jsonl").open("a") as file:
                file.write(line + "\n")

    def seconds(self) -> dict[str, float]:
        """Seconds spent on each stage, over all attempts."""
        path = self.path / "timings.jsonl"
        totals: dict[str, float] = {}
        for line in path.read_text().splitlines() if path.is_file() else []:
            row = json.loads(line)
            totals[row["stage"]] = totals.get(row["stage"], 0.0) + row["seconds"]
        return totals


def run_parts(
    run: RunDir,
    name: str,
    num_parts: int,
    make: Callable[[int], pa.Table],
    on_part: Callable[[int], None] = lambda index: None,
) -> None:
    """Make the parts that are missing, in order; `on_part` hears of each that is there."""
    for index in range(num_parts):
        if not run.has_part(name, index):
            run.write_part(name, index, make(index))
        on_part(index)


def part_seed(seed: int, kind: str, index: int) -> int:
    """A seed for one part: differs for every (run seed, kind, part), the same on any machine."""
    digest = hashlib.sha256(f"{seed}/{kind}/{index}".encode()).digest()
    return int.from_bytes(digest[:4], "big")


def write_parquet(path: Path, table: pa.Table) -> None:
    """Write a parquet file atomically: whole or absent, and on disk before it has its name.

    Raises:
        OutOfDiskError: the disk is full.
        RunDirError: the place cannot be written.
    """
    with _disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f".{path.name}.tmp")
        pq.write_table(table, beside, compression="zstd")
        _rename(beside, path)


def write_text(path: Path, text: str) -> None:
    """Write a small text file atomically. Raises as `write_parquet`."""
    with _disk_errors(path):
        _replace(path, text.encode())


def digest_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _differences(key: str, was: Any, now: Any) -> Iterator[tuple[str, Any, Any]]:
    if key in FREE_SETTINGS or was == now:
        return
    if isinstance(was, dict) and isinstance(now, dict):
        for name in sorted(was.keys() | now.keys()):
            yield from _differences(f"{key}.{name}", was.get(name), now.get(name))
    else:
        yield key, was, now


def _replace(path: Path, content: bytes) -> None:
    beside = path.with_name(f".{path.name}.tmp")
    beside.write_bytes(content)
    _rename(beside, path)


def _rename(beside: Path, path: Path) -> None:
    with beside.open("rb") as file:
        os.fsync(file.fileno())
    beside.replace(path)


@contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise OutOfDiskError(
                f"{path}: the disk is full. Free some room and run the same command again; "
                f"finished parts are kept."
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise RunDirError(
                f"{path}: no permission to write there. Give another place with --output."
            ) from error
        if error.errno in (errno.ENOTDIR, errno.EEXIST):
            raise RunDirError(
                f"{path}: a file is in the way. Give another place with --output."
            ) from error
        raise
