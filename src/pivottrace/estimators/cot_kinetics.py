"""CoT-kinetics: the state's motion through the layers as that of a particle in a field.

Source: Bi et al. 2025 (*CoT-Kinetics*, arXiv 2505.13408), who give a reasoning an energy from the
hidden states of successive layers, higher for sounder. **The formula is reconstructed**: we hold
neither the paper's equations nor its code. Its parts are known: "semantic momentum and curvature
energy of hidden states" (DE-Venus §4.3.1), the mean over the response's tokens, and a weight γ. A
third party's run had γ = 0.8 (the baselines of *Verifying Chain-of-Thought Reasoning via Its
Computational Graph*, arXiv 2510.09312). With v_l = h_{l+1} - h_l (`signals.layer_path`) we take

    kinetic energy    K = mean_l ½ |v_l|² / |h_L - h_0|²
    curvature energy  C = mean_l ½ |v_{l+1}/|v_{l+1}| - v_l/|v_l||² = mean_l (1 - cos turn_l)
    E = K - γ C

of a unit mass, both without unit: lengths are relative to the whole span, so that the model's
scale drops out. The rows cover the whole response with its answer.
"""

from __future__ import annotations

import numpy as np

from pivottrace.estimators.record import Estimator
from pivottrace.estimators.trace_evidence import TraceEvidence

GAMMA = 0.8


def cot_kinetics(evidence: TraceEvidence) -> float:
    """Minus the energy E, at most 2 γ; higher is less certain.

    NaN for an empty response, for a model of one layer, and where the layers could not be followed
    or end where they began.
    """
    path = evidence.layer_path
    if path is None or not path.turn_angles.size or not path.span_length > 0:
        return float("nan")
    kinetic = 0.5 * np.mean((path.step_lengths / path.span_length) ** 2)
    curvature = np.mean(1.0 - np.cos(path.turn_angles))
    return float(GAMMA * curvature - kinetic)


COT_KINETICS = Estimator(
    "cot_kinetics", "CoT-kinetics", needs="trace", function=cot_kinetics, order=13
)
