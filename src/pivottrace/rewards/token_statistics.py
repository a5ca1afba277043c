"""Statistics of the model's own distributions, for rewards that need no answer."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pivottrace.errors import ModelError

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class TokenStatistics:
    """Statistics of one completion's T tokens, which may include an end-of-sequence token.

    Attributes:
        entropy: (T,) entropy of the distribution that produced the token, nats, >= 0.
        log_prob: (T,) log-probability of the token, nats, <= 0.
        self_certainty: (T,) KL(U || p) of that distribution, nats, >= 0.
    """

    entropy: FloatArray
    log_prob: FloatArray
    self_certainty: FloatArray


def values_of(
    group: Sequence[TokenStatistics], value: Callable[[TokenStatistics], float]
) -> list[float]:
    """The value of each completion. An empty completion gets the lowest value of its group.

    Without this rule, a sum over no tokens would be 0, and so the best value of its group. In a
    group of empty completions all values are 0.0.

    Raises:
        ModelError: A value is NaN, because the model's logits are not finite.
    """
    values = [value(statistics) if statistics.log_prob.size else None for statistics in group]
    known = [v for v in values if v is not None]
    if any(math.isnan(v) for v in known):
        raise ModelError(
            "the model's logits are not finite, so its confidence cannot be a reward: remove the "
            "round's folder `train`, lower train.learning_rate or set train.precision = "
            "'float32', and train again"
        )
    lowest = min(known, default=0.0)
    return [lowest if v is None else v for v in values]
