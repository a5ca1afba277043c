"""One question's completions in a training step, for the rules of refinement and for alarms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Group:
    """One question's G completions with their rewards.

    Attributes:
        question_id: Id of the question.
        route: `annotate` or `weak`.
        answers: (G,) extracted answers; None for a completion without an answer.
        classes: (G,) class of equivalent answers; -1 for a completion without an answer.
        rewards: (G,) reward of each completion, before any weight.
        abstained: Whether the vote that rewards a weak row had no winner, so that all its rewards
            are 0.
        relabelled: Whether an annotate row was verified by another label than the bought label.
        num_tokens: (G,) tokens of each completion.
        hidden: (G, d) a direction of each completion in the model's hidden space; None if no rule
            asked for it.
    """

    question_id: str
    route: str
    answers: tuple[str | None, ...]
    classes: tuple[int, ...]
    rewards: tuple[float, ...]
    num_tokens: tuple[int, ...] = ()
    relabelled: bool = False
    abstained: bool = False
    hidden: npt.NDArray[np.float32] | None = None


class Rule(Protocol):
    """A rule that watches training and can act on it: a rule of refinement, or an alarm.

    Every process of a training run sees every group of a step in the same order. So the rule has
    the same state in all processes. Each checkpoint holds that state.
    """

    def observe(self, step: int, groups: Sequence[Group]) -> None:
        """Take in the groups of a step, before `weight` is called for them. Steps count from 0."""
        ...

    def weight(self, question_id: str, route: str) -> float:
        """The factor of a row's own weight, in [0, 1]; 0 leaves the row's gradient out."""
        ...

    def label(self, question_id: str, label: str) -> str:
        """The label that an annotate row is verified by: its own label, or a better label."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """The state as JSON values."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a state that `state_dict` gave."""
        ...
