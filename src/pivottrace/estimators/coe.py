"""Chain-of-Embedding: magnitude and angle of the steps from layer to layer.

Source: Wang et al. 2024 (*Latent Space Chain-of-Embedding Enables Output-free LLM Self-Evaluation*,
ICLR 2025, arXiv 2410.13640) and the authors' `score.py`. With h_l the mean over the response's
tokens of the hidden state after l layers (`signals.layer_path`),

    M_l = |h_{l+1} - h_l| / |h_L - h_0|,    A_l = angle(h_l, h_{l+1}) / angle(h_0, h_L),
    CoE-R = mean_l M_l - mean_l A_l,        CoE-C = |mean_l M_l exp(i A_l)|.

The authors take higher for right (`Evaluation/eval.py`); both are negated here. In CoE-C the phase
is the *normalised* angle, as in their code. Deviations from that code, where it slips: for the
first response token it reads the prompt's first position (`hidden_states[0][layer][0][0]`), here
the prompt's last, which produced the token; its arccos is unclamped for the whole span and clamped
on one side only for steps, here angles need no clamp. And the row that produced the
end-of-sequence token is left out, as everywhere.
"""

from __future__ import annotations

import numpy as np

from pivottrace.estimators.record import Estimator
from pivottrace.estimators.trace_evidence import TraceEvidence
from pivottrace.signals.layer_path import LayerPath


def coe_r(evidence: TraceEvidence) -> float:
    """Minus CoE-R, unbounded; higher is less certain.

    NaN for an empty response, and where the layers could not be followed or end where they began.
    """
    if evidence.layer_path is None:
        return float("nan")
    magnitudes, angles = _normalised(evidence.layer_path)
    return float(angles.mean() - magnitudes.mean())


def coe_c(evidence: TraceEvidence) -> float:
    """Minus CoE-C, 0 or less; higher is less certain. NaN where `coe_r` is."""
    if evidence.layer_path is None:
        return float("nan")
    magnitudes, angles = _normalised(evidence.layer_path)
    return -float(abs((magnitudes * np.exp(1j * angles)).mean()))


def _normalised(path: LayerPath) -> tuple[np.ndarray, np.ndarray]:
    """(L,) magnitudes and angles of the steps, relative to the whole span; NaN for no span."""
    length, angle = (span if span > 0 else np.nan for span in (path.span_length, path.span_angle))
    return path.step_lengths / length, path.step_angles / angle


COE_R = Estimator("coe_r", "CoE-R", needs="trace", function=coe_r, order=11)
COE_C = Estimator("coe_c", "CoE-C", needs="trace", function=coe_c, order=12)
