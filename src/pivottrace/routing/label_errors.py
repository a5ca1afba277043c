"""The chance that a label is wrong if a model with reliable votes contradicts it steadily.

All of it is ours.
"""

import numpy as np
import numpy.typing as npt

from pivottrace.errors import ConfigError

FloatArray = npt.NDArray[np.float64]

# Share of wrong labels to expect before looking: the mean of ten well-known test sets is 3.3 %
# (Northcutt et al. 2021, arXiv 2103.14749).
LABEL_ERROR = 0.033


def wrong_label_chance(vote_right: npt.ArrayLike, label_error: float = LABEL_ERROR) -> FloatArray:
    """Return the chance that a label which contradicts the vote is wrong, by Bayes' rule.

    Before looking, a label is wrong with chance e and a vote is right with chance m, independently.
    A wrong label contradicts the vote, whether the vote is right or not (two wrong answers that
    agree are rare enough to leave out). A right label contradicts the vote if the vote is wrong. So
    the chance is e / (e + (1 - m)(1 - e)).

    Args:
        vote_right: (n,) calibrated chance m that such a vote is right, in [0, 1].
        label_error: Share e of wrong labels before looking, in (0, 1).

    Returns:
        (n,) in [e, 1]; a higher value is more suspect.

    Raises:
        ConfigError: `label_error` is outside (0, 1).
    """
    if not 0.0 < label_error < 1.0:
        raise ConfigError(f"the share of wrong labels is {label_error}; give one between 0 and 1")
    vote_wrong = 1.0 - np.asarray(vote_right, dtype=np.float64)
    chance: FloatArray = label_error / (label_error + vote_wrong * (1.0 - label_error))
    return chance
