"""The ranking of the pool around a question: its place and its neighbours."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches

import pyarrow as pa
import pyarrow.compute as pc

from pivottrace.errors import ConfigError, RunDirError
from pivottrace.report import collect
from pivottrace.report.telling import telling
from pivottrace.report.texts import field
from pivottrace.routing.probes import rank_fractions
from pivottrace.run import readings
from pivottrace.run.choices import driving_estimator
from pivottrace.run.directory import RunDir
from pivottrace.run.storage import read_parquet

NEIGHBOURS = 2
"""Questions on either side of a question in the ranking."""
NEAR_MATCHES = 3
# A comparison of more ids than this takes longer than a look into the file.
MOST_COMPARED = 100_000


@dataclass(frozen=True)
class Neighbour:
    """A question close in the ranking.

    Attributes:
        question_id: Its id.
        place: Its place in the ranking, from 1 for the most certain question.
        route: Its route; None before triage.
        reason: The reason for it.
    """

    question_id: str
    place: int
    route: str | None
    reason: str | None


class RankedPool:
    """The questions of a run in the order of their uncertainty, as far as it is known.

    After triage they are in its order. Before triage they are in the order of the estimator that
    will rank them, and before scoring nothing is ranked.

    Attributes:
        num_ranked: Questions with a place; the others follow them.
        triage: The table `triage`; None before triage.

    Raises:
        RunDirError: The run has no pool, or a table is torn.
    """

    def __init__(self, run: RunDir) -> None:
        if not run.table_path("pool").is_file():
            raise RunDirError(
                f"{run.path} has no questions yet. Make them with: {run.until('pool')}"
            )
        self.triage = collect.table(run, "triage")
        order = _scored(run) if self.triage is None else self.triage
        if order is None:
            ids = read_parquet(run.table_path("pool"), ["id"])["id"]
            order = pa.table({"question_id": ids, "rank": pa.nulls(len(ids), pa.float64())})
        else:
            order = order.sort_by([("rank", "ascending"), ("question_id", "ascending")])
        self.num_ranked = len(order) - order["rank"].null_count
        self._order = order

    def place(self, question_id: str) -> int | None:
        """The place in the ranking, from 1 for the most certain question; None without one."""
        index = self._index(question_id)
        return index + 1 if index < self.num_ranked else None

    def neighbours(self, question_id: str) -> tuple[list[Neighbour], list[Neighbour]]:
        """The more certain and the less certain neighbours of a question, in ranking order."""
        index = self._index(question_id)
        if index >= self.num_ranked:
            return [], []
        start, end = max(0, index - NEIGHBOURS), min(self.num_ranked, index + NEIGHBOURS + 1)
        rows = self._order.slice(start, end - start).to_pylist()
        found = [
            Neighbour(row["question_id"], start + i + 1, row.get("route"), row.get("reason"))
            for i, row in enumerate(rows)
        ]
        return found[: index - start], found[index - start + 1 :]

    def chosen(self) -> dict[str, tuple[str | None, str]]:
        """The questions to show first: for each its route, and the reason to show it.

        Before triage they are the most uncertain, the middle and the most certain question. Before
        scoring they are the first ones of the pool.
        """
        if self.triage is not None:
            return {t.question_id: (t.route, str(t.why)) for t in telling(self.triage)}
        ids, num = self._order["question_id"], self.num_ranked
        if num:
            whys = {num - 1: "the most uncertain", num // 2: "in the middle", 0: "the most certain"}
        else:
            whys = dict.fromkeys(range(min(3, len(ids))), "one of the first questions")
        return {ids[i].as_py(): (None, why) for i, why in whys.items()}

    def refuse_unknown(self, question_id: str) -> None:
        """Refuse an id that no question has. Raises ConfigError with similar ids."""
        if self._find(question_id) is not None:
            return
        ids = self._order["question_id"].to_pylist()
        begun = sorted(known for known in ids if known.startswith(question_id))
        close = get_close_matches(question_id, ids[:MOST_COMPARED], NEAR_MATCHES, cutoff=0.5)
        near = list(dict.fromkeys([*begun, *close]))[:NEAR_MATCHES]
        similar = ", ".join(map(field, near or ids[:NEAR_MATCHES]))
        raise ConfigError(
            f"no question has the id {field(question_id)!r}. "
            f"{'Similar ids are' if near else 'The first ids are'}: {similar}. All ids are in the "
            f"column id of pool.parquet"
        )

    def _find(self, question_id: str) -> int | None:
        index = pc.index(self._order["question_id"], pa.scalar(question_id, pa.string())).as_py()
        return None if index < 0 else int(index)

    def _index(self, question_id: str) -> int:
        index = self._find(question_id)
        assert index is not None, "refuse_unknown has let it pass"
        return index


def _scored(run: RunDir) -> pa.Table | None:
    """(question_id, rank) by the estimator that ranks the pool; None before it is known."""
    if run.is_done("sample"):
        ids, scores = readings.driving_scores(run)
    else:
        estimator = driving_estimator(run.config)
        if not run.is_done("score") or readings.table_with(run, estimator) != "scores":
            return None
        ids = run.read_table("scores", "score", ["question_id"])["question_id"].to_pylist()
        scores = readings.estimator_scores(run, [estimator])[estimator]
    ranks = pa.array(rank_fractions(scores), pa.float64(), from_pandas=True)
    return pa.table({"question_id": ids, "rank": ranks})
