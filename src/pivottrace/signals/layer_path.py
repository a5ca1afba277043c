"""The path of a response's mean hidden state through a model's layers, in a few numbers.

Axes: L layers, n response tokens.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class LayerPath:
    """Lengths and angles of the chain of states `h_0, …, h_L` of one response.

    `h_l` is the mean input of layer l over the n rows that produced the response's tokens
    (positions P - 1 to P + n - 2, as for every signal). `h_0` is the embedding, and `h_L` is the
    decoder's output after its last norm, by transformers' convention for hidden states.

    Attributes:
        step_lengths: (L,) `|h_{l+1} - h_l|`, >= 0, in units of the hidden states.
        step_angles: (L,) angle between `h_l` and `h_{l+1}`, radians, [0, pi].
        turn_angles: (L - 1,) angle between a step and the next one, radians, [0, pi].
        span_length: `|h_L - h_0|`.
        span_angle: Angle between `h_0` and `h_L`, radians.

    All values are NaN for an empty response and for a pass that was not finite. An angle is NaN if
    one of its vectors is zero.
    """

    step_lengths: np.ndarray
    step_angles: np.ndarray
    turn_angles: np.ndarray
    span_length: float
    span_angle: float

    def failed(self) -> "LayerPath":
        """Return the same shape with all values NaN, for a pass that was not finite."""
        return LayerPath(
            step_lengths=np.full_like(self.step_lengths, np.nan),
            step_angles=np.full_like(self.step_angles, np.nan),
            turn_angles=np.full_like(self.turn_angles, np.nan),
            span_length=np.nan,
            span_angle=np.nan,
        )
