"""Band statistics against the definitions, read off a dense attention matrix with loops."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pivottrace.attention.statistics import (
    LocalAttention,
    far_mass,
    local_attention,
    local_attention_from_rows,
    sink_positions,
    windowed_distance,
)

pytestmark = pytest.mark.usefixtures("one_thread")

SCALING = 0.6


def make_case(
    length: int, padding: tuple[tuple[int, int], ...], heads: int = 4, key_heads: int = 2
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Random queries, keys, validity, and the dense (B, H, T, T) attention in float64.

    `padding` holds (left, right) for each sequence.
    """
    generator = torch.Generator().manual_seed(length)
    batch = len(padding)
    query = torch.randn(batch, heads, length, 8, generator=generator)
    key = torch.randn(batch, key_heads, length, 8, generator=generator)
    valid = torch.zeros(batch, length, dtype=torch.bool)
    for row, (left, right) in enumerate(padding):
        valid[row, left : length - right] = True
    copied = key.repeat_interleave(heads // key_heads, dim=1).double()
    scores = query.double() @ copied.transpose(-1, -2) * SCALING
    sees = torch.ones(length, length, dtype=torch.bool).tril() & valid[:, None, None, :]
    dense = scores.masked_fill(~sees, -torch.inf).softmax(-1)
    return query, key, valid, dense.masked_fill(~valid[:, None, :, None], 0.0).nan_to_num()


def log_sum_exp(query: torch.Tensor, key: torch.Tensor, dense: torch.Tensor) -> torch.Tensor:
    """LSE of each row from its attention to its own key; 0 at padding, like the fused kernel."""
    copied = key.repeat_interleave(query.shape[1] // key.shape[1], dim=1).double()
    own_score = (query.double() * copied).sum(-1) * SCALING
    own_share = dense.diagonal(dim1=-2, dim2=-1)
    return torch.where(own_share > 0, own_score - own_share.log(), 0.0).float()


def slow_far_mass(dense: np.ndarray, sinks: np.ndarray, window: int) -> np.ndarray:
    result = np.zeros(dense.shape[:3])
    for b in range(len(dense)):
        for t in range(dense.shape[2]):
            for s in range(t - window + 1):
                if s not in sinks[b]:
                    result[b, :, t] += dense[b, :, t, s]
    return result


def slow_distance(dense: np.ndarray, window: int) -> np.ndarray:
    t, s = np.mgrid[: dense.shape[2], : dense.shape[3]]
    return (dense * np.minimum(t - s, window)).sum(-1)


def read(
    case: tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor], num_sinks: int, width: int
) -> tuple[LocalAttention, torch.Tensor]:
    query, key, valid, dense = case
    sinks = sink_positions(valid, num_sinks)
    lse = log_sum_exp(query, key, dense)
    return local_attention(query, key, lse, SCALING, valid, sinks, width), sinks


# 64 queries make a block: below, at, and across its edges; windows of one and beyond the sequence.
@pytest.mark.parametrize(("length", "window"), [(5, 10), (64, 10), (65, 10), (150, 7), (130, 1)])
@pytest.mark.parametrize("num_sinks", [0, 1, 4])
def test_statistics_equal_their_definitions(length: int, window: int, num_sinks: int) -> None:
    case = make_case(length, ((0, 0), (length // 3, 0), (0, length // 2), (1, 1)))
    local, sinks = read(case, num_sinks, window)
    dense = case[3].numpy()
    expected = slow_far_mass(dense, sinks.numpy(), window)
    np.testing.assert_allclose(far_mass(local, window), expected, rtol=0, atol=2e-6)
    distances = windowed_distance(local, window)
    np.testing.assert_allclose(distances, slow_distance(dense, window), rtol=0, atol=1e-5)


def test_one_band_serves_several_windows() -> None:
    case = make_case(90, ((0, 0), (20, 0)))
    local, sinks = read(case, 1, 24)
    dense = case[3].numpy()
    for window in (1, 5, 24):
        expected = slow_far_mass(dense, sinks.numpy(), window)
        np.testing.assert_allclose(far_mass(local, window), expected, rtol=0, atol=2e-6)


@given(
    length=st.integers(1, 90),
    left=st.integers(0, 89),
    right=st.integers(0, 89),
    width=st.integers(1, 100),
    num_sinks=st.integers(0, 5),
    groups=st.sampled_from([(4, 4), (4, 2), (3, 1)]),
)
@settings(max_examples=40, deadline=None)
def test_band_and_complete_rows_agree(
    length: int, left: int, right: int, width: int, num_sinks: int, groups: tuple[int, int]
) -> None:
    left = min(left, length - 1)
    right = min(right, length - 1 - left)
    case = make_case(length, ((left, right), (0, 0)), *groups)
    band, sinks = read(case, num_sinks, width)
    rows = local_attention_from_rows(case[3], 0, sinks, width)
    for ours, theirs in zip(band, rows, strict=True):
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-6)


def test_sinks_are_the_first_real_tokens() -> None:
    valid = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 0, 0, 0], [0, 1, 0, 1, 0]], dtype=torch.bool)
    assert sink_positions(valid, 2).tolist() == [[2, 3], [0, 1], [1, 3]]
    assert sink_positions(valid, 3).tolist() == [[2, 3, 4], [0, 1, 5], [1, 3, 5]]
    assert sink_positions(valid, 7).tolist()[1] == [0, 1, 5, 5, 5, 5, 5]
    assert sink_positions(valid, 0).shape == (3, 0)


def test_padding_of_nan_and_overflowing_scores_stays_in_padding() -> None:
    query, key, valid, dense = make_case(20, ((6, 0), (0, 6)))
    lse = log_sum_exp(query, key, dense)
    sinks = sink_positions(valid, 1)
    clean = local_attention(query, key, lse, SCALING, valid, sinks, 10)
    for filler in (torch.nan, 1e30):
        for tensor in (query, key):
            tensor.masked_fill_(~valid[:, None, :, None], filler)
        spoilt = local_attention(query, key, lse, SCALING, valid, sinks, 10)
        for ours, theirs in zip(spoilt, clean, strict=True):
            np.testing.assert_array_equal(ours, theirs)
