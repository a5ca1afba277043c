"""Truths with the entries of reasoning-gym, which their tasks' scorers judge by.

Labels and the pool's answers are plain texts, because people read and write them. So an entry
joins its truth only where answers are judged.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pivottrace.config import Config
from pivottrace.run.directory import RunDir
from pivottrace.verifier.gym_names import is_gym
from pivottrace.verifier.truths import with_entry


def with_entries(run: RunDir, truths: Mapping[str, str]) -> dict[str, str]:
    """The truths of pool questions, by id, as `answers.verifier` wants them.

    Raises:
        RunDirError: The pool is missing or torn.
    """
    if run.config.answers.verifier != "reasoning-gym" or not truths:
        return dict(truths)
    pool = run.read_table("pool", made_by="run", columns=["id", "source", "extra"])
    rows = {row["id"]: row for row in pool.to_pylist()}
    return {i: _with_entry(truth, rows[i]) if i in rows else truth for i, truth in truths.items()}


def judged(question: Mapping[str, Any], config: Config) -> dict[str, Any]:
    """A row of schema `HELD_OUT`, its answer as its set's verifier wants it."""
    if (question.get("verifier") or config.answers.verifier) != "reasoning-gym":
        return dict(question)
    return {**question, "answer": _with_entry(question["answer"], question)}


def task_of(question: Mapping[str, Any]) -> str | None:
    """The task of reasoning-gym that made a row of schema `QUESTIONS`; None if none did."""
    base = (question["source"] or "").partition("?")[0]
    return _extra(question).get("task") if is_gym(base) else None


def _with_entry(truth: str, question: Mapping[str, Any]) -> str:
    return with_entry(truth, _extra(question)["entry"]) if task_of(question) else truth


def _extra(question: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(question["extra"] or "{}")
    return found
