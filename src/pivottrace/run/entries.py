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
from pivottrace.verifier.truths import with_entry


def with_entries(run: RunDir, truths: Mapping[str, str]) -> dict[str, str]:
    """The truths of pool questions, by id, as `answers.verifier` wants them.

    Raises:
        RunDirError: The pool is missing or torn.
    """
    if run.config.answers.verifier != "reasoning-gym" or not truths:
        return dict(truths)
    pool = run.read_table("pool", made_by="run", columns=["id", "extra"])
    extras = dict(zip(pool["id"].to_pylist(), pool["extra"].to_pylist(), strict=True))
    return {i: _with_entry(truth, extras.get(i)) for i, truth in truths.items()}


def judged(question: Mapping[str, Any], config: Config) -> dict[str, Any]:
    """A row of schema `QUESTIONS`, its answer as `answers.verifier` wants it."""
    if config.answers.verifier != "reasoning-gym":
        return dict(question)
    return {**question, "answer": _with_entry(question["answer"], question["extra"])}


def _with_entry(truth: str, extra: str | None) -> str:
    entry = json.loads(extra).get("entry") if extra else None
    return with_entry(truth, entry) if isinstance(entry, str) else truth
