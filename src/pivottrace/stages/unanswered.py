"""Responses without an answer: a cause and a cure, and the end of a run without any answer.

This module is not a stage. A run that goes on without answers would end with every question put
off, after hours, and the cure would stand in its report.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping

from pivottrace.config import Config
from pivottrace.errors import NoAnswersError
from pivottrace.rollouts.answer_reader import first_unread
from pivottrace.run.directory import RunDir

MANY = 0.5
"""Share of responses without an answer above which a pool is of little use (ours)."""
AGAIN = "and begin again in another output directory (--output)"


def refuse_unanswered(failures: Mapping[str, int], num_questions: int, config: Config) -> None:
    """Stop where no question of the pool gave an answer.

    Args:
        failures: Number of questions without an answer so far, by reason.
        num_questions: Number of questions in the pool.
        config: The configuration of the run.

    Raises:
        NoAnswersError: There is no answer. The message has the most frequent cause and its cure.
    """
    if num_questions and sum(failures.values()) >= num_questions:
        raise NoAnswersError(f"no question can be used, because {_why(failures, config)}.")


def refuse_unanswered_table(run: RunDir, name: str, made_by: str) -> None:
    """Stop where every question of `scores` or `votes` has failed. Raises as `refuse_unanswered`.

    Args:
        run: The run.
        name: The table.
        made_by: The stage that wrote it.
    """
    failures = run.read_table(name, made_by, ["failure"])["failure"]
    counts = {row["values"]: row["counts"] for row in failures.value_counts().to_pylist()}
    counts.pop(None, None)
    refuse_unanswered(counts, len(failures), run.config)


def say_many_unanswered(run: RunDir) -> None:
    """Print the sentence of `unanswered_note` as a note."""
    if note := unanswered_note(run):
        print(f"note: {note}", file=sys.stderr, flush=True)


def unanswered_note(run: RunDir) -> str | None:
    """The sentence of `many_unanswered` for a run, with the end of one such response."""
    note = many_unanswered(*greedy_failures(run), run.config)
    response = first_unread(run) if note else None
    return note if response is None else f"{note}. One response ends: {response!r}"


def many_unanswered(failures: Mapping[str, int], num_questions: int, config: Config) -> str | None:
    """A sentence with the cause and its cure, if most questions have no answer; else None."""
    number = sum(failures.values())
    if number <= MANY * num_questions:
        return None
    return (
        f"{number} of {num_questions} greedy responses gave no answer, so little can be learnt "
        f"from this pool: {_why(failures, config)}"
    )


def greedy_failures(run: RunDir) -> tuple[dict[str, int], int]:
    """Number of greedy traces without an answer, by reason, and of questions."""
    facts = run.stage_facts("greedy")
    return facts.get("failures") or {}, facts.get("num_questions", 0)


def _why(failures: Mapping[str, int], config: Config) -> str:
    """The most frequent cause, with its number and its cure."""
    limit = f"rollouts.max_new_tokens = {config.rollouts.max_new_tokens}"
    reader = "answers.formats"
    cure = "name their format there, or describe it by answers.pattern, or ask for a known one"
    if config.answers.pattern is not None:
        reader, cure = "answers.pattern", "correct it, or leave it out to use answers.formats"
    causes = {
        "truncated": (f"were cut at {limit} before an answer", "raise it"),
        "no_answer": (f"have no answer that {reader} can read", cure),
        "empty_response": (
            "are empty",
            "look at the prompt that pivottrace validate shows, and take the model's own chat "
            "template",
        ),
        "nan_logits": ("came with numbers that are not finite", "try another model.dtype"),
        "prompt_too_long_for_the_model": ("do not fit the model's context", f"lower {limit}"),
        "empty_prompt": ("answer an empty prompt", "look at the questions"),
    }
    reason = max(failures, key=lambda name: failures[name])
    what, cure = causes[reason]
    return f"{failures[reason]} responses {what}: {cure}, {AGAIN}"
