"""The order `learnable`: the groups that training has sampled decide which rows come next.

The order is a rule (`rewards.groups.Rule`), because rules see the groups of all processes and are
kept in checkpoints. So every process chooses the same rows. The draws of a step depend only on the
seed, the step and the beliefs, so a resumed training chooses what it would have chosen.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from pivottrace.config import TrainConfig
from pivottrace.errors import DataError
from pivottrace.refine.state import check_state
from pivottrace.rewards.groups import Group
from pivottrace.training.row_tracker import (
    RowBeliefs,
    after_step,
    beliefs_before_training,
    choose_rows,
    rows_effective,
)

NAME = "learnable"


class LearnableOrder:
    """Choose the rows that still teach more often. No weight and no label changes.

    Every group that training samples says how often its row is rewarded now. This holds if a rule
    or an alarm gives the row weight 0 too, because rules need such groups to lift the weight again.
    A weak group whose vote had no winner says nothing, unless it has no answer at all: then no vote
    could reward it. Such a group still counts as a visit. A row and its twin on the rewritten
    question are two rows.

    Args:
        question_ids: (N,) ids of the training rows.
        prior: (N,) expected pass rates in [0, 1]; None where nothing is known.
        questions_per_step: Rows of a step.
        num_generations: Completions of a group.
        decay: See `row_tracker.after_step`.
        cap: See `row_tracker.choose_rows`.
        seed: Seed of the draws.
    """

    def __init__(
        self,
        question_ids: Sequence[str],
        prior: Sequence[float | None],
        *,
        questions_per_step: int,
        num_generations: int,
        decay: float,
        cap: float,
        seed: int,
    ) -> None:
        self._row = {question_id: row for row, question_id in enumerate(question_ids)}
        self._beliefs = beliefs_before_training([np.nan if p is None else p for p in prior])
        self._questions_per_step = questions_per_step
        self._num_generations = num_generations
        self._decay = decay
        self._cap = cap
        self._seed = seed

    @property
    def rows_effective(self) -> float:
        """See `row_tracker.rows_effective`."""
        return rows_effective(self._beliefs, self._num_generations)

    def rows_at(self, step: int) -> list[int]:
        """The rows of a step, chosen by the groups of all steps before it. Steps count from 0."""
        return choose_rows(
            self._beliefs,
            self._questions_per_step,
            self._num_generations,
            self._cap,
            np.random.default_rng([self._seed, step]),
        )

    def observe(self, step: int, groups: Sequence[Group]) -> None:
        """Take in the groups of a step.

        Raises:
            DataError: A reward is not in [0, 1], so it is no share of a rewarded completion.
        """
        rows = [self._row[group.question_id] for group in groups]
        sizes = [len(group.rewards) if is_telling(group) else 0 for group in groups]
        rewarded = [
            sum(group.rewards) if size else 0.0 for group, size in zip(groups, sizes, strict=True)
        ]
        self._beliefs = after_step(self._beliefs, rows, rewarded, sizes, self._decay)

    def weight(self, question_id: str, route: str) -> float:
        """Return 1.0: the order decides which rows come, and a row that comes counts in full."""
        return 1.0

    def label(self, question_id: str, label: str) -> str:
        """Return the label as it is."""
        return label

    def state_dict(self) -> dict[str, Any]:
        """Return the beliefs as numbers of each row, in the rows' order."""
        beliefs = self._beliefs
        return {
            "rule": NAME,
            "level": beliefs.level.tolist(),
            "evidence": beliefs.evidence.tolist(),
            "visits": beliefs.visits.tolist(),
            "drift": beliefs.drift,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state. Raises ConfigError if another rule wrote it."""
        check_state(state, NAME, "level", "evidence", "visits", "drift")
        self._beliefs = RowBeliefs(
            self._beliefs.prior,
            np.array(state["level"], dtype=np.float64),
            np.array(state["evidence"], dtype=np.float64),
            np.array(state["visits"], dtype=np.int64),
            state["drift"],
        )


def is_telling(group: Group) -> bool:
    """Whether a group's rewards say how often its row is rewarded.

    Raises:
        DataError: A reward is not in [0, 1].
    """
    outside = [reward for reward in group.rewards if not 0.0 <= reward <= 1.0]
    if outside:
        raise DataError(
            f"training row {group.question_id!r}: its reward {outside[0]:g} is not in [0, 1], so "
            f"train.order = learnable cannot count rewarded completions. Let weak.reward give "
            f"numbers from 0 to 1, or set train.order = shuffled"
        )
    return not group.abstained or all(answer is None for answer in group.answers)


def make_order(rows: pa.Table, settings: TrainConfig, seed: int) -> LearnableOrder | None:
    """Return the order that the settings name; None for `shuffled`, which needs no state.

    Args:
        rows: A table of schema `TRAINING_ROWS`.
        settings: The section `[train]`.
        seed: Seed of the round.
    """
    if settings.order == "shuffled":
        return None
    return LearnableOrder(
        rows["question_id"].to_pylist(),
        rows["prior_pass_rate"].to_pylist(),
        questions_per_step=settings.questions_per_step,
        num_generations=settings.num_generations,
        decay=settings.order_decay,
        cap=settings.order_cap,
        seed=seed,
    )
