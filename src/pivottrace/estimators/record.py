"""The record of an estimator holds all facts that other parts need."""

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
        name: The name in settings, and of the column in `scores` or `votes`.
        title: The name in the report and in a study.
        needs: The costliest input, which sets the cost: `nothing`, the `greedy` response, its
            `trace` (one more pass over it), or the `samples` (up to `rollouts.num_samples`
            responses). With `samples` the column is in `votes`, otherwise in `scores`.
        function: It turns one question's evidence into a score. NaN means that there is no score.
        order: Place among the columns of its table. By default the estimator comes last.
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
        """Whether the score comes from the same rollouts as the correctness.

        Such a score looks better than it is on the probes, so it never counts as the best there.
        """
        return self.needs == "samples"

    @property
    def competes(self) -> bool:
        """Whether the estimator may be the best on the probes and a part of the combination.

        An estimator that scores by the rollouts themselves does not compete. An estimator that
        needs nothing does not compete either.
        """
        return not self.shares_rollouts and self.needs != "nothing"
