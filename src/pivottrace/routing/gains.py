"""The expected gain from a label, and from a majority vote in its place.

- The paper's (Prop. 1, appendix A.1): with a KL trust region delta the reachable improvement on a
  question is at most sqrt(2 delta mu (1 - mu)), where mu is its expected reward. Gains here leave
  out the common factor sqrt(2 delta).
- Ours (docs/method.md): mean per-question learnability in place of the window's mu (1 - mu); the
  loss that a wrong vote causes; the bound that a question's own vote share puts on both.
"""

import numpy as np
import numpy.typing as npt

from pivottrace.routing.curves import CurveValues
from pivottrace.routing.question_evidence import QuestionEvidence

FloatArray = npt.NDArray[np.float64]

# Gains are rounded before they are compared, so that equal ones tie whatever their last digit is.
GAIN_DECIMALS = 9


def curve_gain(curve: CurveValues) -> FloatArray:
    """Return sqrt(learnability) (Q,), the gain from the true label by the curve alone."""
    gain: FloatArray = np.sqrt(curve.learnability)
    return gain


def expected_gains(curve: CurveValues, evidence: QuestionEvidence) -> tuple[FloatArray, FloatArray]:
    """Return the expected gains of the true label and of the majority vote.

    Let g be the curve's sqrt(learnability), m its vote reliability and v a question's vote share.

    - If no samples are stored, the label's gain is g, and a right vote's gain is g too.
    - If samples are stored and the vote is right, the policy's correctness *is* v. A label and the
      vote then both give b = sqrt(v(1-v)G/(G-1)). If the vote is wrong, correctness is at most
      min(v, 1-v), so a label gives at most b. Label = m b + (1-m) min(g, b). A unanimous question
      teaches nothing, whatever its label.
    - Vote = m (gain of a right vote) - (1-m) loss, with loss = min(mu, p, 1-p) sqrt(p/(1-p)). Here
      p is the vote share: the question's own share if it is stored, else that of the curve, else
      0.5, the value with the largest loss. The minimum stands in place of mu, because the right
      answer's share can exceed neither the winner's share nor the rest. This keeps the loss at most
      sqrt(p(1-p)).

    m is the curve's `vote`: at the question's own risk if v is stored, else at its rank.

    Args:
        curve: Values (Q,); NaN if nothing was calibrated.
        evidence: Evidence filled to Q questions.

    Returns:
        (label, vote), each (Q,), rounded to `GAIN_DECIMALS`; label >= 0, label >= vote; NaN where
        the curve is NaN.
    """
    by_curve = curve_gain(curve)
    # G/(G-1) of each question, 1 without samples; then its own bound b from its vote share. (Q,)
    samples = np.maximum(evidence.num_samples, 0)
    unbiased = np.where(samples > 1, samples / np.maximum(samples - 1, 1), 1.0)
    share = evidence.vote_share
    by_share = np.sqrt(share * (1.0 - share) * unbiased)
    # Gains of the label if the vote is right and if it is wrong, then their expectations. (Q,)
    stored = ~np.isnan(share)
    right = np.where(stored, by_share, by_curve)
    wrong = np.where(stored, np.fmin(by_curve, by_share), by_curve)
    label = curve.vote * right + (1.0 - curve.vote) * wrong
    vote = curve.vote * right - (1.0 - curve.vote) * _wrong_vote_loss(curve, share)
    # Without samples m g + (1-m) g is g itself.
    label = np.where(stored | np.isnan(curve.vote), label, by_curve)
    unknown = np.isnan(by_curve)
    label_gain: FloatArray = np.where(unknown, np.nan, label).round(GAIN_DECIMALS)
    vote_gain: FloatArray = np.where(unknown, np.nan, vote).round(GAIN_DECIMALS)
    return label_gain, vote_gain


def _wrong_vote_loss(curve: CurveValues, share: FloatArray) -> FloatArray:
    """Return the loss that a wrong vote causes, min(mu, p, 1-p) sqrt(p/(1-p)); 0 at p = 0 and 1."""
    winner = np.where(np.isnan(share), curve.vote_share, share)
    winner = np.where(np.isnan(winner), 0.5, winner)
    rest = 1.0 - winner
    truth = np.minimum(curve.mu, np.minimum(winner, rest))
    odds = np.divide(winner, rest, out=np.zeros_like(winner), where=rest > 0)
    loss: FloatArray = truth * np.sqrt(odds)
    return loss
