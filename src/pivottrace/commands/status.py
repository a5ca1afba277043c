"""The state of a run and its next step, as plain lines."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

from pivottrace.errors import counted
from pivottrace.labels.budget import allowed_labels, bought, labels_of
from pivottrace.labels.buying import WHEN_OVER
from pivottrace.labels.requests import waiting_file
from pivottrace.labels.waiting import can_go_on, left_open, missing_labels
from pivottrace.pipeline import STAGES, command_of, stages_of, unfinished
from pivottrace.report.collect import report_path
from pivottrace.report.verdict import too_weak, verdict
from pivottrace.report.wording import reason_meaning
from pivottrace.routing.routes import ROUTES, Reason
from pivottrace.routing.weighting import MIN_PROBES
from pivottrace.run.choices import driving_estimator
from pivottrace.run.directory import RunDir
from pivottrace.run.progress import in_words
from pivottrace.run.readings import evaluation_facts, samples_taken
from pivottrace.run.records import RUN_WIDE
from pivottrace.run.rounds import all_rounds, current_round, is_last_round, start_model
from pivottrace.stages.train import training_notes
from pivottrace.stages.unanswered import unanswered_note

PARTS_OF = {
    "greedy": ("rollouts_greedy",),
    "trace": ("signals",),
    "sample": ("rollouts_sampled",),
}


def describe(run: RunDir) -> Iterator[str]:
    """Yield one line per stage, notes on the result, then the next command. Write nothing.

    A line has the seconds of all attempts of the stage in this round. A stage that was forgotten
    (`redo`) has none until it is made again. The closing lines of a run count its old seconds too.

    Raises:
        RunDirError: The manifest or a table is torn.
    """
    run.refuse_torn_tables()
    run = current_round(run)
    seconds = {name: took for name, took in run.seconds().items() if name in RUN_WIDE}
    seconds |= run.seconds(all_rounds=False)
    left, num_rounds = unfinished(run), len(all_rounds(run))
    of = f" (the first is 0) of {num_rounds}" if num_rounds > 1 else ""
    yield f"run {run.path}, round {run.round_index}{of}"
    for name in STAGES:
        done = run.is_done(name)
        state = "done" if done else "to do" if name in left else "off"
        parts = [f"{_num_parts(run, part)} parts of {part}" for part in PARTS_OF.get(name, ())]
        detail = "" if done else ", ".join(part for part in parts if not part.startswith("0 "))
        took = f"{seconds[name]:8.1f} s" if name in seconds else " " * 10
        yield f"  {state:<6}{in_words(name):<16}{took}  {detail}".rstrip()
    yield from _route_lines(run)
    if run.is_done("pool"):
        used, allowed = len(bought(run)), allowed_labels(run)
        yield f"labels: {used} of {allowed} allowed"
        yield from _waiting_line(run)
    yield from (f"note: {note}" for note in notes(run))
    report = report_path(run)
    made = f"open {quoted(report)}" if report.is_file() else f"pivottrace report {quoted(run.path)}"
    yield next_line(run, made)


def _waiting_line(run: RunDir) -> Iterator[str]:
    """The answers that the run waits for, if any, and when it goes on without them."""
    if missing := missing_labels(run):
        partial = "with" if run.config.labels.partial else "only with"
        yield (
            f"waits for: {counted(len(missing), 'true answer')}; it goes on without the rest "
            f"{partial} labels.partial = true, {WHEN_OVER}"
        )


def _route_lines(run: RunDir) -> Iterator[str]:
    """The routes. With several rounds: the routes of each, and the moves between them."""
    rounds = all_rounds(run)
    for each in rounds:
        triage = each.stage_facts("triage")
        if not triage:
            continue
        where = f" in round {each.round_index}" if len(rounds) > 1 else ""
        yield f"routes{where}: {_counted(triage['counts'])}"
        if triage.get("moves"):
            yield f"moves since round {each.round_index - 1}: {_counted(triage['moves'])}"


def _counted(counts: dict[str, int]) -> str:
    """Routes in their own order, before moves in the order that they have."""
    names = [*(name for name in ROUTES if name in counts), *(n for n in counts if n not in ROUTES)]
    return ", ".join(f"{name.replace('_', ' ')} {counts[name]}" for name in names)


def next_line(run: RunDir, at_the_end: str) -> str:
    """The next command of the whole run, or `at_the_end` if nothing is left to do."""
    waiting, place = waiting_file(current_round(run)), quoted(run.path)
    disputed = sum(label.disputed for label in labels_of(run).values())
    if disputed and unfinished(run):
        return f"next: settle {counted(disputed, 'question')}: pivottrace label conflicts {place}"
    if waiting is not None:
        file = quoted(waiting)
        return (
            f"next: fill in `answer` in {file}, then: pivottrace label import {place} {file}; or "
            f"answer in the browser: pivottrace label serve {place}{or_without(run)}"
        )
    return f"next: {f'pivottrace run {place}' if unfinished(run) else at_the_end}"


def or_without(run: RunDir) -> str:
    """The way on without the answers that are missing, as the end of a sentence; empty if none."""
    if not can_go_on(current_round(run)):
        return ""
    return f"; or go on without the rest: pivottrace run {quoted(run.path)} --labels.partial true"


def stage_lines(run: RunDir, command: str) -> Iterator[str]:
    """The closing lines of a command that ran its stages: its files, and the next command."""
    left = unfinished(run)
    found = [path for stage in stages_of(command) for path in run.outputs(stage)]
    yield f"{command}: {', '.join(map(quoted, found)) or 'done, and nothing to write'}"
    if command == "sample":
        yield f"samples: {samples_taken(run)}"
    if command == "calibrate":
        yield from (f"note: {note}" for note in _combination_note(run))
        yield from (f"note: {note}" for note in _after_vote_note(run))
    yield f"next: pivottrace {command_of(left[0]) if left else 'report'} {quoted(run.path)}"


def quoted(path: Path) -> str:
    """A path as a shell argument."""
    return shlex.quote(str(path))


def notes(run: RunDir) -> Iterator[str]:
    """Warnings that a user needs before trusting the result, in plain words."""
    yield from run.stage_facts("pool").get("notes", [])
    disputed = sum(label.disputed for label in labels_of(run).values())
    if disputed:
        what = f"{counted(disputed, 'question')} {'has' if disputed == 1 else 'have'}"
        yield f"{what} answers that differ: pivottrace label conflicts {quoted(run.path)}"
    overlap = run.stage_facts("pool").get("num_overlap")
    if overlap:
        done = "dropped" if run.config.pool.on_overlap == "drop" else "kept"
        yield f"{overlap} pool questions are also held-out questions ({done}; overlap.parquet)"
    if run.begun_facts("greedy").get("chat_template") is False:
        from pivottrace.rollouts.parts import NO_CHAT_TEMPLATE

        yield NO_CHAT_TEMPLATE
    greedy = run.stage_facts("greedy")
    failures = greedy.get("failures") or {}
    if failures:
        reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(failures.items()))
        total = greedy["num_questions"]
        yield f"{sum(failures.values())} of {total} greedy traces gave no answer: {reasons}"
    if many := unanswered_note(run):
        yield many
    failed = run.stage_facts("sample").get("num_failed", 0)
    if failed and failed == greedy.get("num_questions"):
        from pivottrace.rollouts.answer_reader import unread_note

        why = unread_note(run) or "look at the responses in the report"
        yield (
            f"the model answers nothing: no question can be used, so no label was asked for; {why}"
        )
    elif weak := too_weak(run):
        yield weak
    yield from _combination_note(run)
    yield from _after_vote_note(run)
    yield from _route_notes(run)
    train = run.stage_facts("train")
    yield from training_notes(run.config, train.get("num_rows", {}), train.get("passes", 0.0))
    if train.get("reason"):
        yield f"train: {train['reason']}"
    skipped = evaluation_facts(run).get("skipped")
    if skipped:
        yield f"evaluate: {skipped}"


def _route_notes(run: RunDir) -> Iterator[str]:
    """Why questions are put off, why no vote is trained on, and why labels are left over."""
    facts, options = run.stage_facts("triage"), run.config.triage
    if not facts:
        return
    for reason, count in facts["put_off"].items():
        what = "1 question is put off" if count == 1 else f"{count} questions are put off, each"
        yield f"{what} for this reason: {reason_meaning(reason)}"
    if not facts["counts"]["weak"]:
        floor = facts["weak_floor"]
        why = f"no vote is expected to teach more than triage.least_gain = {options.least_gain:g}"
        if floor is not None and floor["end"] is None:
            why = (
                f"the probes do not prove triage.vote_floor = {options.vote_floor:g} anywhere; "
                f"more probes or a lower floor would"
            )
        elif options.mode == "fixed":
            why = "the fixed fractions leave no question with a vote to it"
        elif facts["put_off"].get(Reason.DEFER_NO_PLACE):
            limit = "triage.most_rows" if options.most_rows else "more train.steps allow more"
            why = (
                f"votes find no place beside the labelled questions, because they are added only "
                f"up to {facts['most_rows']:,} rows ({limit})"
            )
        yield f"no question is trained on its own vote: {why}"
    if number := len(left_open(run)):
        yield (
            f"{counted(number, 'question')} chosen for a true answer stayed without one, so "
            f"{'this label is' if number == 1 else 'these labels are'} left over. To answer "
            f"{'it' if number == 1 else 'them'} yet: pivottrace label export {quoted(run.path)}"
        )
    left = facts["labels_allowed"] - facts["labels_planned"]
    if left > 0 and options.mode == "calibrated" and is_last_round(run):
        yield (
            f"{left} of {facts['labels_allowed']} labels are left over: none of them would teach "
            f"more than triage.least_label_gain = {options.least_label_gain:g} beyond the vote"
        )


def _after_vote_note(run: RunDir) -> Iterator[str]:
    """How many probes calibration has left out, because their label was given after the vote."""
    number = run.stage_facts("calibrate").get("labels_after_vote")
    if number:
        has = "has a label that was" if number == 1 else "have labels that were"
        yield (
            f"{counted(number, 'probe')} {has} given after the model's vote was shown; calibration "
            f"leaves {'it' if number == 1 else 'them'} out, and training uses "
            f"{'it' if number == 1 else 'them'}"
        )


def _combination_note(run: RunDir) -> Iterator[str]:
    """The reason why the requested combination does not rank the pool."""
    calibrate = run.stage_facts("calibrate")
    if run.config.score.estimator != "combination" or not calibrate:
        return
    found = calibrate.get("combination")
    ranking = f"{driving_estimator(run.config)} ranks the pool"
    if found is None:
        yield (
            f"no combination could be fitted: it needs at least {MIN_PROBES} labelled probes that "
            f"are not all equally right, and there are {calibrate['num_probes']}; {ranking}"
        )
    elif not found["used"]:
        yield (
            f"the combination is not better beyond chance: its rank correlation with errors on "
            f"{calibrate['num_probes']} probes is {found['rho']:.2f}, and that of "
            f"{found['best_single']}, the best single estimator, is {found['single_rho']:.2f} "
            f"(difference {found['low']:+.2f} to {found['high']:+.2f}, 90 % interval); {ranking}"
        )


def summary_lines(run: RunDir) -> Iterator[str]:
    """The closing lines of a run: the verdict, the files, and the next command.

    They leave out everything that the run does not have yet.
    """
    yield ""
    yield from (f"{title:<12}{text}" for title, text in verdict(run).lines())
    files = {
        "routes": run.round_path / "routes",
        "model": Path(start_model(run.in_round(run.config.rounds.num)).path),
        "report": report_path(run),
    }
    yield from (f"{name:<12}{path}" for name, path in files.items() if path.exists())
    yield next_line(run, f"open {quoted(files['report'])}")


def _num_parts(run: RunDir, name: str) -> int:
    return len(list((run.round_path / name).glob("part-*.parquet")))
