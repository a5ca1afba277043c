"""The texts of `pivottrace --help` and of each command's help. This module stays light."""

from __future__ import annotations

# Each command with its arguments and purpose, in the order of the list.
MAIN: dict[str, tuple[str, str]] = {
    "demo": (
        "[--model smollm2] [SETTINGS]",
        "run everything on questions and a model that packages bring along: a laptop, a report",
    ),
    "init": ("FILE [--all] [SETTINGS]", "write a short configuration file; --all: every setting"),
    "validate": ("FILE [SETTINGS]", "check a configuration, its data and its model"),
    "run": (
        "FILE|RUN [--until STAGE] [--wait] [--shard I/N | --ray ADDRESS] [SETTINGS]",
        "run or resume every stage",
    ),
    "status": ("RUN", "show the finished stages and the next command"),
    "repair": ("RUN", "remove damaged files of a run, so that the next run makes them again"),
    "report": ("RUN", "write the report of the run so far"),
    "view": (
        "RUN [QUESTION_ID] [--route ROUTE] [--open]",
        "write a page of a question: trace, samples, label, route",
    ),
    "study": (
        "FILE|RUN ... [--grid] [SETTINGS]",
        "compare the estimators on labelled pools, with intervals",
    ),
    "redo": (
        "RUN calibrate|train|evaluate [SETTINGS]",
        "forget these stages and all later ones, so that they are made again",
    ),
    "plan": ("RUN", "show the expected result of each label budget, before it is spent"),
    "audit": (
        "RUN [--label-error SHARE]",
        "list labels that the model contradicts, for a second look",
    ),
    "export": (
        "RUN --to FORMAT [--out FOLDER] [OPTIONS]",
        "write the routes for another trainer, in a folder that trains as it stands",
    ),
}
STAGES: dict[str, tuple[str, str]] = {
    "greedy": ("FILE|RUN [WORKERS] [SETTINGS]", "generate the greedy trace of each question"),
    "trace": ("FILE|RUN [WORKERS] [SETTINGS]", "read attention signals off the greedy traces"),
    "score": ("FILE|RUN [WORKERS] [SETTINGS]", "find pivots, and score each question by its trace"),
    "sample": (
        "FILE|RUN [WORKERS] [SETTINGS]",
        "sample answers to each question, and let them vote",
    ),
    "calibrate": ("FILE|RUN [SETTINGS]", "label probes and read the curves along the ranking"),
    "triage": ("FILE|RUN [SETTINGS]", "give every question a route, a reason and a weight"),
    "label": ("FILE|RUN [SETTINGS]", "get the chosen labels, or ask people for them"),
    "label serve": (
        "RUN [--port N] [--open]",
        "answer the questions that wait, on a page in the browser",
    ),
    "label export": (
        "RUN [FILE] [--format label-studio]",
        "write the questions that wait for a label, as CSV, JSONL or tasks of Label Studio",
    ),
    "label import": (
        "RUN FILE [--replace] [--confirm] [--skip-unasked] [--redo]",
        "take in the answers that people filled in",
    ),
    "label push": (
        "RUN [--url URL] [--project N]",
        "ask the questions that wait for a label in Label Studio",
    ),
    "label pull": (
        "RUN [--url URL] [--project N] [--replace] [--confirm] [--skip-unasked] [--redo]",
        "take in the answers that people gave in Label Studio",
    ),
    "label conflicts": ("RUN", "list the questions whose answers differ"),
    "label comments": ("RUN", "list the comments that people gave on the page"),
    "label correct": (
        "RUN ID ANSWER [--by NAME] [--confirm] [--redo]",
        "give a question its label, whatever was answered before",
    ),
    "train": ("FILE|RUN [SETTINGS]", "train by GRPO on verified and majority rewards"),
    "evaluate": (
        "FILE|RUN [WORKERS] [SETTINGS]",
        "measure held-out accuracy, before and after training",
    ),
}
EXPERIMENTS: dict[str, tuple[str, str]] = {
    "lab run": (
        "FILE [--processes 1|2] [--arms A,B] [--seeds 0,1]",
        "run the arms and seeds of an experiment that have no result yet",
    ),
    "lab report": ("FILE [--output DIR]", "write tables and figures of the finished arms"),
}
SHORTCUTS = {
    "--questions": "--pool.questions",
    "--evaluation": "--pool.evaluation",
    "--model": "--model.path",
    "--budget": "--labels.budget",
}
MODEL_SHORTCUT = "  --model PATH             --model.path"
SETTINGS = """\
Settings override the values of FILE or RUN. The flag of a setting is its key, as in
--train.steps 100. Write true and false out (--train.enabled false), and write a table as in the
file (--pool.chat-template-args "{enable_thinking = false}"). Shortcuts:
  --questions FILE         --pool.questions
  --evaluation FILE        --pool.evaluation
  --map prompt=COLUMN      one entry of pool.map; also answer=COLUMN, id=COLUMN
  --model PATH             --model.path
  --budget N               --labels.budget
  --output DIR             the run directory
  --preset default|paper   a preset, over the values of the file
"""
UNTIL = """\
FILE is a configuration file, and RUN is a run directory. Without either, the settings alone count.
  --until STAGE            stop after pool, greedy, trace, score, sample, calibrate, triage, label,
                           train or evaluate
  --wait                   where people have to give labels, wait for them and go on, in place of
                           an end with exit code 3. The run is free while it waits
"""
WORKERS = """\
  --shard I/N              this is worker I of N on one shared folder, for greedy, trace, score,
                           sample and evaluate, or for run --until one of these. Each worker makes
                           the parts that no other one has claimed
  --ray ADDRESS            the nodes of a Ray cluster make the parts, and this process writes them.
                           ADDRESS is that of the head, such as 10.0.0.1:6379, or auto

"""
STUDY = """
The answers are in a column of the pool, or come from the world's oracle; the study is of the
questions that have one. It first runs missing stages, then takes --study.truth-samples further
samples per question. It buys no label. It averages over several pools. The results are study.json,
study.md and study.svg.
  --output DIR             folder of the results; the default is RUN-study beside the first run
  --grid                   also try all combinations of pivot settings, into grid.csv. This chooses
                           settings on these questions, so take development questions only

"""
LABEL = """
  --replace                the answers take the place of earlier ones
  --confirm                take answers that cannot be read, or that read as text where the
                           model's answers are numbers, as they stand
  --skip-unasked           skip the rows of a file whose questions do not wait for a label
  --by NAME                who answers; in a file, the column annotator says it
  --redo                   if a stage has used a changed label, forget that stage and all
                           later ones, so that they are made again; rollouts are kept

"cannot be answered" is an answer, too: the question leaves the pool. A blank answer, "NA" and
"don't know" only leave it unlabelled. Answers that differ are kept side by side, and none of them
is used until `label correct` settles the question.
"""
STUDIO = """
The key comes from the environment variable LABEL_STUDIO_API_KEY, and is written nowhere. It is a
personal access token or a legacy token of your account.
  --url URL                the address of Label Studio; the default is LABEL_STUDIO_URL
  --project N              the project; the default is the project of the last push, which the
                           first push makes
"""
SERVE = """
  --port N                 the port on this machine; the default is 8750, and 0 takes a free one
  --open                   open the link in the browser

The page is for this machine only. The link has a token, and whoever has it may label. The same
command with the same port lets a page that is open go on. Ctrl-C stops it; every answer is stored.
"""
DEMO = """
  --model embedded     a small synthetic world and its model, in a few minutes; the default
  --model smollm2      a real language model of 135 million parameters and questions of
                       reasoning-gym, in half an hour on one free core; needs the extras smollm
                       and gym
"""
REDO = """
Labels are kept, and so are the rollouts of the first round. `calibrate` includes triage, label and
training. Plans, audit.csv, exports in RUN/export, the report and RUN/view go with the stages that
they show. The command only forgets: pivottrace run RUN then makes the stages again.

"""
VIEW = """
Without a question, the page has the most telling questions of every route.
  --route ROUTE            the most telling questions of annotate, weak, discard or defer
  --open                   open the page in a browser

The page is one file in RUN/view. The command works at every stage of a run, and only reads it.
"""
EXPORT = """
The command exports the routes of the last round that has any. It does not change the run.
  --out FOLDER             the folder to write; the default is RUN/export/FORMAT. The command
                           replaces an earlier export to the same format, and nothing else

Formats of trainers take two options more:
  --weights reward         how the weights of rows act. `reward`: the reward is weight x right, and
                           its baseline is not divided by the group's deviation. `estimator` (only
                           verl): an estimator of advantages puts the weight back after the
                           division. `thin`: a weak row stays with a chance of its weight, and then
                           counts in full. `ignore`: every row counts in full
  --prompt formatted       `formatted`: with system prompt and suffix, as when the votes were made.
                           `raw`: the question as it was given

FORMAT is one of these, or a format of your own as package.module:name
"""
LAB = """
FILE is an experiment: [experiment], [base] with the settings that all arms share, and [[arms]] with
the changes of each arm (docs/lab.md). Each finished arm and seed is one JSON file. The same command
resumes a stopped experiment.
  --processes 2            run two arms at once, with one thread each
  --arms A,B  --seeds 0,1  run only these
  --output DIR             folder of the report; the default is the folder of the results
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
    """The help of one command. `command` may be two words, such as "label export"."""
    arguments, summary = (MAIN | STAGES | EXPERIMENTS)[command]
    text = f"usage: pivottrace {command} {arguments}\n\n{summary[0].upper()}{summary[1:]}.\n"
    if command in EXPERIMENTS:
        return f"{text}{LAB}"
    if command == "export":
        return f"{text}{EXPORT}"
    if command == "label push":
        return f"{text}{STUDIO}"
    if command == "label pull":
        return f"{text}{STUDIO}{LABEL}"
    if command in ("label import", "label correct"):
        return f"{text}{LABEL}"
    if command == "view":
        return f"{text}{VIEW}"
    if command == "label serve":
        return f"{text}{SERVE}"
    if command == "demo":
        settings = SETTINGS.replace(f"{MODEL_SHORTCUT}\n", "")  # --model names the demo here
        return f"{text}{DEMO}\n{settings}\npivottrace run --help lists all settings.\n"
    if command == "redo":
        return f"{text}{REDO}{SETTINGS}"
    if "SETTINGS" not in arguments:
        return text
    if command == "study":
        return f"{text}{STUDY}{SETTINGS}\npivottrace run --help lists all settings.\n"
    if command == "run":
        return f"{text}{UNTIL}{WORKERS}{SETTINGS}\n"
    if "WORKERS" in arguments:
        text += f"\nWORKERS is one of these, where there are several:\n{WORKERS.rstrip()}\n"
    return f"{text}\n{SETTINGS}\npivottrace run --help lists all settings.\n"


def _lines(commands: dict[str, tuple[str, str]]) -> str:
    return "".join(f"  {name:<15} {summary}\n" for name, (_, summary) in commands.items())
