"""What `pivottrace --help` and each command's `--help` say. Imports nothing heavy."""

from __future__ import annotations

# Command: (arguments, what it does). The order is that of the list.
MAIN: dict[str, tuple[str, str]] = {
    "demo": (
        "[SETTINGS]",
        "run everything on the embedded world: a laptop, a few minutes, a report",
    ),
    "init": ("FILE [SETTINGS]", "write a commented configuration file"),
    "validate": ("FILE [SETTINGS]", "check a configuration, its data and its model"),
    "run": ("FILE|RUN [--until STAGE] [SETTINGS]", "run or resume every stage"),
    "status": ("RUN", "say what is done and what comes next"),
    "report": ("RUN", "write the report of what there is"),
    "study": (
        "FILE|RUN ... [--grid] [SETTINGS]",
        "compare the estimators on labelled pools, with intervals",
    ),
    "plan": ("RUN", "what each label budget is expected to give, before it is spent"),
    "audit": ("RUN [--label-error SHARE]", "labels that the model contradicts, for a second look"),
}
STAGES: dict[str, tuple[str, str]] = {
    "rollout": ("FILE|RUN [SETTINGS]", "one greedy trace and G samples a question"),
    "trace": ("FILE|RUN [SETTINGS]", "attention signals of the greedy traces"),
    "score": ("FILE|RUN [SETTINGS]", "pivots, uncertainty, votes"),
    "calibrate": ("FILE|RUN [SETTINGS]", "probes and the curves along the ranking"),
    "triage": ("FILE|RUN [SETTINGS]", "a route, a reason and a weight for every question"),
    "label": ("FILE|RUN [SETTINGS]", "get the labels that were chosen, or ask for them"),
    "label export": ("RUN [FILE]", "write the questions that wait for a label, as CSV or JSONL"),
    "label import": ("RUN FILE", "take in the answers that people filled in"),
    "train": ("FILE|RUN [SETTINGS]", "GRPO on verified and majority rewards"),
    "evaluate": ("FILE|RUN [SETTINGS]", "held-out accuracy, before and after"),
}
EXPERIMENTS: dict[str, tuple[str, str]] = {
    "lab run": (
        "FILE [--processes 1|2] [--arms A,B] [--seeds 0,1]",
        "run the arms and seeds of an experiment that have no result yet",
    ),
    "lab report": ("FILE [--output DIR]", "an experiment's tables and figures, of what is there"),
}
SHORTCUTS = {
    "--questions": "--pool.questions",
    "--evaluation": "--pool.evaluation",
    "--model": "--model.path",
    "--budget": "--labels.budget",
}
SETTINGS = """\
Settings override those of FILE or RUN. Every setting has a flag by its key, as in
--train.steps 100; true and false are written out (--train.enabled false), and a table is written
as in the file (--pool.chat-template-args "{enable_thinking = false}"). Shortcuts:
  --questions FILE         --pool.questions
  --evaluation FILE        --pool.evaluation
  --map prompt=COLUMN      one entry of pool.map; also answer=COLUMN, id=COLUMN
  --model PATH             --model.path
  --budget N               --labels.budget
  --output DIR             the run directory
  --preset default|paper   over the file's own values
"""
UNTIL = """\
FILE is a configuration file, RUN a run directory; without either the settings alone are taken.
  --until STAGE            stop after pool, rollout, trace, score, calibrate, triage, label,
                           train or evaluate

"""
STUDY = """
Every question needs an answer: a column, or the world's oracle. Missing stages are run first, then
--study.truth-samples further samples a question; no label is bought. Several pools are taken
together. The results are study.json, study.md and study.svg.
  --output DIR             where they go; by default beside the first run, as RUN-study
  --grid                   also try all combinations of pivot settings, into grid.csv: a choice made
                           on these questions, so development questions only

"""
LAB = """
FILE is an experiment: [experiment], [base] with the settings that all arms share, and [[arms]] with
what each changes (docs/lab.md). A finished arm and seed leaves one JSON file; the same command goes
on where it was stopped.
  --processes 2            two arms at once, with one thread each
  --arms A,B  --seeds 0,1  only these
  --output DIR             where the report goes; by default beside the results
"""


def usage() -> str:
    """The list of commands."""
    return (
        "usage: pivottrace COMMAND ...\n\n"
        "Decide which questions to annotate, which the model can label itself, and which to drop; "
        "then train.\n\n"
        f"the main job\n{_lines(MAIN)}\n"
        f"one stage on a run directory (or on a configuration file)\n{_lines(STAGES)}\n"
        f"experiments: arms x seeds\n{_lines(EXPERIMENTS)}\n"
        f"{SETTINGS}\n"
        "pivottrace COMMAND --help explains one command; "
        "pivottrace run --help lists all settings.\n"
    )


def help_of(command: str) -> str:
    """What one command does, and its arguments; `command` may be two words: label export."""
    arguments, summary = (MAIN | STAGES | EXPERIMENTS)[command]
    text = f"usage: pivottrace {command} {arguments}\n\n{summary[0].upper()}{summary[1:]}.\n"
    if command in EXPERIMENTS:
        return f"{text}{LAB}"
    if "SETTINGS" not in arguments:
        return text
    if command == "study":
        return f"{text}{STUDY}{SETTINGS}\npivottrace run --help lists all settings.\n"
    if command == "run":
        return f"{text}{UNTIL}{SETTINGS}\n"
    return f"{text}\n{SETTINGS}\npivottrace run --help lists all settings.\n"


def _lines(commands: dict[str, tuple[str, str]]) -> str:
    return "".join(f"  {name:<13} {summary}\n" for name, (_, summary) in commands.items())
