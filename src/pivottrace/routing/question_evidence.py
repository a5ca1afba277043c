"""Evidence on single questions beside their score; every part of it may be missing.

All of it is ours; the paper's fragments route by rank alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from pivottrace.errors import DataError


@dataclass(frozen=True)
class QuestionEvidence:
    """Evidence on Q questions; an empty array means that nothing of that kind is known.

    Attributes:
        vote_share: (Q,) share of the stored samples that gave the winning answer; NaN without
            samples or without a winner.
        vote_abstained: (Q,) bool, whether samples exist and no answer won.
        num_samples: (Q,) number G of stored samples that voted; 0 or 1 if it is not known.
        labelled: (Q,) bool, whether the true answer is known and paid for (probes, earlier rounds).
        earlier: (Q,) bool, whether the label was there before this triage and is no probe's: the
            user owned it, or an earlier round bought it.
        unanswerable: (Q,) bool, whether people say that the question cannot be answered.
        correctness: (Q,) share of a labelled question's own samples that are right; NaN if unknown.
        failure_code: (Q,) int, 0 for a sound question, else 1 + the position in `failure_names`.
        failure_names: Reasons why questions failed, for instance "truncated".
    """

    vote_share: npt.NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    vote_abstained: npt.NDArray[np.bool_] = field(default_factory=lambda: np.empty(0, np.bool_))
    num_samples: npt.NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    labelled: npt.NDArray[np.bool_] = field(default_factory=lambda: np.empty(0, np.bool_))
    earlier: npt.NDArray[np.bool_] = field(default_factory=lambda: np.empty(0, np.bool_))
    unanswerable: npt.NDArray[np.bool_] = field(default_factory=lambda: np.empty(0, np.bool_))
    correctness: npt.NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    failure_code: npt.NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    failure_names: tuple[str, ...] = ()

    def filled(self, num_questions: int) -> "QuestionEvidence":
        """Return the same evidence with every missing array filled in as "not known".

        Raises:
            DataError: An array is not (Q,), a share is outside [0, 1] or a failure has no name.
        """
        # Value of each array that means "not known".
        unknown = {
            "vote_share": np.nan,
            "correctness": np.nan,
            "num_samples": 0,
            "vote_abstained": False,
            "labelled": False,
            "earlier": False,
            "unanswerable": False,
            "failure_code": 0,
        }
        arrays = {}
        for name, fill in unknown.items():
            given = getattr(self, name)
            if given.size == 0:
                given = np.full(num_questions, fill, dtype=given.dtype)
            if given.shape != (num_questions,):
                raise DataError(f"{name} has shape {given.shape}; there are {num_questions} ranks")
            arrays[name] = given
        for name in ("vote_share", "correctness"):
            wrong = (arrays[name] < 0) | (arrays[name] > 1)
            if wrong.any():
                raise DataError(f"{name} is outside [0, 1] at row {int(np.argmax(wrong))}")
        codes = arrays["failure_code"]
        if codes.size and not (codes.min() >= 0 and codes.max() <= len(self.failure_names)):
            raise DataError(f"a failure_code is not one of 0 .. {len(self.failure_names)}")
        return replace(self, **arrays)


def failure_codes(
    reasons: Sequence[str | None],
) -> tuple[npt.NDArray[np.int64], tuple[str, ...]]:
    """Turn reasons (Q,), None or empty for a sound question, into (failure_code, failure_names).

    Names are in alphabetical order, so that the codes do not depend on the questions' order.
    """
    names = tuple(sorted({reason for reason in reasons if reason}))
    code = {name: position + 1 for position, name in enumerate(names)}
    return np.array([code[r] if r else 0 for r in reasons], dtype=np.int64), names
