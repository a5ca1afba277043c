"""The command line: one thin command a stage. Heavy libraries are imported inside the commands."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from pivottrace import __version__
from pivottrace.errors import ConfigError, PivotTraceError

if TYPE_CHECKING:
    from pivottrace.config import Config
    from pivottrace.rundir import RunDir

USAGE = """\
usage: pivottrace COMMAND ...

Decide which questions to annotate, which the model can label itself, and which to drop; then train.

the main job
  demo      run everything on the embedded world: a laptop, a few minutes, a report
  init      write a commented configuration file              init my.toml
  validate  check a configuration, its data and its model     validate my.toml
  run       run or resume every stage                         run my.toml [--until STAGE]
  status    say what is done and what comes next              status runs/my
  report    write the report of what there is                 report runs/my

one stage on a run directory (or on a configuration file)
  rollout   one greedy trace and G samples a question
  trace     attention signals of the greedy traces
  score     pivots, uncertainty, votes
  calibrate probes and the curves along the ranking
  triage    a route, a reason and a weight for every question
  label     get the labels that were chosen                   label export|import runs/my [FILE]
  train     GRPO on verified and majority rewards
  evaluate  held-out accuracy, before and after

shortcuts for settings: --questions FILE --evaluation FILE --map prompt=COLUMN --model PATH
  --budget N --output DIR; every other setting by its key, as in --train.steps 100.
pivottrace run --help lists all settings.
"""

SHORTCUTS = {
    "--questions": "--pool.questions",
    "--evaluation": "--pool.evaluation",
    "--model": "--model.path",
    "--budget": "--labels.budget",
}


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 1 or 2 an error, 3 waiting for labels."""
    arguments = sys.argv[1:] if argv is None else argv
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(USAGE, end="")
        return 0
    if arguments[0] == "--version":
        print(f"pivottrace {__version__}")
        return 0
    command = COMMANDS.get(arguments[0])
    # Progress bars and advice of libraries would bury our own lines.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        if command is None:
            raise ConfigError(_unknown_command(arguments[0]))
        command(arguments[1:])
    except PivotTraceError as error:
        waiting = error.exit_code == 3
        print(f"{'' if waiting else 'error: '}{error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("stopped; finished parts are kept, the same command goes on", file=sys.stderr)
        return 130
    return 0


def _demo(arguments: list[str]) -> None:
    from importlib.resources import files

    from pivottrace.pipeline import run_all

    run = _create_run([str(files("pivottrace.lab") / "demo.toml"), *arguments])
    run_all(run)
    _print_summary(run)


def _run(arguments: list[str]) -> None:
    from pivottrace.pipeline import run_all

    until = _take_option(arguments, "--until")
    run = _create_run(arguments)
    run_all(run, until)
    _print_summary(run)


def _init(arguments: list[str]) -> None:
    from pivottrace.config import template

    path, settings = _split_target(arguments)
    if path is None:
        raise ConfigError("init needs a file to write: pivottrace init my.toml")
    if path.exists():
        raise ConfigError(f"{path} is there already. Give another name, or remove it.")
    config = _parse(settings, default=None)
    if "output" not in config.model_fields_set:
        config = config.model_copy(update={"output": Path("runs") / path.stem})
    path.write_text(template(config), encoding="utf-8")
    print(f"wrote {path}; next: edit it, then pivottrace validate {path}")


def _validate(arguments: list[str]) -> None:
    from pivottrace.validate import validate

    config = _load(arguments)
    for line in validate(config):
        print(line)
    target = arguments[0] if arguments and not arguments[0].startswith("-") else "my.toml"
    print(f"all is well; next: pivottrace run {target}")


def _status(arguments: list[str]) -> None:
    from pivottrace.status import describe

    for line in describe(_open_run(arguments)):
        print(line)


def _report(arguments: list[str]) -> None:
    from pivottrace.report import build_report

    print(f"report: {build_report(_open_run(arguments))}")


def _stage(name: str) -> Callable[[list[str]], None]:
    def command(arguments: list[str]) -> None:
        from pivottrace.pipeline import run_step

        run = _create_run(arguments)
        with run.locked():
            run_step(run, "pool")
            run_step(run, name, *(("before",) if name == "evaluate" else ()))
            if name == "evaluate" and run.is_done("train"):
                run_step(run, name, "after")
        print(f"{name}: done; see also: pivottrace status {run.path}")

    return command


def _label(arguments: list[str]) -> None:
    actions = ("export", "import")
    if not arguments or arguments[0] not in actions:
        return _stage("label")(arguments)
    from pivottrace.annotate import sources

    action, rest = arguments[0], arguments[1:]
    if not rest or (action == "import" and len(rest) != 2):
        raise ConfigError(
            f"usage: pivottrace label {action} RUN {'FILE' if action == 'import' else '[FILE]'}"
        )
    run = _open_run(rest[:1])
    with run.locked():
        if action == "export":
            path = sources.export(run, Path(rest[1]) if len(rest) > 1 else None)
            print(
                f"wrote {path}; fill in `answer`, then: pivottrace label import {run.path} {path}"
            )
            return None
        added, blank = sources.import_file(run, Path(rest[1]))
    left = f", {blank} rows are still blank" if blank else ""
    print(f"{added} new labels taken in{left}; next: pivottrace run {run.path}")
    return None


COMMANDS: dict[str, Callable[[list[str]], None]] = {
    "demo": _demo,
    "init": _init,
    "validate": _validate,
    "run": _run,
    "status": _status,
    "report": _report,
    "label": _label,
    **{
        name: _stage(name)
        for name in ("rollout", "trace", "score", "calibrate", "triage", "train", "evaluate")
    },
}


def _unknown_command(name: str) -> str:
    from difflib import get_close_matches

    near = get_close_matches(name, COMMANDS, n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    return f"{name!r} is not a command.{hint} See: pivottrace --help"


def _create_run(arguments: list[str]) -> RunDir:
    """Make or take up the run of a configuration file, a run directory, or flags alone."""
    from pivottrace.rundir import RunDir

    run = RunDir.create(_load(arguments))
    others = run.other_versions()
    if others:
        print(
            f"note: {run.path} was begun with {', '.join(others)}; what is still to come may "
            f"differ from what that would give",
            file=sys.stderr,
        )
    return run


def _open_run(arguments: list[str]) -> RunDir:
    from pivottrace.rundir import RunDir

    if len(arguments) != 1:
        raise ConfigError("give one run directory, for instance: pivottrace status runs/my")
    return RunDir.open(Path(arguments[0]))


def _load(arguments: list[str]) -> Config:
    from pivottrace.config import load_config

    path, settings = _split_target(arguments)
    if path is None:
        return _parse(settings, default=None)
    if path.is_dir():
        if not (path / "config.toml").is_file():
            raise ConfigError(
                f"{path} is a folder without config.toml, so not a run directory. Give a "
                f"configuration file or a run directory."
            )
        config = load_config(path / "config.toml")
        # A run directory may have been moved: where it lies is where it is.
        return _parse(settings, config.model_copy(update={"output": path}))
    return _parse(settings, load_config(path))


def _split_target(arguments: list[str]) -> tuple[Path | None, list[str]]:
    if arguments and not arguments[0].startswith("-"):
        return Path(arguments[0]), arguments[1:]
    return None, arguments


def _take_option(arguments: list[str], name: str) -> str | None:
    """Remove `name VALUE` or `name=VALUE` from the arguments and return the value."""
    for index, argument in enumerate(arguments):
        if argument == name and index + 1 < len(arguments):
            value = arguments[index + 1]
            del arguments[index : index + 2]
            return value
        if argument.startswith(f"{name}="):
            del arguments[index]
            return argument.removeprefix(f"{name}=")
    return None


def _parse(flags: list[str], default: Config | None) -> Config:
    """Flags over a configuration. tyro prints its own help and errors, and ends with 2."""
    import tyro
    from pydantic import ValidationError

    from pivottrace.config import Config, apply_preset, explain

    flags = list(flags)
    default = default or Config()
    if (preset := _take_option(flags, "--preset")) is not None:
        default = apply_preset(default, preset)
    columns = dict(default.pool.map)
    while (pair := _take_option(flags, "--map")) is not None:
        source, separator, column = pair.partition("=")
        if not separator:
            raise ConfigError(f"--map {pair}: write it as --map prompt=COLUMN")
        columns[source] = column
    flags = [_long_form(flag) for flag in flags]
    default = default.model_copy(update={"pool": default.pool.model_copy(update={"map": columns})})
    try:
        return tyro.cli(Config, args=flags, default=default, prog="pivottrace run")
    except ValidationError as error:
        raise ConfigError(explain("command line", error)) from None


def _long_form(flag: str) -> str:
    name, separator, value = flag.partition("=")
    return SHORTCUTS.get(name, name) + separator + value


def _print_summary(run: RunDir) -> None:
    from pivottrace.report import summary
    from pivottrace.status import notes, summary_lines

    for note in notes(run):
        print(f"note: {note}")
    for line in summary_lines(summary(run)):
        print(line)


if __name__ == "__main__":
    sys.exit(main())
