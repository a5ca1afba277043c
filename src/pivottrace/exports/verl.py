"""The rows that can be trained on, in the columns of verl's RLHF datasets.

Source: verl's verl/utils/dataset/rl_dataset.py (0.9.1) and examples/data_preprocess/gsm8k.py. The
keys `route`, `id` and `weight` of `extra_info` are ours.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from pivottrace.exports import ExportFormat, Written
from pivottrace.exports.routed import trainable_rows
from pivottrace.run.directory import RunDir
from pivottrace.run.storage import write_parquet
from pivottrace.schemas import QUESTIONS

# The schema is explicit: verl joins files only if all types are equal, and pyarrow would infer a
# null type for a column without a value.
VERL_ROWS = pa.schema(
    [
        ("data_source", pa.string()),  # the question's source; verl chooses its reward by it
        QUESTIONS.field("prompt"),
        ("ability", pa.string()),
        ("reward_model", pa.struct([("style", pa.string()), ("ground_truth", pa.string())])),
        (
            "extra_info",
            pa.struct(
                [
                    ("index", pa.int64()),  # the row's place in the file, from 0
                    ("split", pa.string()),
                    ("route", pa.string()),  # annotate | weak
                    ("id", pa.string()),
                    ("weight", pa.float64()),  # in [0, 1], for the row's normalised advantage
                ]
            ),
        ),
    ]
)


def write(run: RunDir, folder: Path) -> Written:
    """Write `train.parquet`, of schema `VERL_ROWS`: labelled annotate rows, then weak rows."""
    trainable, left_out = trainable_rows(run)
    rows = [
        {
            "data_source": row["source"],
            "prompt": row["prompt"],
            "ability": "reasoning",
            "reward_model": {"style": "rule", "ground_truth": row["answer"]},
            "extra_info": {
                "index": index,
                "split": "train",
                **{name: row[name] for name in ("route", "id", "weight")},
            },
        }
        for index, row in enumerate(trainable.to_pylist())
    ]
    write_parquet(folder / "train.parquet", pa.Table.from_pylist(rows, schema=VERL_ROWS))
    return Written({"train.parquet": len(rows)}, left_out)


VERL = ExportFormat("verl", "training rows as a parquet file for verl", write)
