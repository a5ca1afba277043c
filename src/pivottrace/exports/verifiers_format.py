"""A package that verifiers and prime-rl take as a taskset.

Source: verifiers/v1/taskset.py, task.py and cli/init.py of verifiers 0.4.0. prime-rl trains on such
packages.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

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
    """Rows in the fields of a task, written as JSON lines, which the taskset reads by `json`."""
    found = [
        {
            **_prompt(row.prompt),
            "id": row.id,
            "answer": row.answer,
            "route": row.route,
            "weight": row.weight,
        }
        for row in rows
    ]
    return pa.Table.from_pylist(found) if found else pa.table({"id": pa.array([], pa.string())})


def _prompt(messages: Sequence[dict[str, str]]) -> dict[str, Any]:
    """A task's system prompt and prompt; a single question is a text, which every harness takes."""
    instructions = None
    if messages and messages[0]["role"] in INSTRUCTION_ROLES:
        instructions, messages = messages[0]["content"], messages[1:]
    alone = len(messages) == 1 and messages[0]["role"] == "user"
    return {
        "system_prompt": instructions,
        "prompt": messages[0]["content"] if alone else list(messages),
    }


VERIFIERS = ExportFormat(
    "verifiers", "a taskset package for verifiers and prime-rl", write, OPTIONS
)
