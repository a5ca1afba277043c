"""The run of a command: made, resumed or only read, with the crew that makes its parts."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from pivottrace.commands.flags import load, take_option
from pivottrace.commands.redo import take_new_budget, take_new_steps
from pivottrace.config import Config, load_config
from pivottrace.errors import ConfigError, PivotTraceError
from pivottrace.labels.budget import probes_wanted, refuse_unusable_budget
from pivottrace.run.bindings import changed_settings
from pivottrace.run.crew import Crew
from pivottrace.run.directory import RunDir
from pivottrace.run.rounds import current_round


def create_run(arguments: list[str], command: str | None = None) -> RunDir:
    """Make or resume the run of a configuration file, of a run directory, or of flags alone.

    Args:
        arguments: The command's own, with settings, and with `--shard` or `--ray`.
        command: The last command that will run, if any. Not every command can be shared.

    Raises:
        PivotTraceError: As `flags.load`, `RunDir.create`, `refuse_unshareable` and `RayCrew`.
    """
    rest = list(arguments)
    shard, ray = take_option(rest, "--shard"), take_option(rest, "--ray")
    config = load(rest)
    crew = _crew(shard, ray, command, config)
    path = config.output.expanduser()
    if (path / "config.toml").is_file():
        stored = RunDir.open(path)
        refuse_impossible_change(stored, config)
        for take in (take_new_budget, take_new_steps):
            for line in take(current_round(RunDir.open(path)), config):
                print(line, file=sys.stderr)
    run = RunDir.create(config, crew)
    others = run.other_versions()
    if others:
        print(
            f"note: {run.path} was begun with {', '.join(others)}; the remaining stages may give "
            f"other results than they would with the old versions",
            file=sys.stderr,
        )
    return run


def refuse_impossible_change(run: RunDir, config: Config) -> None:
    """Refuse settings that the pool of a run cannot have, before anything of it is forgotten.

    It comes before other refusals too, because these name commands with the new settings.

    Raises:
        PivotTraceError: As `preconditions.refuse_the_impossible`, `refuse_unusable_budget` and
            `probes_wanted`, with the command that goes on as before.
    """
    from pivottrace.stages.preconditions import refuse_the_impossible  # heavy

    facts = run.stage_facts("pool")
    is_same = config.model_dump(exclude={"output"}) == run.config.model_dump(exclude={"output"})
    if is_same or not facts or changed_settings({"pool": facts["settings"]}, config):
        return  # a run of another pool is refused by the names of its settings
    changed = RunDir(run.path, config)
    try:
        refuse_the_impossible(config, facts["num_questions"], facts["num_with_answer"])
        refuse_unusable_budget(changed)
        probes_wanted(changed)
    except PivotTraceError as error:
        raise type(error)(
            f"{error} Nothing was changed: pivottrace run {shlex.quote(str(run.path))} goes on "
            f"with the settings that the run has."
        ) from error


def _crew(shard: str | None, ray: str | None, command: str | None, config: Config) -> Crew:
    """The crew that makes the parts: this process, several workers, or a cluster."""
    if shard is not None and ray is not None:
        raise ConfigError("give either --shard or --ray: a cluster has a queue of its own")
    if shard is not None:
        from pivottrace.pipeline import refuse_unshareable  # heavy, as is the next

        refuse_unshareable(command)
        return Crew.of_shard(shard)
    if ray is None:
        return Crew()
    if config.rollouts.backend == "openai":
        raise ConfigError(
            '--ray samples on the cluster, and rollouts.backend = "openai" on a server. Take one '
            "of them away"
        )
    from pivottrace.cluster.ray_crew import RayCrew

    return RayCrew(ray)


def open_run(command: str, arguments: list[str]) -> RunDir:
    """Open the run that is a command's only argument, or the run of a configuration file.

    Raises:
        ConfigError: There is another argument, or no run.
    """
    options = [text for text in arguments if text.startswith("-")]
    if options:
        name = command.partition(" ")[0]
        raise ConfigError(f"{name} has no option {options[0]}. See: pivottrace {name} --help")
    if len(arguments) != 1:
        raise ConfigError(f"give one run directory, for instance: pivottrace {command} runs/my")
    path = Path(arguments[0])
    if path.suffix == ".toml" and path.is_file():
        return RunDir.open(load_config(path).output.expanduser())
    return RunDir.open(path)
