"""Ridge logistic regression for a handful of predictors and fractional targets."""

import numpy as np
import numpy.typing as npt
from scipy.special import expit

FloatArray = npt.NDArray[np.float64]

NEWTON_STEPS = 50


def fit_logistic(
    design: FloatArray, targets: FloatArray, weights: FloatArray, penalty: FloatArray
) -> FloatArray:
    """Return the coefficients of a ridge logistic regression, by damped Newton steps.

    It minimises sum_i w_i CE(y_i, sigmoid(x_i b)) + sum_j penalty_j b_j^2 / 2, with CE the
    cross-entropy. Targets may be fractions.

    Args:
        design: (n, k) predictors, with a column of ones for an intercept.
        targets: (n,) in [0, 1].
        weights: (n,) above 0.
        penalty: (k,) 0 or more.

    Returns:
        (k,) coefficients.
    """
    coefficients = np.zeros(design.shape[1])

    def loss(b: FloatArray) -> float:
        logits = design @ b
        entropy = np.logaddexp(0.0, logits) - targets * logits
        return float(weights @ entropy + penalty @ (b * b) / 2.0)

    current = loss(coefficients)
    for _ in range(NEWTON_STEPS):
        # Newton's step: gradient (k,) and curvature (k, k) of the loss.
        chance = expit(design @ coefficients)
        gradient = design.T @ (weights * (chance - targets)) + penalty * coefficients
        curvature = (design * (weights * chance * (1.0 - chance))[:, None]).T @ design
        # A constant column has no curvature, so a little is added.
        step = np.linalg.solve(curvature + np.diag(penalty + 1e-9), gradient)
        size = 1.0
        while (found := loss(coefficients - size * step)) > current and size > 1e-6:
            size /= 2.0
        if found >= current:
            break
        coefficients, improvement, current = coefficients - size * step, current - found, found
        if improvement < 1e-12 * (1.0 + abs(current)):
            break
    return coefficients
