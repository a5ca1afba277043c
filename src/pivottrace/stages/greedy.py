"""The greedy trace of each question, part by part. Everything of the trace is read off it."""

from __future__ import annotations

from typing import Any

from pivottrace.rollouts.parts import PoolRollouts
from pivottrace.run.directory import RunDir
from pivottrace.run.storage import num_list_values, read_parquet
from pivottrace.stages.unanswered import greedy_failures, refuse_unanswered, say_many_unanswered


def run(run: RunDir) -> None:
    """Write the parts of `rollouts_greedy`. Finished parts are kept.

    A note says so if most responses have no answer. It comes again when a run is taken up.

    Raises:
        ConfigError: A prompt leaves too little room for a response.
        RunDirError: The finished parts came from another model.
        NoAnswersError: No response has an answer.
    """
    if not run.is_done("greedy"):
        _write(run)
    failures, num_questions = greedy_failures(run)
    refuse_unanswered(failures, num_questions, run.config)
    say_many_unanswered(run)


def _write(run: RunDir) -> None:
    pool = PoolRollouts(run)
    if not run.begun_facts("greedy"):  # later, the limit of rollouts cannot change any more
        pool.refuse_long_prompts()
    with run.timed("greedy", part="generation"):
        pool.write_greedy(lambda: run.begin("greedy", **pool.facts))
    with run.turn():
        if run.is_done("greedy"):
            return
        run.mark_done(
            "greedy",
            num_questions=pool.num_questions,
            num_parts=pool.num_parts,
            **_counted(run, pool.num_parts),
            **pool.facts,
        )


def _counted(run: RunDir, num_parts: int) -> dict[str, Any]:
    """Number of greedy traces without an answer, by reason, and of all response tokens."""
    counts: dict[str, int] = {}
    num_tokens = 0
    for index in range(num_parts):
        path = run.part_path("rollouts_greedy", index)
        part = read_parquet(path, ["answer", "finish", "failure", "tokens"])
        num_tokens += num_list_values(part["tokens"])
        for row in part.drop_columns("tokens").to_pylist():
            reason = row["failure"] or (None if row["answer"] is not None else _missing(row))
            if reason:
                counts[reason] = counts.get(reason, 0) + 1
    return {"failures": counts, "response_tokens": num_tokens}


def _missing(row: dict[str, Any]) -> str:
    return "truncated" if row["finish"] == "length" else "no_answer"
