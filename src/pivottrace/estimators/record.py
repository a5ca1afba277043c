"""The record of an estimator: everything that other parts need to know of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from pivottrace.estimators.trace_evidence import TraceEvidence

Needs = Literal["nothing", "greedy", "trace", "samples"]


@dataclass(frozen=True)
class Estimator:
    """An uncertainty estimator. For every estimator, higher is more uncertain.

    Attributes:
        name: The name in settings, and of the column in `scores`.
        title: The name in the report and in a study.
        needs: The costliest input, which sets the cost: `nothing`, the `greedy` response, its
            `trace` (one more pass over it), or the `samples` (`rollouts.num_samples` responses).
        function: One question's evidence to its score; NaN if it has none.
        order: Place among the columns of `scores`. Estimators without a place come last.
    """

    name: str
    title: str
    needs: Needs
    function: Callable[[TraceEvidence], float]
    order: float = math.inf

    def __call__(self, evidence: TraceEvidence) -> float:
        """The score of one question."""
        return self.function(evidence)

    @property
    def shares_rollouts(self) -> bool:
        """Whether the score comes from the rollouts that correctness is counted on.

        Such a score looks better than it is on the probes, so it never counts as the best there.
        """
        return self.needs == "samples"

    @property
    def competes(self) -> bool:
        """Whether the probes may call it best, and the combination may use it.

        A score from the rollouts themselves may not, and neither may a score from nothing.
        """
        return not self.shares_rollouts and self.needs != "nothing"
