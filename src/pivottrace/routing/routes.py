"""The triage's vocabulary: routes, reasons, options and the result that holds them.

The paper's (DE-Venus): the routes discard, weak and annotate, and `PAPER_FRACTIONS`. Ours: defer,
every reason code, and the thresholds' values.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

import numpy as np
import numpy.typing as npt

from pivottrace.errors import ConfigError

FloatArray = npt.NDArray[np.float64]

PAPER_FRACTIONS = (0.293, 0.421)  # annotated, discarded: DE-Venus section 4.3


class Route(StrEnum):
    """The treatment of a question; a result holds positions in this order."""

    DISCARD = "discard"
    WEAK = "weak"
    ANNOTATE = "annotate"
    DEFER = "defer"


class Reason(StrEnum):
    """The reason for a route; a result holds positions in this order, then the failures' own."""

    MASTERED = "mastered"
    HOPELESS = "hopeless"
    NOTHING_TO_LEARN = "nothing_to_learn"
    PROBE_MASTERED = "probe_mastered"
    PROBE_HOPELESS = "probe_hopeless"
    LABELLED_MASTERED = "labelled_mastered"
    LABELLED_HOPELESS = "labelled_hopeless"
    FRACTION_LOWEST = "fraction_lowest"
    WEAK_VOTE_RELIABLE = "weak_vote_reliable"
    WEAK_FRACTION_MIDDLE = "weak_fraction_middle"
    ANNOTATE_GAIN = "annotate_gain"
    ANNOTATE_HOPELESS = "annotate_hopeless"
    ANNOTATE_FRACTION_HIGHEST = "annotate_fraction_highest"
    ANNOTATE_PROBE = "annotate_probe"
    ANNOTATE_LABELLED = "annotate_labelled"
    DEFER_BUDGET = "defer_budget"
    DEFER_VOTE_UNRELIABLE = "defer_vote_unreliable"
    DEFER_VOTE_HARMFUL = "defer_vote_harmful"
    DEFER_NO_VOTE = "defer_no_vote"
    DEFER_NO_CURVE = "defer_no_curve"
    FAILED_NO_SCORE = "failed_no_score"


ROUTES = tuple(route.value for route in Route)
REASONS = tuple(reason.value for reason in Reason)
ROUTE_CODE = {route: code for code, route in enumerate(Route)}
REASON_CODE = {reason: code for code, reason in enumerate(Reason)}


@dataclass(frozen=True)
class TriageOptions:
    """Thresholds of the triage.

    Attributes:
        mastered_floor: Window-mean correctness from which a question is mastered.
        hopeless_ceiling: Window-mean correctness up to which a question is hopeless.
        vote_floor: Mean vote reliability that the weak route must hold, by a lower bound. A
            pseudo-label is expected to teach from about 0.5 upwards. 0.6 leaves a margin, and can
            be proved with 64 probes if about 0.85 of the safe votes are right.
        vote_alpha: Upper limit of the chance that the weak route is below its floor.
        hopeless: Whether hopeless questions are dropped, or get the labels that are left over.
        fractions: Shares (annotate, discard) by rank in place of calibration; None to calibrate.

    Raises:
        ConfigError: A value is outside its range.
    """

    mastered_floor: float = 0.95
    hopeless_ceiling: float = 0.05
    vote_floor: float = 0.6
    vote_alpha: float = 0.1
    hopeless: Literal["drop", "annotate"] = "drop"
    fractions: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if not 0.0 <= self.hopeless_ceiling < self.mastered_floor <= 1.0:
            raise ConfigError(
                f"hopeless_ceiling {self.hopeless_ceiling} and mastered_floor "
                f"{self.mastered_floor} must satisfy 0 <= ceiling < floor <= 1"
            )
        for name in ("vote_floor", "vote_alpha"):
            if not 0.0 < getattr(self, name) < 1.0:
                raise ConfigError(f"{name} is {getattr(self, name)}; give a share above 0, below 1")
        if self.hopeless not in ("drop", "annotate"):
            raise ConfigError(f"hopeless is {self.hopeless!r}; give 'drop' or 'annotate'")
        if self.fractions is not None and not (
            min(self.fractions) >= 0.0 and sum(self.fractions) <= 1.0
        ):
            raise ConfigError(
                f"fractions (annotate, discard) are {self.fractions}; "
                "give two shares from 0 that add up to at most 1"
            )

    def is_mastered(self, mu: FloatArray, vote_share: FloatArray) -> npt.NDArray[np.bool_]:
        """Whether the curve says mastered and the question's own vote does not contradict it.

        No answer is more frequent than the winner, so correctness is at most the vote share. All
        arrays are (Q,). A share of NaN (none is stored) does not contradict the curve.
        """
        return (mu >= self.mastered_floor) & ~(vote_share < self.mastered_floor)


@dataclass(frozen=True)
class TriageResult:
    """A decision for each of Q questions, with the numbers behind it.

    Attributes:
        route: (Q,) int8, position in `ROUTES`.
        reason: (Q,) int16, position in `reason_names`.
        reason_names: `REASONS`, then one "failed_<name>" for each failure in the evidence.
        weight: (Q,) in [0, 1], reliability of the training signal. It is 1 for a verified answer
            and 0 for a question that is not trained on. For a weak row it is the lower bound of the
            vote's reliability at its risk, or 1, the paper's unweighted row, if there is no curve.
        label_gain: (Q,) expected learning from the true answer, in [0, ~0.7]; NaN if unknown.
        pseudo_gain: (Q,) expected learning from the majority vote; negative if it does more harm
            than good.
        priority: (Q,) label_gain minus the gain of the best alternative without a label, at least
            0.
    """

    route: npt.NDArray[np.int8]
    reason: npt.NDArray[np.int16]
    reason_names: tuple[str, ...]
    weight: FloatArray
    label_gain: FloatArray
    pseudo_gain: FloatArray
    priority: FloatArray

    def routes(self) -> list[str]:
        """Return every question's route by name."""
        return [ROUTES[code] for code in self.route.tolist()]

    def reasons(self) -> list[str]:
        """Return every question's reason by name."""
        return [self.reason_names[code] for code in self.reason.tolist()]

    def counts(self) -> dict[str, int]:
        """Return the number of questions on each route, also if it is 0."""
        return {name: int(np.sum(self.route == code)) for code, name in enumerate(ROUTES)}
