"""One question's completions in a training step: what refinement and alarms look at."""

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
        question_id: The question's.
        route: Annotate | weak.
        answers: (G,) extracted; None where a completion gave none.
        classes: (G,) the class of equivalent answers of each; -1 without an answer.
        rewards: (G,) what each was given, before any weight.
        relabelled: Whether an annotate row was verified by another label than its bought label.
        num_tokens: (G,) tokens of each completion.
        hidden: (G, d) a direction of each completion in the model's hidden space; None where no
            rule asked for it.
    """

    question_id: str
    route: str
    answers: tuple[str | None, ...]
    classes: tuple[int, ...]
    rewards: tuple[float, ...]
    num_tokens: tuple[int, ...] = ()
    relabelled: bool = False
    hidden: npt.NDArray[np.float32] | None = None


class Rule(Protocol):
    """A rule that watches training and has a say in it: refinement, or an alarm.

    Every process of a training run sees every group of a step, in the same order, so that all come
    to the same state. The state goes into each checkpoint.
    """

    def observe(self, step: int, groups: Sequence[Group]) -> None:
        """Take in a step's groups (steps count from 0), before `weight` is asked for them."""
        ...

    def weight(self, question_id: str, route: str) -> float:
        """The factor of a row's own weight, in [0, 1]; 0 leaves its gradient out."""
        ...

    def label(self, question_id: str, label: str) -> str:
        """The label that an annotate row is verified by: the one it has, or a better one."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """The state as JSON values."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state that `state_dict` gave."""
        ...
