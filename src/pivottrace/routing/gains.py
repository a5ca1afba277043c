"""What a label, and what a majority vote in its place, is expected to teach.

The paper's (Prop. 1, appendix A.1): with a KL trust region delta the reachable improvement on a
question is at most sqrt(2 delta mu (1 - mu)), mu its expected reward. Gains here leave out the
common factor sqrt(2 delta).
Ours (docs/method.md): mean per-question learnability in place of the window's
mu (1 - mu); what a wrong vote unteaches; how a question's own vote share bounds both.
"""

import numpy as np
import numpy.typing as npt

from pivottrace.routing.curves import CurveValues
from pivottrace.routing.question_evidence import QuestionEvidence

FloatArray = npt.NDArray[np.float64]

# Gains are rounded before they are compared: equal ones must tie, whatever the last digit says.
GAIN_DECIMALS = 9


def curve_gain(curve: CurveValues) -> FloatArray:
    """Return sqrt(learnability), what the true label teaches by the curve alone: (Q,)."""
    gain: FloatArray = np.sqrt(curve.learnability)
    return gain


def expected_gains(curve: CurveValues, evidence: QuestionEvidence) -> tuple[FloatArray, FloatArray]:
    """Return the expected gains of the true label and of the majority vote.

    With g the curve's sqrt(learnability), m its vote reliability and v a question's vote share:

    - no samples stored: label = g, taught by a right vote = g.
    - samples stored: where the vote is right the policy's correctness *is* v, so a label and the
      vote both teach b = sqrt(v(1-v)G/(G-1)); where it is wrong correctness is at most
      min(v, 1-v), so a label teaches at most b. Label = m b + (1-m) min(g, b). A unanimous
      question teaches nothing, whatever its label.
    - vote = m (taught by a right vote) - (1-m) unlearn, with
      unlearn = min(mu, p, 1-p) sqrt(p/(1-p)), p the vote share (the curve's where not stored, 0.5
      where there is none, the value that unteaches most). mu itself would not do in the place of
      the least of the three: the right answer's share can exceed neither the winner's nor what
      the winner leaves, which keeps this at most sqrt(p(1-p)).

    m is the curve's `vote`: at the question's own risk where v is stored, else at its rank.

    Args:
        curve: Values (Q,); NaN where nothing was calibrated.
        evidence: Filled to Q questions.

    Returns:
        (label, vote), each (Q,), rounded to `GAIN_DECIMALS`; label >= 0, label >= vote; NaN where
        the curve is.
    """
    by_curve = curve_gain(curve)
    samples = np.maximum(evidence.num_samples, 0)
    unbiased = np.where(samples > 1, samples / np.maximum(samples - 1, 1), 1.0)
    share = evidence.vote_share
    by_share = np.sqrt(share * (1.0 - share) * unbiased)
    stored = ~np.isnan(share)
    right = np.where(stored, by_share, by_curve)
    wrong = np.where(stored, np.fmin(by_curve, by_share), by_curve)
    label = curve.vote * right + (1.0 - curve.vote) * wrong
    vote = curve.vote * right - (1.0 - curve.vote) * _unlearned(curve, share)
    # Without samples m g + (1-m) g is g itself.
    label = np.where(stored | np.isnan(curve.vote), label, by_curve)
    unknown = np.isnan(by_curve)
    label_gain: FloatArray = np.where(unknown, np.nan, label).round(GAIN_DECIMALS)
    vote_gain: FloatArray = np.where(unknown, np.nan, vote).round(GAIN_DECIMALS)
    return label_gain, vote_gain


def _unlearned(curve: CurveValues, share: FloatArray) -> FloatArray:
    """What a wrong vote unteaches: min(mu, p, 1-p) sqrt(p/(1-p)), 0 at p = 0 and p = 1."""
    winner = np.where(np.isnan(share), curve.vote_share, share)
    winner = np.where(np.isnan(winner), 0.5, winner)
    rest = 1.0 - winner
    truth = np.minimum(curve.mu, np.minimum(winner, rest))
    odds = np.divide(winner, rest, out=np.zeros_like(winner), where=rest > 0)
    unlearned: FloatArray = truth * np.sqrt(odds)
    return unlearned
