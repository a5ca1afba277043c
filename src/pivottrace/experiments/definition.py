"""Experiment files: the shared settings, the changes of each arm, the configuration of every run.

A file has these parts:

    [experiment]                     name, output, seeds, reference; results (a folder to commit),
                                     compare, cluster_by, also_evaluate, base_from
    [base.pool]                      any key of a configuration; "{seed}" in a text is the seed
    questions = "world:default?num=480&seed={seed}"
    [[arms]]                         name, and optionally title, seeds, own_rollouts, routes;
    name = "full"                    every other key is a setting that the arm changes
    labels.budget = 1.0
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from pivottrace.config import Config, Section, explain, parse_config
from pivottrace.errors import ConfigError
from pivottrace.label_sources import label_source, label_sources

BASE = "before"  # name of the base run, and of the result that holds the accuracy before training
OWN_FOLDERS = {"arms", "logs", "runs", "results"}
_NAME = re.compile(r"[a-z0-9][a-z0-9.-]*")


class ExperimentConfig(Section):
    """The section `[experiment]`."""

    name: str
    output: Path
    """Folder for runs, logs and, by default, results."""
    results: Path | None = None
    """Folder for results and the report; by default `results` in `output`."""
    seeds: list[int] = Field(min_length=1)
    reference: str
    """The arm that the others are compared with."""
    compare: list[tuple[str, str]] = Field(default_factory=list)
    """Further pairs of arms, (arm, other), whose difference is reported; `before` is the model
    before training."""
    cluster_by: str | None = None
    """Column of the held-out questions. Questions with the same value are not independent, in all
    seeds. By default each question stands for itself."""
    also_evaluate: dict[str, str] = Field(default_factory=dict)
    """Further held-out questions: names and sources as in `pool.evaluation`. Every arm's trained
    model is evaluated on them too."""
    base_from: Path | None = None
    """Another experiment file, its path taken from this file's folder. Its `[base]` holds here too,
    below the keys of this file's own."""


class ArmConfig(Section):
    """The keys of `[[arms]]` about the arm itself; every other key is a setting that it changes."""

    name: str
    title: str | None = None
    """Name in tables and figures; by default the arm's name."""
    seeds: list[int] | None = None
    """Seeds of the arm; by default all seeds of the experiment."""
    own_rollouts: bool = True
    """Whether the arm's routes need the pool's rollouts, so that their tokens count for the arm."""
    routes: Literal["triage", "by_truth", "by_votes", "triage_labelled"] = "triage"
    """The rule that routes the pool: `triage` is calibration and triage; `by_truth` is the true
    correctness of the rollouts (the oracle); `by_votes` is a bare rule, which labels the lowest
    vote shares and trains on the other split votes; `triage_labelled` takes the rows that the
    triage keeps under a budget of `triage.annotate_fraction`, all with true answers."""


@dataclass(frozen=True)
class Arm:
    """One arm: the fields of `ArmConfig`, and `changes`, nested settings over the base."""

    name: str
    title: str
    seeds: tuple[int, ...]
    changes: dict[str, Any] = field(default_factory=dict)
    own_rollouts: bool = True
    routes: str = "triage"


@dataclass(frozen=True)
class Experiment:
    """An experiment file that was read.

    Attributes:
        path: The file.
        name: Name of the experiment.
        output: Folder of runs and logs.
        results: Folder of results and the report.
        seeds: All seeds, in the order in which they are run.
        reference: Name of the arm that the others are compared with.
        compare: Further pairs of arms, (arm, other), whose difference is reported. `BASE` stands
            for the model before training.
        cluster_by: Column of the held-out questions; questions with the same value are not
            independent.
        also_evaluate: Sources of further held-out questions, by name.
        base: Nested settings that all arms share.
        arms: The arms, in the order of the file.
        base_from: The file that a part of `base` comes from; None without `base_from`.
        trained_in: The experiment whose models are evaluated, if `elsewhere` made this one; else
            None.
    """

    path: Path
    name: str
    output: Path
    results: Path
    seeds: tuple[int, ...]
    reference: str
    compare: tuple[tuple[str, str], ...]
    cluster_by: str | None
    also_evaluate: dict[str, str]
    base: dict[str, Any]
    arms: tuple[Arm, ...]
    base_from: Path | None = None
    trained_in: Experiment | None = None

    def arm(self, name: str) -> Arm:
        """Return the arm of that name. Raises ConfigError if it does not exist."""
        for arm in self.arms:
            if arm.name == name:
                return arm
        names = [arm.name for arm in self.arms]
        near = difflib.get_close_matches(name, names, n=1, cutoff=0.0)[0]
        raise ConfigError(f"{self.path}: there is no arm {name!r}. The nearest one is {near!r}.")

    def elsewhere(self, name: str) -> Experiment:
        """Return the experiment that evaluates this one's models on the held-out questions `name`.

        Its results are made with its configurations, and nothing is trained in it.
        """
        return replace(
            self,
            name=f"{self.name}-{name}",
            output=self.output / name,
            results=self.results / name,
            also_evaluate={},
            base=merged(self.base, {"pool": {"evaluation": self.also_evaluate[name]}}),
            trained_in=self,
        )

    def base_config(self, seed: int) -> Config:
        """Return the configuration of a seed's base run."""
        return self._config(self.base, seed, BASE)

    def config(self, arm: Arm, seed: int) -> Config:
        """Return the configuration of an arm's run."""
        return self._config(merged(self.base, arm.changes), seed, arm.name)

    def config_of(self, name: str, seed: int) -> Config:
        """Return the configuration of an arm's run, or of the base run (`BASE`)."""
        return self.base_config(seed) if name == BASE else self.config(self.arm(name), seed)

    def run_path(self, name: str, seed: int) -> Path:
        """Return the run directory of an arm, or of the base (`BASE`)."""
        return self.output / "runs" / f"{name}-{seed}"

    def log_path(self, name: str, seed: int) -> Path:
        """Return the log file of an arm's process."""
        return self.output / "logs" / f"{name}-{seed}.log"

    def result_path(self, name: str, seed: int) -> Path:
        """Return the result file of a finished arm."""
        return self.results / "arms" / f"{name}-{seed}.json"

    def _config(self, values: Mapping[str, Any], seed: int, name: str) -> Config:
        placed = _with_seed(values, seed)
        own = {"seed": seed, "output": str(self.run_path(name, seed))}
        if name != BASE:
            where = f"{self.path}, arm {name!r}"
        elif self.base_from:
            where = f"{self.path} with the base of {self.base_from}"
        else:
            where = f"{self.path}, [base]"
        return parse_config({**placed, **own}, where=where)


def load_experiment(path: Path) -> Experiment:
    """Read an experiment file and check every arm's configuration.

    Raises:
        ConfigError: The file is missing, is not TOML, or has a wrong setting. The message names the
            file, the arm and the key.
    """
    values = _read(path)
    head = _head(path, values)
    experiment = Experiment(
        path=path,
        name=head.name,
        output=head.output.expanduser(),
        results=(head.results or head.output / "results").expanduser(),
        seeds=tuple(head.seeds),
        reference=head.reference,
        compare=tuple(head.compare),
        cluster_by=head.cluster_by,
        also_evaluate=head.also_evaluate,
        base=_base(path, values, head, ()),
        arms=tuple(_arm(path, table, tuple(head.seeds)) for table in _tables(path, values)),
        base_from=head.base_from and path.parent / head.base_from,
    )
    _check(experiment)
    return experiment


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file. docs/lab.md says how to write one") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None


def _head(path: Path, values: Mapping[str, Any]) -> ExperimentConfig:
    unknown = values.keys() - {"experiment", "base", "arms"}
    if unknown:
        raise ConfigError(
            f"{path}: {sorted(unknown)[0]} is not a part of an experiment; there are [experiment], "
            f"[base] and [[arms]]. Settings that all arms share go below [base]."
        )
    given = values.get("experiment", {})
    unknown = given.keys() - ExperimentConfig.model_fields
    if unknown:
        raise ConfigError(
            f"{path}: experiment.{sorted(unknown)[0]} is not a setting; there are "
            f"{', '.join(ExperimentConfig.model_fields)}"
        )
    try:
        return ExperimentConfig.model_validate(given)
    except ValidationError as error:
        raise ConfigError(explain(f"{path}, [experiment]", error)) from None


def _base(
    path: Path, values: Mapping[str, Any], head: ExperimentConfig, below: tuple[Path, ...]
) -> dict[str, Any]:
    """Return the settings that all arms share, with the base of `base_from`.

    Args:
        path: The file.
        values: Its content.
        head: Its section `[experiment]`.
        below: The files that take their base from this one.
    """
    own = values.get("base", {})
    if not isinstance(own, dict):
        raise ConfigError(f"{path}: base = {own!r}: write it as a table, [base]")
    if head.base_from is None:
        return own
    source = (path.parent / head.base_from.expanduser()).resolve()
    below = (path.resolve(), *below)
    if source in below:
        raise ConfigError(
            f"{path}: experiment.base_from leads back to {source}, so there is no end: leave it "
            f"out in one of the files"
        )
    try:
        found = _read(source)
    except ConfigError as error:
        raise ConfigError(f"{path}: experiment.base_from: {error}") from None
    return merged(_base(source, found, _head(source, found), below), own)


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested settings with changes over them."""
    result = dict(base)
    for key, value in changes.items():
        was = result.get(key)
        both = isinstance(was, dict) and isinstance(value, dict)
        result[key] = merged(was, value) if both else value  # type: ignore[arg-type]
    return result


def _arm(path: Path, table: Mapping[str, Any], seeds: tuple[int, ...]) -> Arm:
    name = table.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name) or name == BASE:
        raise ConfigError(
            f"{path}: an arm has the name {name!r}; give it one of small letters, digits, dots and "
            f"dashes (it names files), and not {BASE!r}"
        )
    own = {key: value for key, value in table.items() if key in ArmConfig.model_fields}
    try:
        arm = ArmConfig.model_validate(own)
    except ValidationError as error:
        raise ConfigError(explain(f"{path}, arm {name!r}", error)) from None
    return Arm(
        name=name,
        title=arm.title or name,
        seeds=seeds if arm.seeds is None else tuple(arm.seeds),
        own_rollouts=arm.own_rollouts,
        routes=arm.routes,
        changes={key: value for key, value in table.items() if key not in own},
    )


def _tables(path: Path, values: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the tables of the arms in the file."""
    arms = values.get("arms", [])
    if not isinstance(arms, list) or not all(isinstance(arm, dict) for arm in arms):
        raise ConfigError(f"{path}: arms is not a list of tables. Write each as [[arms]]")
    return arms


def _check(experiment: Experiment) -> None:
    """Refuse an experiment that cannot succeed, before hours are spent on it."""
    path, names = experiment.path, [arm.name for arm in experiment.arms]
    if not names:
        raise ConfigError(f"{path}: there is no arm. Write [[arms]] with a name, at least once")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(f"{path}: two arms are named {twice[0]!r}; their files would be the same")
    compared = {name for pair in experiment.compare for name in pair}
    for name in (experiment.reference, *sorted(compared - {BASE})):
        experiment.arm(name)
    for name in experiment.also_evaluate:
        if not _NAME.fullmatch(name) or name in OWN_FOLDERS:
            raise ConfigError(
                f"{path}: experiment.also_evaluate.{name} names folders: give it small letters, "
                f"digits, dots and dashes, and none of {', '.join(sorted(OWN_FOLDERS))}"
            )
    for values in (experiment.base, *(arm.changes for arm in experiment.arms)):
        own = {"seed", "output"} & values.keys()
        if own:
            raise ConfigError(
                f"{path}: {sorted(own)[0]} is set for each run by the experiment itself; leave it "
                f"out, and write {{seed}} in a text to use the seed there"
            )
    experiment.base_config(experiment.seeds[0])  # so that what fails in an arm is its own
    for arm in experiment.arms:
        if "evaluation" in arm.changes.get("pool", {}):
            raise ConfigError(
                f"{path}, arm {arm.name!r}: all arms are compared on the same held-out questions: "
                f"leave pool.evaluation out"
            )
        unknown = set(arm.seeds) - set(experiment.seeds)
        if unknown:
            raise ConfigError(
                f"{path}, arm {arm.name!r}: seed {min(unknown)} is not among experiment.seeds"
            )
        config = experiment.config(arm, experiment.seeds[0])
        if len(config.pool.evaluation_sources) > 1:
            raise ConfigError(
                f"{path}: pool.evaluation names several sets, and arms are compared on one. Keep "
                f"one of them, and put the others under experiment.also_evaluate"
            )
        if config.rounds.num > 1:
            raise ConfigError(
                f"{path}, arm {arm.name!r}: rounds.num = {config.rounds.num}, and a result has the "
                f"curve and the tokens of one round only: set it to 1"
            )
        may_stop = config.alarms.enabled and config.alarms.action == "stop"
        if may_stop and config.train.evaluate_steps:
            raise ConfigError(
                f"{path}, arm {arm.name!r}: alarms.action = stop would end its seeds at different "
                f"steps, and such curves have no mean: set report or pause"
            )
        source = config.labels.source
        waits = source is not None and label_source(source).ask is not None
        if waits or not config.train.enabled or not config.pool.evaluation:
            asks_nobody = [name for name, source in label_sources().items() if source.ask is None]
            raise ConfigError(
                f"{path}, arm {arm.name!r}: an arm trains, is evaluated and does not wait for "
                f"people. It needs train.enabled, pool.evaluation and a label source that asks no "
                f"people ({', '.join(asks_nobody)})"
            )


def _with_seed(value: Any, seed: int) -> Any:
    if isinstance(value, str):
        return value.replace("{seed}", str(seed))
    if isinstance(value, dict):
        return {key: _with_seed(inner, seed) for key, inner in value.items()}
    if isinstance(value, list):
        return [_with_seed(inner, seed) for inner in value]
    return value
