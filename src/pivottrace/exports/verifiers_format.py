"""A package that verifiers and prime-rl take as a taskset.

Source: verifiers/v1/taskset.py, task.py and cli/init.py of verifiers 0.4.0. prime-rl trains on such
packages.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from pivottrace import __version__
from pivottrace.exports import ExportFormat, Written
from pivottrace.exports.bundle import (
    OPTIONS,
    VERIFIER,
    Folder,
    kit_code,
    kit_text,
    write_folder,
)
from pivottrace.exports.training_data import Row, training_data
from pivottrace.ingest.prompts import INSTRUCTION_ROLES
from pivottrace.run.directory import RunDir


def write(run: RunDir, folder: Path, weights: str, prompt: str) -> Written:
    """Write a package with the rows, the taskset and its reward."""
    data = training_data(run, weights, prompt)
    # Names of their own, so that the exports of several runs can be installed side by side.
    own = re.sub(r"\W+", "_", run.path.resolve().name.lower(), flags=re.ASCII).strip("_") or "run"
    package, verifier = f"pivottrace_{own}", f"{VERIFIER}_{own}"
    project = package.replace("_", "-")
    of = Folder(
        trainer="verifiers 0.4 and prime-rl",
        tables={
            f"{package}/train.jsonl": _table(data.train),
            f"{package}/validation.jsonl": _table(data.held_out),
        },
        texts={
            "pyproject.toml": kit_text(
                "verifiers_pyproject.toml",
                PROJECT=project,
                PACKAGE=package,
                COPY=verifier,
                VERSION=__version__,
            ),
            f"{package}/__init__.py": kit_code("verifiers_package.py"),
            f"{package}/verifiers_taskset.py": kit_code("verifiers_taskset.py", verifier),
        },
        card="card_verifiers.md",
        code=f"{package}/",
        verifier=verifier,
        places={"PROJECT": project},
    )
    return write_folder(run, folder, data, of, weights=weights, prompt=prompt)


def _table(rows: Sequence[Row]) -> pa.Table:
    """Rows in the fields of a task, written as JSON lines, which the taskset reads by `json`.

    A single question is a text, which every harness takes. If the file has a conversation, all its
    prompts are lists of messages, because a column has one type.
    """
    split = [_split(row.prompt) for row in rows]
    are_texts = all([m["role"] for m in messages] == ["user"] for _, messages in split)
    found = [
        {
            "system_prompt": instructions,
            "prompt": messages[0]["content"] if are_texts else messages,
            "id": row.id,
            "answer": row.answer,
            "route": row.route,
            "weight": row.weight,
        }
        for row, (instructions, messages) in zip(rows, split, strict=True)
    ]
    return pa.Table.from_pylist(found) if found else pa.table({"id": pa.array([], pa.string())})


def _split(messages: Sequence[dict[str, str]]) -> tuple[str | None, list[dict[str, str]]]:
    """The system prompt of a prompt, if it has one, and its other messages."""
    if messages and messages[0]["role"] in INSTRUCTION_ROLES:
        return messages[0]["content"], list(messages[1:])
    return None, list(messages)


VERIFIERS = ExportFormat(
    "verifiers", "a taskset package for verifiers and prime-rl", write, OPTIONS
)
