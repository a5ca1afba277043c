"""Chain-of-Embedding: magnitude and angle of the steps from layer to layer.

Source: Wang et al. 2024 (*Latent Space Chain-of-Embedding Enables Output-free LLM Self-Evaluation*,
ICLR 2025, arXiv 2410.13640) and the authors' `score.py`. With h_l the mean over the response's
tokens of the hidden state after l layers (`signals.layer_path`),

    M_l = |h_{l+1} - h_l| / |h_L - h_0|,    A_l = angle(h_l, h_{l+1}) / angle(h_0, h_L),
    CoE-R = mean_l M_l - mean_l A_l,        CoE-C = |mean_l M_l exp(i A_l)|.

In the authors' `Evaluation/eval.py`, higher means right. Both scores are negated here. In CoE-C the
phase is the *normalised* angle, as in their code.

We deviate from two mistakes in that code. For the first response token, it reads the prompt's first
position (`hidden_states[0][layer][0][0]`). We read the prompt's last position, which produced the
token. Its arccos is not clamped for the whole span, and it is clamped on one side only for steps.
Our angles need no clamp. We also leave out the row that produced the end-of-sequence token, as
everywhere.
"""

from __future__ import annotations

import numpy as np

from pivottrace.estimators.record import Estimator
from pivottrace.estimators.trace_evidence import TraceEvidence
from pivottrace.signals.layer_path import LayerPath


def coe_r(evidence: TraceEvidence) -> float:
    """Minus CoE-R, unbounded; higher is less certain.

    NaN for an empty response, if the layers could not be followed, and if the span from the first
    to the last state has no length or no angle.
    """
    if evidence.layer_path is None:
        return float("nan")
    magnitudes, angles = _normalised(evidence.layer_path)
    return float(angles.mean() - magnitudes.mean())


def coe_c(evidence: TraceEvidence) -> float:
    """Minus CoE-C, 0 or less; higher is less certain. NaN if `coe_r` is NaN."""
    if evidence.layer_path is None:
        return float("nan")
    magnitudes, angles = _normalised(evidence.layer_path)
    return -float(abs((magnitudes * np.exp(1j * angles)).mean()))


def _normalised(path: LayerPath) -> tuple[np.ndarray, np.ndarray]:
    """(L,) lengths and (L,) angles of the steps, relative to the whole span; NaN if it is 0."""
    length, angle = (span if span > 0 else np.nan for span in (path.span_length, path.span_angle))
    return path.step_lengths / length, path.step_angles / angle


COE_R = Estimator("coe_r", "CoE-R", needs="trace", function=coe_r, order=11)
COE_C = Estimator("coe_c", "CoE-C", needs="trace", function=coe_c, order=12)
