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
    CANNOT_BE_ANSWERED = "cannot_be_answered"
    PROBE_MASTERED = "probe_mastered"
    PROBE_HOPELESS = "probe_hopeless"
    LABELLED_MASTERED = "labelled_mastered"
    LABELLED_HOPELESS = "labelled_hopeless"
    FRACTION_LOWEST = "fraction_lowest"
    WEAK_VOTE = "weak_vote"
    WEAK_FRACTION_MIDDLE = "weak_fraction_middle"
    ANNOTATE_GAIN = "annotate_gain"
    ANNOTATE_HOPELESS = "annotate_hopeless"
    ANNOTATE_FRACTION_HIGHEST = "annotate_fraction_highest"
    ANNOTATE_PROBE = "annotate_probe"
    ANNOTATE_LABELLED = "annotate_labelled"
    DEFER_BUDGET = "defer_budget"
    DEFER_VOTE_UNRELIABLE = "defer_vote_unreliable"
    DEFER_VOTE_HARMFUL = "defer_vote_harmful"
    DEFER_VOTE_LITTLE = "defer_vote_little"
    DEFER_NO_PLACE = "defer_no_place"
    DEFER_NO_VOTE = "defer_no_vote"
    DEFER_UNKNOWN = "defer_unknown"
    FAILED_NO_SCORE = "failed_no_score"


ROUTES = tuple(route.value for route in Route)
REASONS = tuple(reason.value for reason in Reason)
ROUTE_CODE = {route: code for code, route in enumerate(Route)}
REASON_CODE = {reason: code for code, reason in enumerate(Reason)}


@dataclass(frozen=True)
class TriageOptions:
    """Thresholds of the triage.

    Attributes:
        least_gain: A vote is trained on if it is expected to teach more than this, in units of
            p(1-p) (`expectations`), and a question is mastered or hopeless if not even its label
            is. 0.045 is the gain at 20 right samples in 21.
        least_label_gain: A label is bought if it is expected to teach more than this beyond the
            vote.
        most_rows: Votes are trained on only while the rows, labelled ones included, are no more
            than this; the votes that teach most stay. None is no limit. Labels are never left out.
        vote_floor: Mean vote reliability that the weak route must hold, by a lower bound; None
            promises nothing, and lets the expected gain decide alone.
        vote_alpha: Upper limit of the chance that the weak route is below its floor.
        hopeless: Whether hopeless questions are dropped, or get the labels that are left over.
        fractions: Shares (annotate, discard) by rank in place of expectations; None for these.

    Raises:
        ConfigError: A value is outside its range.
    """

    least_gain: float = 0.045
    least_label_gain: float = 0.02
    most_rows: int | None = None
    vote_floor: float | None = None
    vote_alpha: float = 0.1
    hopeless: Literal["drop", "annotate"] = "drop"
    fractions: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        for name in ("least_gain", "least_label_gain"):
            if not 0.0 <= getattr(self, name) < 0.25:
                raise ConfigError(
                    f"{name} is {getattr(self, name)}; give a gain from 0, below 0.25, the most "
                    f"that a question can teach"
                )
        if self.most_rows is not None and self.most_rows < 1:
            raise ConfigError(f"most_rows is {self.most_rows}; give a number of rows from 1")
        for name in ("vote_floor", "vote_alpha"):
            value = getattr(self, name)
            if value is not None and not 0.0 < value < 1.0:
                raise ConfigError(f"{name} is {value}; give a share above 0, below 1")
        if self.hopeless not in ("drop", "annotate"):
            raise ConfigError(f"hopeless is {self.hopeless!r}; give 'drop' or 'annotate'")
        if self.fractions is not None and not (
            min(self.fractions) >= 0.0 and sum(self.fractions) <= 1.0
        ):
            raise ConfigError(
                f"fractions (annotate, discard) are {self.fractions}; "
                "give two shares from 0 that add up to at most 1"
            )


@dataclass(frozen=True)
class TriageResult:
    """A decision for each of Q questions, with the numbers behind it.

    Attributes:
        route: (Q,) int8, position in `ROUTES`.
        reason: (Q,) int16, position in `reason_names`.
        reason_names: `REASONS`, then one "failed_<name>" for each failure in the evidence.
        weight: (Q,) in [0, 1], reliability of the training signal. It is 1 for a verified answer
            and 0 for a question that is not trained on. For a weak row it is the slope of the true
            reward on the reward by the vote (`Expectations.vote_weight`), or 1, the paper's
            unweighted row, if nothing was calibrated.
        priority: (Q,) what a label teaches beyond the best alternative without one, at least 0;
            NaN if unknown.
    """

    route: npt.NDArray[np.int8]
    reason: npt.NDArray[np.int16]
    reason_names: tuple[str, ...]
    weight: FloatArray
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
