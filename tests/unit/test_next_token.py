"""Self-certainty of logits by its definition; the other columns are tested in whole traces."""

import math

import pytest
import torch

from pivottrace.attention.next_token import next_token_signals


def self_certainty(*rows: list[float], dtype: torch.dtype = torch.float32) -> list[float]:
    logits = torch.tensor(rows, dtype=dtype)
    targets = torch.zeros(len(rows), dtype=torch.long)
    return next_token_signals(logits, targets).self_certainty.tolist()


def test_it_is_the_divergence_from_uniform() -> None:
    # p = (1/2, 1/4, 1/4): KL(U || p) = mean of ln(1/3 / p).
    expected = (math.log(2 / 3) + 2 * math.log(4 / 3)) / 3
    (found,) = self_certainty([math.log(2), 0.0, 0.0])
    assert found == pytest.approx(expected, abs=1e-6)


def test_uniform_is_zero_and_never_below() -> None:
    assert all(0.0 <= value < 1e-6 for value in self_certainty([0.1] * 7, [1e4] * 7))


def test_masked_entries_of_the_vocabulary_are_left_out() -> None:
    whole, masked = (
        self_certainty([1.0, 2.0, 0.0], [1.0, 2.0, 0.0]),
        self_certainty([1.0, 2.0, 0.0, -math.inf, -math.inf]),
    )
    assert masked[0] == pytest.approx(whole[0], abs=1e-6)


def test_logits_that_are_no_numbers_have_none() -> None:
    values = self_certainty([math.nan, 1.0, 0.0], [math.inf, 1.0, 0.0], [0.0, 1.0, 2.0])
    assert [math.isnan(value) for value in values] == [True, True, False]


def test_half_precision_is_computed_in_single() -> None:
    (half,) = self_certainty([8.0, 1.0, -4.0], dtype=torch.bfloat16)
    (single,) = self_certainty([8.0, 1.0, -4.0])
    assert half == single
