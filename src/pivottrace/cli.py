"""The command line: one thin command per stage. Commands import heavy libraries when they run."""

from __future__ import annotations

import io
import os
import re
import shlex
import shutil
import sys
import textwrap
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from pivottrace import __version__
from pivottrace.commands.memory_limit import load_within_limit
from pivottrace.commands.usage import EXPERIMENTS, STAGES, help_of, usage
from pivottrace.errors import ConfigError, PivotTraceError, first_line, is_out_of_memory

if TYPE_CHECKING:
    from pivottrace.run.directory import RunDir


# Turns that a waiting thread of OpenMP spins before it sleeps. Its own default is far longer.
SHORT_SPIN = "1000"


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit code.

    Returns:
        0 if the command is done, 1 or 2 after an error, 3 if the run waits for labels, 130 if the
        user stopped the command.
    """
    arguments = sys.argv[1:] if argv is None else argv
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # it escapes signs that it lacks
            stream.reconfigure(errors="backslashreplace")
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage(), end="")
        return 0
    if arguments[0] == "--version":
        print(f"pivottrace {__version__}")
        return 0
    command = COMMANDS.get(arguments[0])
    _set_environment()
    try:
        if command is None:
            raise ConfigError(_unknown_command(arguments[0]))
        if {"-h", "--help"} & set(arguments):
            _help(arguments)
            sys.stdout.flush()
            return 0
        _refuse_undecoded(arguments)
        load_within_limit(arguments[0])
        command(arguments[1:])
    except PivotTraceError as error:
        waiting = error.exit_code == 3
        print(f"{'' if waiting else 'error: '}{_readable(str(error))}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        # The reader of our lines is gone (`| head`). The rest must not fail at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except UnicodeEncodeError as error:
        if error.encoding == "utf-8":  # files are UTF-8, names of files need not be
            raise
        print(f"error: {error.object!r}: {_OTHER_ENCODING}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; finished parts are kept, and the same command resumes", file=sys.stderr)
        return 130
    except (MemoryError, ImportError, OSError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        print(
            f"error: the system gave no more memory ({first_line(error)}). Close other programs, "
            f"raise the limit (ulimit -v), or take a smaller model or smaller batches; the same "
            f"command then goes on",
            file=sys.stderr,
        )
        return 1
    return 0


# No name of a file has a part of 256 characters; an id of the user's may have any number.
_LONG_WORD = re.compile(r"([^\s/]{100})[^\s/]{156,}")


def _readable(message: str) -> str:
    """A message without escapes that a terminal would obey, and with endless words cut."""
    from pivottrace.report.texts import clean

    return clean(_LONG_WORD.sub(r"\1…", message))


_OTHER_ENCODING = (
    "this text cannot be used, because arguments and names of files are not UTF-8 here. Set "
    "PYTHONUTF8=1, or take plain letters"
)


def _refuse_undecoded(arguments: list[str]) -> None:
    """Refuse arguments that Python could not decode, before one of them is written to a file."""
    for argument in arguments:
        if any("\ud800" <= character <= "\udfff" for character in argument):
            raise ConfigError(f"{argument!r}: {_OTHER_ENCODING}")


def _set_environment() -> None:
    """Set what libraries read when they are imported, except where the user has set it."""
    # Progress bars and advice of libraries would bury our own lines.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if not sys.stderr.isatty():  # in a log, a bar is one line of thousands of characters
        os.environ.setdefault("TQDM_DISABLE", "1")
    # A waiting thread that spins for long holds a core that the awaited thread may need, if other
    # processes run too: docs/training-runs.md. A count would override the user's policy.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SHORT_SPIN)


def _help(arguments: list[str]) -> None:
    two_words = " ".join(arguments[:2])
    if arguments[0] == "lab" and two_words not in EXPERIMENTS:
        print("".join(help_of(command) + "\n" for command in EXPERIMENTS), end="")
        return
    known = two_words in STAGES or two_words in EXPERIMENTS
    print(help_of(two_words if known else arguments[0]), end="")
    if arguments[0] == "export":
        from pivottrace.commands.export import format_lines

        print("\n".join(format_lines()))
    elif arguments[0] == "run":
        from pivottrace.commands.flags import parse
        from pivottrace.config import Config

        with suppress(SystemExit):
            parse(["--help"], Config())


def _demo(arguments: list[str]) -> None:
    from pivottrace.commands.demo import demo_run
    from pivottrace.pipeline import run_all

    run = demo_run(arguments)
    run_all(run)
    _print_summary(run)


def _run(arguments: list[str]) -> None:
    from pivottrace.commands.flags import take_flag, take_option
    from pivottrace.commands.opening import create_run
    from pivottrace.pipeline import run_all

    until, waits = take_option(arguments, "--until"), take_flag(arguments, "--wait")
    if not arguments:
        raise ConfigError(
            "run needs a configuration file or a run directory. pivottrace init my.toml writes a "
            "file to start from, and pivottrace demo runs everything on the embedded world"
        )
    run = create_run(arguments, until)
    if waits:
        from pivottrace.commands.wait import run_and_wait

        run_and_wait(run, until)
    else:
        run_all(run, until)
    _print_summary(run)


def _init(arguments: list[str]) -> None:
    from pivottrace.commands.flags import parse, split_target, take_flag
    from pivottrace.config import Config
    from pivottrace.config.starter import starter
    from pivottrace.config.template import template
    from pivottrace.run.storage import write_text

    rest = list(arguments)
    write = template if take_flag(rest, "--all") else starter
    path, settings = split_target(rest)
    if path is None:
        raise ConfigError("init needs a file to write: pivottrace init my.toml")
    if path.exists():
        raise ConfigError(f"{path} exists already. Give another name, or remove it.")
    if not path.parent.is_dir():
        raise ConfigError(
            f"{path}: the folder {path.parent} does not exist. Make it, or give another place."
        )
    own = Config(output=Path("runs") / path.stem)
    write_text(path, write(parse(settings, own), path))
    print(f"wrote {path}; next: edit it, then pivottrace validate {shlex.quote(str(path))}")


def _validate(arguments: list[str]) -> None:
    from pivottrace.commands.flags import load
    from pivottrace.commands.validate import validate

    for line in validate(load(arguments)):
        print(line)
    print(f"all is well; next: {shlex.join(['pivottrace', 'run', *arguments])}")


def _status(arguments: list[str]) -> None:
    from pivottrace.commands.opening import open_run
    from pivottrace.commands.status import describe

    for line in describe(open_run("status", arguments)):
        print(line)


def _repair(arguments: list[str]) -> None:
    from pivottrace.commands.opening import open_run
    from pivottrace.commands.repair import repair

    run = open_run("repair", arguments)
    with run.locked():
        for line in repair(run):
            print(line)


def _report(arguments: list[str]) -> None:
    from pivottrace.commands.opening import open_run
    from pivottrace.commands.status import next_line, quoted
    from pivottrace.pipeline import build_pages

    run = open_run("report", arguments)
    path = quoted(build_pages(run))
    print(f"report: {path}")
    print(next_line(run, f"open {path}"))


def _view(arguments: list[str]) -> None:
    from pivottrace.commands.view import view

    for line in view(arguments):
        print(line)


def _stage(name: str) -> Callable[[list[str]], None]:
    def command(arguments: list[str]) -> None:
        from pivottrace.commands.flags import split_target
        from pivottrace.commands.opening import create_run
        from pivottrace.commands.status import stage_lines
        from pivottrace.pipeline import run_command, run_step
        from pivottrace.run.records import is_first_process
        from pivottrace.run.rounds import current_round

        target, flags = split_target(arguments)
        if target is None and not any(flag.partition("=")[0] == "--output" for flag in flags):
            raise ConfigError(
                f"{name} needs a run directory or a configuration file: pivottrace {name} runs/my"
            )
        run = create_run(arguments, name)
        with run.locked():
            run_step(run, "pool")
            run = current_round(run)
            run_command(run, name)
        if is_first_process():
            for line in stage_lines(run, name):
                print(line)

    return command


def _label(arguments: list[str]) -> None:
    from pivottrace.commands import label_server, labelling

    actions = {
        "export": labelling.export,
        "import": labelling.import_,
        "push": label_server.push,
        "pull": label_server.pull,
        "correct": labelling.correct,
        "conflicts": labelling.conflicts,
        "comments": labelling.comments,
        "serve": labelling.serve,
    }
    if not arguments or arguments[0] not in actions:
        return _stage("label")(arguments)
    for line in actions[arguments[0]](arguments[1:]):
        print(line, flush=True)
    return None


def _redo(arguments: list[str]) -> None:
    from pivottrace.commands.flags import load
    from pivottrace.commands.opening import create_run, open_run, refuse_impossible_change
    from pivottrace.commands.redo import FROM, first_other_round, redo
    from pivottrace.commands.status import quoted
    from pivottrace.run.rounds import current_round

    if len(arguments) < 2 or arguments[1] not in FROM:
        raise ConfigError(f"usage: pivottrace redo RUN {'|'.join(FROM)} [SETTINGS]")
    config = load([arguments[0], *arguments[2:]])
    stored = open_run("redo", arguments[:1])
    refuse_impossible_change(stored, config)
    run = first_other_round(current_round(stored), config)
    forgotten = redo(run, arguments[1], config)
    create_run([arguments[0], *arguments[2:]])  # stores the new settings
    print(f"forgotten: {', '.join(forgotten.stages) or 'nothing'}")
    for line in forgotten.lines():
        print(line)
    print(f"next: pivottrace run {quoted(run.path)}")


def _study(arguments: list[str]) -> None:
    from pivottrace.commands.flags import load, take_flag, take_option
    from pivottrace.commands.status import quoted
    from pivottrace.study import run_study
    from pivottrace.study.study_verdict import verdict_lines

    command = shlex.join(["pivottrace", "study", *arguments])
    rest = list(arguments)
    with_grid = take_flag(rest, "--grid")
    output = take_option(rest, "--output")
    first_flag = next((i for i, text in enumerate(rest) if text.startswith("-")), len(rest))
    targets, flags = rest[:first_flag], rest[first_flag:]
    if with_grid:
        print(
            "note: --grid chooses settings on these questions; report results on other questions",
            file=sys.stderr,
        )
    configs = [load([target, *flags]) for target in targets]
    folder, results = run_study(configs, Path(output) if output else None, with_grid, command)
    for line in verdict_lines(results):
        print(f"verdict: {line}")
    print(f"study: {quoted(folder / 'study.md')}; figures: {quoted(folder / 'study.json')}")


def _plan(arguments: list[str]) -> None:
    from pivottrace.commands.opening import open_run
    from pivottrace.commands.plan import make_plan
    from pivottrace.commands.printing import plan_lines
    from pivottrace.run.rounds import latest_round

    # A later round that is not calibrated yet does not know its labels.
    run = latest_round(open_run("plan", arguments), "calibrate")
    with run.locked():
        table = make_plan(run)
    print("\n".join(plan_lines(run, table)))


def _audit(arguments: list[str]) -> None:
    from pivottrace.commands.audit import LABEL_ERROR, audit
    from pivottrace.commands.flags import take_option
    from pivottrace.commands.opening import open_run
    from pivottrace.commands.printing import audit_lines
    from pivottrace.run.rounds import latest_round

    expected = take_option(arguments, "--label-error")
    try:
        label_error = LABEL_ERROR if expected is None else float(expected)
    except ValueError:
        raise ConfigError(f"--label-error {expected}: give a share, such as 0.05") from None
    run = latest_round(open_run("audit", arguments), "calibrate")
    with run.locked():
        suspects = audit(run, label_error)
    print("\n".join(audit_lines(run, suspects)))


def _export(arguments: list[str]) -> None:
    from pivottrace.commands.export import export_lines, find_format, option_names
    from pivottrace.commands.flags import take_option
    from pivottrace.commands.opening import open_run
    from pivottrace.exports.writing import export
    from pivottrace.run.rounds import latest_round

    rest = list(arguments)
    name, folder = take_option(rest, "--to"), take_option(rest, "--out")
    known = option_names(None if name is None else find_format(name))
    options = {option: take_option(rest, f"--{option}") for option in known}
    given = {option: value for option, value in options.items() if value is not None}
    run = latest_round(open_run("export --to verl", rest), "triage")
    place, written = export(run, find_format(name), Path(folder) if folder else None, given)
    print("\n".join(export_lines(run, place, written)))


def _lab(arguments: list[str]) -> None:
    from pivottrace.commands.flags import take_option
    from pivottrace.commands.status import quoted
    from pivottrace.experiments.definition import load_experiment

    rest = list(arguments)
    options = {
        name: take_option(rest, name) for name in LAB_OPTIONS.get(rest[0] if rest else "", ())
    }
    if len(rest) != 2 or rest[0] not in LAB_OPTIONS:
        raise ConfigError("give run or report, then a file: pivottrace lab run bench/rivals.toml")
    experiment = load_experiment(Path(rest[1]))
    if rest[0] == "report":
        from pivottrace.experiments.page import write_experiment_report

        output = options["--output"]
        page = write_experiment_report(experiment, Path(output) if output else None)
        print(f"report: {quoted(page)}")
        return
    from pivottrace.experiments.running import run_experiment

    processes, arms = options["--processes"], options["--arms"]
    run_experiment(
        experiment,
        1 if processes is None else _numbers("--processes", processes)[0],
        arms.split(",") if arms else None,
        _numbers("--seeds", options["--seeds"]) if options["--seeds"] else None,
    )
    file = quoted(experiment.path)
    print(f"results: {quoted(experiment.results)}; next: pivottrace lab report {file}")


LAB_OPTIONS = {"run": ("--processes", "--arms", "--seeds"), "report": ("--output",)}


def _numbers(option: str, text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ConfigError(f"{option} {text}: give whole numbers, such as 0,1") from None


COMMANDS: dict[str, Callable[[list[str]], None]] = {
    "demo": _demo,
    "init": _init,
    "validate": _validate,
    "run": _run,
    "status": _status,
    "repair": _repair,
    "report": _report,
    "view": _view,
    "label": _label,
    "redo": _redo,
    "study": _study,
    "plan": _plan,
    "audit": _audit,
    "export": _export,
    "lab": _lab,
    **{
        name: _stage(name)
        for name in (
            "greedy",
            "trace",
            "score",
            "sample",
            "calibrate",
            "triage",
            "train",
            "evaluate",
        )
    },
}


def _unknown_command(name: str) -> str:
    from difflib import get_close_matches

    near = get_close_matches(name, COMMANDS, n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    return f"{name!r} is not a command.{hint} See: pivottrace --help"


def _print_summary(run: RunDir) -> None:
    from pivottrace.commands.status import notes, summary_lines
    from pivottrace.run.rounds import latest_round

    run = latest_round(run, "triage")
    for note in notes(run):
        print(_wrapped(f"note: {note}", 6))
    for line in summary_lines(run):
        print(_wrapped(line, 12))


def _wrapped(line: str, indent: int) -> str:
    """A sentence in the width of the terminal, under its title; as it is for other readers.

    The next command stays in one piece, so that it can be copied.
    """
    if not sys.stdout.isatty() or line.startswith("next: "):
        return line
    return textwrap.fill(
        line,
        shutil.get_terminal_size().columns,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


if __name__ == "__main__":
    sys.exit(main())
