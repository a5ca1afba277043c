"""`pivottrace repair`: files of a run that are not as they were written are made again.

Damaged files are removed, and the stages that made them are reopened. At the next `pivottrace run`
these stages make exactly the missing files. A part's seed depends on nothing but its place, so the
new file has the old bytes, and later stages still hold (`RunDir.mark_done` compares the bytes).
Labels, trained models and logs are never removed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from pivottrace.commands.status import quoted
from pivottrace.errors import TornFileError
from pivottrace.labels.budget import bought
from pivottrace.run.bindings import STAGE_SETTINGS
from pivottrace.run.directory import RunDir
from pivottrace.run.outputs import REFERENCE, TABLES
from pivottrace.run.sealing import checksum_of
from pivottrace.run.storage import refuse_torn

# The files of the run itself lie beside the user's own, if `output` is such a folder.
OF_THE_RUN = (*TABLES["pool"], REFERENCE)
OF_ROUNDS = (
    "rounds/*/*.parquet",
    "rounds/*/*.json",
    "rounds/*/*/*.parquet",
    "rounds/*/train/settings.json",
)
GONE, CHANGED = "it is missing", "its bytes do not match the manifest"


def repair(run: RunDir) -> Iterator[str]:
    """Remove what is damaged, reopen its stages, and yield a line per file and the next command.

    Raises:
        TornFileError: The manifest is torn, so nothing says what the stages have made.
        DataError: The label store is damaged. Nothing can make paid labels again.
    """
    bought(run)
    damaged = _torn_files(run)
    reopened = set()
    for index in sorted(map(int, run.manifest.get("rounds", {}))):
        for stage in STAGE_SETTINGS:
            in_round = run.in_round(index)
            lost = _lost(in_round, stage, damaged)
            if lost:
                # The record comes before the removal: after a kill between them nothing is missed.
                in_round.reopen(stage, [path.relative_to(run.path).as_posix() for path in lost])
                reopened.add(stage)
                damaged |= lost
    for path, why in sorted(damaged.items()):
        path.unlink(missing_ok=True)
        yield f"damaged: {path.relative_to(run.path)} ({why})"
    if not damaged:
        yield "nothing is damaged"
    elif reopened == {"truth"}:
        yield f"next: pivottrace study {quoted(run.path)}"
    elif all(path.stem == "plan" for path in damaged):
        yield f"next: pivottrace plan {quoted(run.path)}"
    else:
        yield f"next: pivottrace run {quoted(run.path)}"


def _torn_files(run: RunDir) -> dict[Path, str]:
    """The files that later stages or commands read and that are torn, each with the reason."""
    found = {}
    for path in sorted(p for pattern in (*OF_THE_RUN, *OF_ROUNDS) for p in run.path.glob(pattern)):
        try:
            refuse_torn(path)
        except TornFileError as error:
            found[path] = str(error.__cause__)
    return found


def _lost(run: RunDir, stage: str, torn: Mapping[Path, str]) -> dict[Path, str]:
    """The files that a finished stage has to make again, each with the reason."""
    facts = run.stage_facts(stage)
    if not facts:
        return {}
    outputs = run.outputs(stage)
    lost = {p: why for p, why in torn.items() if any(o in (p, *p.parents) for o in outputs)}
    for name, checksum in facts.get("checksums", {}).items():
        path = run.path / name
        if not path.suffix:
            parts = [path / f"part-{i:05d}.parquet" for i in range(facts.get("num_parts", 0))]
            missing = {part: GONE for part in parts if not part.is_file()}
            # One checksum covers all parts. If each is whole, any may be of another run.
            whole = not missing and not lost.keys() & set(parts)
            if whole and checksum_of(path) != checksum:
                missing = dict.fromkeys(parts, CHANGED)
            lost |= missing
        elif not path.is_file():
            lost[path] = GONE
        elif path not in lost and checksum_of(path) != checksum:
            lost[path] = CHANGED
    if stage == "trace" and not (run.path / REFERENCE).is_file():
        lost[run.path / REFERENCE] = GONE
    # The first round makes the files of the run itself.
    return {p: why for p, why in lost.items() if run.round_index == 0 or p.parent != run.path}
