"""The rows of this export as a taskset of verifiers, for vf-eval and prime-rl.

Settings, under `--env.taskset.`: `split` is train or validation, and `route` takes the rows of one
route only, so that two environments can train two routes.
"""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import verifiers.v1 as vf

from pivottrace.exports.kit.scoring import Scorer

HERE = Path(__file__).resolve().parent
SCORER = Scorer(HERE / "reward.json")


class RowData(vf.TaskData):
    """A row with the answer that judges it: a label, a frozen vote, or a held-out true answer."""

    answer: str
    route: str
    weight: float


class RowTask(vf.Task[RowData]):
    """A question and its reward, weight x right."""

    @property
    def key(self) -> str:
        """The question's id."""
        return self.data.id

    @vf.reward(weight=1.0)
    async def correct(self, trace: vf.Trace) -> float:
        """The weight of the row for a right answer, and else 0; it never raises."""
        return (await self._score(trace))["score"]

    @vf.metric
    async def acc(self, trace: vf.Trace) -> float:
        """1 for a right answer, whatever its weight."""
        return (await self._score(trace))["acc"]

    @vf.metric
    async def failed(self, trace: vf.Trace) -> float:
        """1 if the response could not be judged."""
        return (await self._score(trace))["failed"]

    async def validate(self, runtime: vf.Runtime) -> bool:
        """Whether the row's answer can be given at all."""
        return await asyncio.to_thread(SCORER.can_be_given, self.data.answer)

    async def _score(self, trace: vf.Trace) -> dict[str, float]:
        data = self.data
        return await asyncio.to_thread(SCORER.score, trace.last_reply, data.answer, data.weight)


class RowsConfig(vf.TasksetConfig):
    """The rows to load."""

    split: Literal["train", "validation"] = "train"
    route: Literal["annotate", "weak"] | None = None


class RowsTaskset(vf.Taskset[RowTask, RowsConfig]):
    """The rows, in the order of the file."""

    def load(self) -> Iterator[RowTask]:
        """Read the rows of the split."""
        with (HERE / f"{self.config.split}.jsonl").open(encoding="utf-8") as file:
            for line in file:
                row = json.loads(line)
                if self.config.route in (None, row["route"]):
                    yield RowTask(RowData(**row), self.config.task)
