"""CoT-kinetics: the hidden state moves through the layers like a particle in a field.

Source: Bi et al. 2025 (*CoT-Kinetics*, arXiv 2505.13408). They compute an energy of a reasoning
from the hidden states of successive layers. A sounder reasoning has a higher energy.

**The formula is reconstructed**, because we have neither the paper's equations nor its code. We
know three things. Its parts are "semantic momentum and curvature energy of hidden states" (DE-Venus
§4.3.1). It takes the mean over the response's tokens. Its weight γ is 0.8 in a third party's run
(the baselines of *Verifying Chain-of-Thought Reasoning via Its Computational Graph*, arXiv
2510.09312). With v_l = h_{l+1} - h_l (`signals.layer_path`) we take

    kinetic energy    K = mean_l ½ |v_l|² / |h_L - h_0|²
    curvature energy  C = mean_l ½ |v_{l+1}/|v_{l+1}| - v_l/|v_l||² = mean_l (1 - cos turn_l)
    E = K - γ C

of a unit mass. Both energies have no unit, because lengths are relative to the whole span. So the
scale of the model drops out. The rows of the whole response count, and so does its answer.
"""

from __future__ import annotations

import numpy as np

from pivottrace.estimators.record import Estimator
from pivottrace.estimators.trace_evidence import TraceEvidence

GAMMA = 0.8


def cot_kinetics(evidence: TraceEvidence) -> float:
    """Minus the energy E, at most 2 γ; higher is less certain.

    NaN for an empty response, for a model of one layer, if the layers could not be followed, and if
    the span from the first to the last state has no length.
    """
    path = evidence.layer_path
    if path is None or not path.turn_angles.size or not path.span_length > 0:
        return float("nan")
    # Means over (L,) steps and (L - 1,) turns.
    kinetic = 0.5 * np.mean((path.step_lengths / path.span_length) ** 2)
    curvature = np.mean(1.0 - np.cos(path.turn_angles))
    return float(GAMMA * curvature - kinetic)


COT_KINETICS = Estimator(
    "cot_kinetics", "CoT-kinetics", needs="trace", function=cot_kinetics, order=13
)
