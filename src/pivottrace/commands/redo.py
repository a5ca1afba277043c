"""Stages are forgotten, so that the run makes them again: for a corrected label, or more money."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pivottrace.config import Config
from pivottrace.errors import ConfigError
from pivottrace.exports.writing import exports_of_before
from pivottrace.labels.budget import labels_of, refuse_unusable_budget
from pivottrace.pipeline import STAGES, stages_of
from pivottrace.report.collect import report_path
from pivottrace.report.view_places import view_outputs
from pivottrace.routing.routes import Reason
from pivottrace.run.bindings import Changed, changed_settings
from pivottrace.run.choices import most_rows
from pivottrace.run.directory import RunDir
from pivottrace.run.outputs import AUDIT, PLAN, TABLES

# The stages that can be made again, by their command. `calibrate` includes triage and label: a
# second triage has to know the labels that the first one bought, and calibration reads them. It
# takes seconds.
FROM = ("calibrate", "train", "evaluate")
# Their files. The probes stay, because people may be labelling them. Stages before them are kept:
# rollouts of the first round are never made again.
PROBES = "{}/probes.parquet"
FILES = {
    "calibrate": tuple({*TABLES["calibrate"], *TABLES["triage"]} - {PROBES}),
    "train": (*TABLES["train"], "{}/train"),
    "evaluate": TABLES["evaluate_after"],
}


class Forgotten(NamedTuple):
    """The stages and files that a `redo` forgets.

    Attributes:
        stages: Names of the stages, in order.
        beside: Names of further files and folders that show the results of these stages, relative
            to the run directory: plans, lists, exports, the report, the viewer's pages, and the
            folders of later rounds.
        notes: A note about each export that somebody has changed. It stays.
    """

    stages: list[str]
    beside: list[str]
    notes: list[str]

    def lines(self) -> Iterator[str]:
        """Lines about the files that go with the stages, and about exports that stay."""
        if self.beside:
            yield f"removed with them: {', '.join(map(shlex.quote, self.beside))}"
        yield from (f"note: {note}" for note in self.notes)


def redo(run: RunDir, command: str, config: Config | None = None) -> Forgotten:
    """Forget the stages of a command, and every later one of this and all later rounds.

    Labels are kept, and so is everything before. A later round's rollouts come from a model that is
    trained anew, so its whole folder goes. Plans, lists, exports, the report and the viewer's pages
    go too, because they show the forgotten stages and not the new ones. The time that the forgotten
    stages took still counts as spent.

    Args:
        run: In the round where the stages are forgotten.
        command: One of `FROM`.
        config: The configuration that the run is to have; None keeps the present one.

    Raises:
        ConfigError: The command cannot be made again, or a stage that is kept began with another
            value of a changed setting.
        RunDirError: Another process is working on the run.
    """
    if command not in FROM:
        raise ConfigError(f"redo {command}: not one of {', '.join(FROM)}")
    with run.locked():
        rounds, _ = _without(run, command)
        if config is not None:
            _refuse_settings_of_kept_stages(run, rounds, config)
        forgotten = would_be_forgotten(run, command)
        after = FROM[FROM.index(command) :]
        gone = run.existing(name for each in after for name in FILES[each])
        later = _later_rounds(run)
        run.update_manifest(
            rounds=rounds,
            redone=run.manifest.get("redone", 0) + (command == "calibrate"),
            to_remove=[*_names(run, gone), *forgotten.beside],
        )
        run.remove_forgotten()
        run.forget_seconds(_stages_from(command))
        for each in later:
            each.forget_seconds(STAGES)
    return forgotten


def would_be_forgotten(run: RunDir, command: str) -> Forgotten:
    """The stages and files that `redo` would forget."""
    _, stages = _without(run, command)
    later = [each.round_path for each in _later_rounds(run)]
    if not stages:
        return Forgotten([], _names(run, later), [])
    exports, notes = exports_of_before(run, run.round_index + (command != "calibrate"))
    shown = run.existing(PLAN if command == "calibrate" else ())
    shown += run.existing((AUDIT,) if "calibrate" in stages else ())  # of this round or a later one
    shown += [path for path in (report_path(run),) if path.is_file()]
    shown += view_outputs(run)
    return Forgotten(stages, _names(run, [*shown, *exports, *later]), notes)


def first_other_round(run: RunDir, config: Config) -> RunDir:
    """The run in its first round that was made with other settings; the same round if none was."""
    for index, stages in sorted(run.manifest.get("rounds", {}).items(), key=lambda r: int(r[0])):
        used = {stage: facts["settings"] for stage, facts in stages.items()}
        if changed_settings(used, config):
            return run.in_round(int(index))
    return run


def take_new_budget(run: RunDir, config: Config) -> list[str]:
    """Let a run take another budget between triage and training; returns lines about it.

    Nothing that costs much is made again: calibration and triage take seconds, and the labels stay.
    A run that trains already is not touched: `redo` is then the user's choice.
    """
    facts = run.stage_facts("triage")
    was, now = (facts.get("settings") or {}).get("labels.budget"), config.labels.budget
    if not facts or run.round_index or was == now or run.begun_facts("train"):
        return []
    if not run.stage_facts("calibrate").get("labels_allowed"):
        return []  # without a probe nothing says what a label would teach; triage explains it
    if any(each.key != "labels.budget" for each in _other_settings(run, config)):
        return []  # the usual refusal names them
    refuse_unusable_budget(RunDir(run.path, config, run.round_index))  # before stages are forgotten
    forgotten = redo(run, "calibrate", config)
    return [
        f"note: labels.budget was {was:g} and is {now:g}: the questions are routed again, and the "
        f"labels that are there ({len(labels_of(run)):,}) stay",
        *forgotten.lines(),
    ]


def take_new_steps(run: RunDir, config: Config) -> list[str]:
    """Let a run take other steps between triage and labels, if other votes find a place then.

    Returns lines about it. Once all labels are there, routing again is the user's choice: it would
    judge labelled questions by their answers, and drop some of them.
    """
    facts, now = run.stage_facts("triage"), most_rows(config)
    was = facts.get("most_rows", now)  # older versions had no limit
    if run.round_index or was == now or run.begun_facts("train") or config.triage.mode == "fixed":
        return []
    found = facts["counts"]
    more = facts["put_off"].get(Reason.DEFER_NO_PLACE) and now > max(was, found["annotate"])
    fewer = found["weak"] and now < found["annotate"] + found["weak"]
    if not (more or fewer) or _other_settings(run, config):
        return []
    change = f"note: the steps of training left places for {was:,} rows and leave {now:,} now"
    if run.is_done("label"):
        again = f"pivottrace redo {shlex.quote(str(run.path))} calibrate"
        return [f"{change}; the routes stay as they are. To route again, keeping labels: {again}"]
    forgotten = redo(run, "calibrate", config)
    return [f"{change}: the questions are routed again, and all labels stay", *forgotten.lines()]


def _other_settings(run: RunDir, config: Config) -> list[Changed]:
    """Settings that changed since a stage of this round used them."""
    stages = run.manifest["rounds"][str(run.round_index)]
    return changed_settings({name: each["settings"] for name, each in stages.items()}, config)


def _without(run: RunDir, command: str) -> tuple[dict[str, Any], list[str]]:
    """The manifest's records of rounds without the forgotten stages, and the names of these."""
    after = _stages_from(command)
    rounds: dict[str, dict[str, Any]] = {}
    forgotten: dict[str, None] = {}
    for index, stages in run.manifest.get("rounds", {}).items():
        kept = dict(stages)
        for name in list(kept):
            is_later = int(index) > run.round_index
            of_round = int(index) == run.round_index and name in after
            if is_later or of_round or (name == "evaluate_after" and name in after):
                forgotten[name] = None
                del kept[name]
        if int(index) == run.round_index and "calibrate" in forgotten:
            kept |= _probes_kept(run, stages)
        if kept:
            rounds[index] = kept
    return rounds, [name for name in STAGES if name in forgotten]


def _stages_from(command: str) -> list[str]:
    """The stages of a command and all later ones, without the evaluation before training."""
    order = list(STAGES)
    first = order.index("evaluate_after" if command == "evaluate" else stages_of(command)[0])
    return [name for name in order[first:] if name != "evaluate_before"]


def _probes_kept(run: RunDir, stages: dict[str, Any]) -> dict[str, Any]:
    """The record of a calibration that has begun: its probes are drawn, and their labels bought."""
    if run.round_index or "calibrate" not in stages:
        return {}
    drawn = run.read_table("probes", made_by="calibrate").num_rows
    settings = stages["calibrate"]["settings"]
    wanted = stages["calibrate"].get("probes_wanted", drawn)  # older versions recorded none
    return {"calibrate": {"settings": settings, "unfinished": True, "probes_wanted": wanted}}


def _refuse_settings_of_kept_stages(
    run: RunDir, rounds: dict[str, dict[str, Any]], config: Config
) -> None:
    changed: dict[str, None] = {}
    for stages in rounds.values():
        used = {stage: facts["settings"] for stage, facts in stages.items()}
        changed |= dict.fromkeys(map(str, changed_settings(used, config)))
    if changed:
        raise ConfigError(
            f"{run.path}: stages that are kept were made with other settings:\n  "
            + "\n  ".join(changed)
            + f"\nLeave them as they are in {run.path / 'config.toml'}, or give another output "
            f"directory (--output)."
        )


def _names(run: RunDir, paths: Iterable[Path]) -> list[str]:
    return [path.relative_to(run.path).as_posix() for path in paths]


def _later_rounds(run: RunDir) -> list[RunDir]:
    """The later rounds that have a folder."""
    names = sorted(path.name for path in (run.path / "rounds").glob("[0-9]*"))
    indices = [int(name) for name in names if name.isdecimal()]
    return [run.in_round(index) for index in indices if index > run.round_index]
