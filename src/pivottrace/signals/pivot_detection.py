"""Find the positions of metacognitive pivots in the attention signal of one trace.

From the paper (arXiv 2606.04503): a pivot is a pivotal change of long-range attention along one
generated trace; the percentile, amplitude and window (95, 5 %, 10 tokens); uncertainty is pivot
density (abstract) or the number of pivots (DE-Venus).

Reconstructed by us (docs/method.md): both readings of "pivotal change", the amplitude as absolute
attention mass, a threshold frozen on reference traces, the rules at ends and plateaus.

All comparisons are made between integers. A signal is rounded to `ROUND_DECIMALS` first, so that
noise in the last digits (batch size, kernel, device) does not move a pivot.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pivottrace.errors import ConfigError, DataError

ROUND_DECIMALS = 5
_UNITS = 10**ROUND_DECIMALS

FloatArray = npt.NDArray[np.floating]
IntArray = npt.NDArray[np.int64]


def reference_threshold(signals: Sequence[FloatArray], percentile: float) -> float:
    """Return tau, the `percentile`-th percentile of the far mass over reference traces.

    Every token of every trace weighs the same. Compute it once on a seeded sample and freeze it,
    because a score must not depend on the rest of the pool or on the round.

    Args:
        signals: One array (T_i,) per trace, shares of attention mass; empty arrays are skipped.
        percentile: Zeta in [0, 100]; 95 in the paper.

    Returns:
        Tau, rounded to `ROUND_DECIMALS`; linear interpolation between order statistics.

    Raises:
        ConfigError: `percentile` is outside [0, 100].
        DataError: There is no token at all, or a value is not finite.

    Source: paper, appendix (zeta); the frozen reference sample is ours (docs/method.md).
    """
    if not 0.0 <= percentile <= 100.0:
        raise ConfigError(f"percentile is {percentile}; give a number from 0 to 100 (paper: 95)")
    units = [_to_units(signal, row) for row, signal in enumerate(signals)]
    tokens = np.concatenate(units) if units else np.empty(0, dtype=np.int64)
    if tokens.size == 0:
        raise DataError(
            "no reference trace has a token, so the pivot threshold is undefined; "
            "check that the rollouts are not all empty or failed"
        )
    return round(float(np.percentile(tokens, percentile)) / _UNITS, ROUND_DECIMALS)


def find_onsets(
    signal: FloatArray, threshold: float, amplitude: float, window: int
) -> npt.NDArray[np.int64]:
    """Find pivots by reading 1: far mass crosses the threshold upwards and has risen enough.

    Token t is an onset when s[t-1] < threshold <= s[t] and s[t] - min(s[t-window .. t-1]) >=
    amplitude. The window is clipped to the response, so token 0 is never an onset. Onsets at most
    `window` tokens after the last kept one are the same pivot.

    Args:
        signal: (T,) far mass of each response token, in [0, 1].
        threshold: Tau of `reference_threshold`.
        amplitude: Psi, an absolute share of attention mass (paper: 0.05).
        window: D in tokens, at least 1 (paper: 10).

    Returns:
        Positions (N,) int64, ascending.

    Raises:
        ConfigError: A window below 1 or an amplitude that is negative or not finite.
        DataError: A signal that is not one-dimensional or not finite.

    Source: docs/method.md, reading 1 (our reading of the paper's fragments).
    """
    units = _to_units(signal)
    rise = units - _lowest_before(units, window)
    tau = _round_to_unit(threshold, "threshold")
    onset = np.zeros(units.size, dtype=bool)
    onset[1:] = (units[:-1] < tau) & (units[1:] >= tau)
    onset &= rise >= _amplitude_units(amplitude)
    onset[:1] = False
    return _merge(np.flatnonzero(onset), window)


def find_peaks(signal: FloatArray, amplitude: float, window: int) -> npt.NDArray[np.int64]:
    """Find pivots by reading 2: far mass is the highest around and has risen enough.

    Token t is a peak under three conditions. s[t] is greater than each of the `window` tokens
    before it. It is at least as great as each of the `window` tokens after it. It exceeds the
    lowest token before it by `amplitude` or more. So a plateau counts once, at its first token. The
    neighbourhood is clipped to the response: the last token can be a peak, but token 0 cannot,
    because nothing is before it. In this reading the percentile selects heads, not a threshold.

    Args:
        signal: (T,) far mass of each response token, in [0, 1].
        amplitude: Psi, an absolute share of attention mass (paper: 0.05).
        window: D in tokens, at least 1 (paper: 10).

    Returns:
        Positions (N,) int64, ascending; any two are more than `window` apart.

    Raises:
        ConfigError: A window below 1 or an amplitude that is negative or not finite.
        DataError: A signal that is not one-dimensional or not finite.

    Source: docs/method.md, reading 2 (our reading of the paper's fragments).
    """
    units = _to_units(signal)
    rise = units - _lowest_before(units, window)
    highest_before = -_lowest_before(-units, window)
    highest_after = -_lowest_before(-units[::-1], window)[::-1]
    peak = (units > highest_before) & (rise >= _amplitude_units(amplitude))
    # No token follows the last one, so its own value is compared and the comparison holds.
    peak &= units >= highest_after
    peak[:1] = False
    return np.flatnonzero(peak).astype(np.int64)


def count(positions: IntArray) -> int:
    """Return the number of pivots, at least 0; higher means less certain (DE-Venus)."""
    return int(positions.size)


def density(num_pivots: int, num_tokens: int) -> float:
    """Return pivots per response token, in [0, 1]; higher means less certain.

    An empty response gives NaN and not 0, because it has no trace to read, and 0 would rank the
    question as the most certain of the pool. Questions with NaN scores are left out of the ranking
    and deferred with their reason.

    Args:
        num_pivots: Pivots found in the response.
        num_tokens: Length T of the response without the end-of-sequence token.

    Raises:
        DataError: A number is negative, or there are more pivots than tokens.

    Source: paper, abstract (density); the treatment of an empty response is ours.
    """
    if not 0 <= num_pivots <= num_tokens:
        raise DataError(
            f"{num_pivots} pivots in {num_tokens} tokens is impossible; "
            "count them on the same response"
        )
    return num_pivots / num_tokens if num_tokens else float("nan")


def _to_units(signal: FloatArray, row: int | None = None) -> IntArray:
    """Round a signal (T,) to integer multiples of 10**-ROUND_DECIMALS."""
    values = np.asarray(signal, dtype=np.float64)
    where = "" if row is None else f" of trace {row}"
    if values.ndim != 1:
        raise DataError(f"the signal{where} has shape {values.shape}; one trace at a time, (T,)")
    finite = np.isfinite(values)
    if not finite.all():
        raise DataError(
            f"the signal{where} is not finite at token {int(np.argmin(finite))}; "
            "record the question as failed instead of looking for its pivots"
        )
    return np.rint(values * _UNITS).astype(np.int64)


def _round_to_unit(value: float, name: str) -> int:
    if not np.isfinite(value):
        raise ConfigError(f"{name} is {value}; give a finite share of attention mass")
    return round(value * _UNITS)


def _amplitude_units(amplitude: float) -> int:
    units = _round_to_unit(amplitude, "amplitude")
    if units < 0:
        raise ConfigError(f"amplitude is {amplitude}; give 0 or more (paper: 0.05)")
    return units


def _lowest_before(units: IntArray, window: int) -> IntArray:
    """Return the minimum of the `window` values before each one; at 0, the value itself."""
    if window < 1:
        raise ConfigError(f"window is {window}; give at least 1 token (paper: 10)")
    if units.size == 0:
        return units
    span = min(window, units.size)  # a window longer than the response costs nothing
    # (T, span) views of the values before each one; the padding never is the minimum.
    padding = np.full(span, np.iinfo(np.int64).max)
    before = np.lib.stride_tricks.sliding_window_view(np.concatenate([padding, units]), span)
    lowest: IntArray = before[: units.size].min(axis=1)
    lowest[0] = units[0]
    return lowest


def _merge(positions: IntArray, window: int) -> IntArray:
    """Keep a position only if it is more than `window` after the last kept one."""
    kept: list[int] = []
    for position in positions.tolist():
        if not kept or position - kept[-1] > window:
            kept.append(position)
    return np.asarray(kept, dtype=np.int64)
