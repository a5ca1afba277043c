"""Pivots against slow references written out from their definitions."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pivottrace.errors import ConfigError, DataError
from pivottrace.signals import pivot_detection

# Few distinct levels, so that plateaus, exact thresholds and exact amplitudes are common.
signals = st.lists(st.integers(0, 12), max_size=40).map(lambda s: [v * 0.025 for v in s])
windows = st.integers(1, 14)
levels = st.integers(0, 12).map(lambda v: v * 0.025)


def units(values: list[float]) -> list[int]:
    return [round(v * 100_000) for v in values]


def slow_onsets(signal: list[float], tau: float, psi: float, window: int) -> list[int]:
    s, (t0, p0) = units(signal), units([tau, psi])
    kept: list[int] = []
    for t in range(1, len(s)):
        low = min(s[max(0, t - window) : t])
        is_onset = s[t - 1] < t0 <= s[t] and s[t] - low >= p0
        if is_onset and (not kept or t - kept[-1] > window):
            kept.append(t)
    return kept


def slow_peaks(signal: list[float], psi: float, window: int) -> list[int]:
    s, (p0,) = units(signal), units([psi])
    found = []
    for t in range(1, len(s)):
        before, after = s[max(0, t - window) : t], s[t + 1 : t + 1 + window]
        highest = all(s[t] > b for b in before) and all(s[t] >= a for a in after)
        if highest and s[t] - min(before) >= p0:
            found.append(t)
    return found


@settings(max_examples=300, deadline=None)
@given(signals, levels, levels, windows)
def test_onsets_equal_the_definition(
    signal: list[float], tau: float, psi: float, window: int
) -> None:
    found = pivot_detection.find_onsets(np.array(signal), tau, psi, window)
    assert found.dtype == np.int64
    assert found.tolist() == slow_onsets(signal, tau, psi, window)


@settings(max_examples=300, deadline=None)
@given(signals, levels, windows)
def test_peaks_equal_the_definition(signal: list[float], psi: float, window: int) -> None:
    found = pivot_detection.find_peaks(np.array(signal), psi, window)
    assert found.tolist() == slow_peaks(signal, psi, window)
    assert (np.diff(found) > window).all()


@settings(max_examples=100, deadline=None)
@given(signals, levels, levels, st.integers(0, 2**31))
def test_noise_in_the_last_digits_moves_nothing(
    signal: list[float], tau: float, psi: float, seed: int
) -> None:
    clean = np.array(signal)
    noisy = clean + np.random.default_rng(seed).uniform(-2e-6, 2e-6, clean.size)
    for dtype in (np.float64, np.float32):
        moved = noisy.astype(dtype)
        assert (
            pivot_detection.find_onsets(moved, tau, psi, 10).tolist()
            == pivot_detection.find_onsets(clean, tau, psi, 10).tolist()
        )
        assert (
            pivot_detection.find_peaks(moved, psi, 10).tolist()
            == pivot_detection.find_peaks(clean, psi, 10).tolist()
        )


def test_rises_of_exactly_the_amplitude_count() -> None:
    # 0.3 - 0.25 is 0.04999… in binary: compared as floats, this pivot would be lost.
    assert pivot_detection.find_onsets(np.array([0.25, 0.3]), 0.3, 0.05, 10).tolist() == [1]
    assert pivot_detection.find_peaks(np.array([0.25, 0.3]), 0.05, 10).tolist() == [1]


def test_onsets_close_together_are_one_counted_from_the_last_kept() -> None:
    signal = np.zeros(40)
    signal[[5, 10, 16, 27]] = 0.5
    # 10 is within 10 of 5; 16 is not within 10 of 5 (the last kept), 27 not of 16.
    assert pivot_detection.find_onsets(signal, 0.3, 0.05, 10).tolist() == [5, 16, 27]


def test_threshold_is_the_percentile_over_all_tokens() -> None:
    rng = np.random.default_rng(0)
    traces = [rng.random(n) for n in (3, 0, 50, 200)]
    expected = np.percentile(np.round(np.concatenate(traces), 5), 95)
    assert pivot_detection.reference_threshold(traces, 95) == pytest.approx(expected, abs=5.1e-6)


def test_density_of_nothing_is_not_zero() -> None:
    assert pivot_detection.density(3, 60) == 0.05
    assert pivot_detection.count(pivot_detection.find_onsets(np.zeros(0), 0.1, 0.05, 10)) == 0
    assert math.isnan(pivot_detection.density(0, 0))


def test_bad_input_says_what_is_wrong() -> None:
    with pytest.raises(DataError, match="not finite at token 2"):
        pivot_detection.find_onsets(np.array([0.0, 0.1, np.nan]), 0.1, 0.05, 10)
    with pytest.raises(DataError, match="of trace 1 is not finite at token 0"):
        pivot_detection.reference_threshold([np.zeros(2), np.array([np.inf])], 95)
    with pytest.raises(DataError, match="no reference trace has a token"):
        pivot_detection.reference_threshold([np.zeros(0)], 95)
    with pytest.raises(DataError, match="shape"):
        pivot_detection.find_peaks(np.zeros((2, 3)), 0.05, 10)
    with pytest.raises(DataError, match="impossible"):
        pivot_detection.density(3, 2)
    with pytest.raises(ConfigError, match="window is 0"):
        pivot_detection.find_peaks(np.zeros(3), 0.05, 0)
    with pytest.raises(ConfigError, match="amplitude"):
        pivot_detection.find_peaks(np.zeros(3), -0.1, 10)
    with pytest.raises(ConfigError, match="threshold"):
        pivot_detection.find_onsets(np.zeros(3), math.nan, 0.1, 10)
    with pytest.raises(ConfigError, match="percentile is 101"):
        pivot_detection.reference_threshold([np.zeros(3)], 101)
