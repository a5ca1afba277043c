"""Statistics against their definitions, read off a dense attention matrix with loops."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pivottrace.attention import (
    AttentionDistance,
    FarMass,
    FutureInfluence,
    LocalEntropy,
    QuestionMass,
    SinkMass,
    Statistic,
    reading,
)
from pivottrace.attention.reading import find_landmarks, read_band, read_rows
from pivottrace.attention.row_statistics import LocalAttention, Needs
from pivottrace.errors import ConfigError

pytestmark = pytest.mark.usefixtures("one_thread")

SCALING = 0.6
Case = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]


def make_case(ids: torch.Tensor, heads: int = 4, key_heads: int = 2) -> Case:
    """Random queries and keys of sequences `ids` (B, T), and their dense (B, H, T, T) attention."""
    batch, length = ids.shape
    generator = torch.Generator().manual_seed(length)
    query = torch.randn(batch, heads, length, 8, generator=generator)
    key = torch.randn(batch, key_heads, length, 8, generator=generator)
    copied = key.repeat_interleave(heads // key_heads, dim=1).double()
    scores = query.double() @ copied.transpose(-1, -2) * SCALING
    same = (ids[:, :, None] == ids[:, None, :]) & (ids > 0)[:, None]
    sees = torch.ones(length, length, dtype=torch.bool).tril() & same
    dense = scores.masked_fill(~sees[:, None], -torch.inf).softmax(-1)
    return query, key, ids, dense.masked_fill(~(ids > 0)[:, None, :, None], 0.0).nan_to_num()


def padded(length: int, *sides: tuple[int, int]) -> torch.Tensor:
    """(B, T) sequence ids of rows padded by (left, right)."""
    ids = torch.zeros(len(sides), length, dtype=torch.long)
    for row, (left, right) in enumerate(sides):
        ids[row, left : length - right] = 1
    return ids


def log_sum_exp(query: torch.Tensor, key: torch.Tensor, dense: torch.Tensor) -> torch.Tensor:
    """LSE of each row from its attention to its own key; 0 at padding, like the fused kernel."""
    copied = key.repeat_interleave(query.shape[1] // key.shape[1], dim=1).double()
    own_score = (query.double() * copied).sum(-1) * SCALING
    own_share = dense.diagonal(dim1=-2, dim2=-1)
    return torch.where(own_share > 0, own_score - own_share.log(), 0.0).float()


def read(case: Case, needs: Needs, prompts: torch.Tensor | None = None) -> LocalAttention:
    query, key, ids, dense = case
    landmarks = find_landmarks(ids, needs.num_sinks, prompts)
    return read_band(query, key, log_sum_exp(query, key, dense), SCALING, landmarks, needs)


def defined(stat: Statistic, case: Case, prompts: torch.Tensor) -> np.ndarray:
    """A statistic by its formula, one pair of tokens at a time: (B, H, reach + T)."""
    ids, dense = case[2].numpy(), case[3].numpy()
    batch, heads, length, _ = dense.shape
    out = np.zeros((batch, heads, length + stat.reach))
    for b in range(batch):
        for t in range(length):
            if not ids[b, t]:
                continue
            own = np.flatnonzero(ids[b] == ids[b, t])
            row, distance = dense[b, :, t], t - own
            near = {d: row[:, t - d] for d in range(stat.width) if t - d in own}
            at = (b, slice(None), t + stat.reach)
            if isinstance(stat, FarMass):
                sinks = set(own[: stat.sinks])
                far = [s for s in own if stat.window <= t - s and s not in sinks]
                out[at] = row[:, far].sum(-1)
            elif isinstance(stat, AttentionDistance):
                out[at] = (row[:, own] * np.minimum(np.abs(distance), stat.window)).sum(-1)
            elif isinstance(stat, SinkMass):
                out[at] = row[:, own[: stat.sinks]].sum(-1)
            elif isinstance(stat, QuestionMass):
                out[at] = row[:, own[stat.sinks : int(prompts[b, ids[b, t] - 1])]].sum(-1)
            elif isinstance(stat, LocalEntropy):
                share = np.stack(list(near.values())) / sum(near.values())
                out[at] = -(share * np.log(share)).sum(0)
            elif isinstance(stat, FutureInfluence):
                for d, mass in near.items():
                    if d:
                        out[b, :, t - d + stat.reach] += mass
    return out


EVERY_STATISTIC = [
    FarMass(),
    FarMass(3, sinks=0),
    FarMass(24, sinks=4),
    AttentionDistance(),
    AttentionDistance(1),
    SinkMass(),
    SinkMass(3),
    QuestionMass(),
    QuestionMass(sinks=1),
    LocalEntropy(),
    LocalEntropy(5),
    FutureInfluence(),
    FutureInfluence(3),
]


# 32 queries make a block, 64 beside a question: below, at, and across the edges.
@pytest.mark.parametrize("length", [5, 32, 33, 64, 65, 150])
def test_statistics_equal_their_definitions(length: int) -> None:
    case = make_case(padded(length, (0, 0), (length // 3, 0), (0, length // 2), (1, 1)))
    prompts = torch.tensor([[2], [length // 4], [1], [length]])
    local = read(case, Needs.of(EVERY_STATISTIC), prompts)
    for stat in EVERY_STATISTIC:
        np.testing.assert_allclose(stat(local), defined(stat, case, prompts), rtol=0, atol=5e-5)


@pytest.mark.parametrize("scores", [0, 1 << 20, 1 << 24])
def test_any_number_of_blocks_at_once_reads_the_same(
    scores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = make_case(padded(300, (0, 0), (100, 0), (0, 90), (1, 1)), heads=6)
    prompts, needs = torch.tensor([[2], [75], [1], [300]]), Needs.of(EVERY_STATISTIC)
    expected = read(case, needs, prompts)
    monkeypatch.setitem(reading.MAX_SCORES, "cpu", scores)
    for ours, theirs in zip(read(case, needs, prompts), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6)


def test_packed_sequences_know_nothing_of_one_another() -> None:
    lengths = [1, 30, 2, 70, 9, 25]
    ids = torch.repeat_interleave(torch.arange(1, 7), torch.tensor(lengths))[None]
    case, prompts = make_case(ids), torch.tensor([[1, 12, 1, 40, 9, 2]])
    local = read(case, Needs.of(EVERY_STATISTIC), prompts)
    for stat in EVERY_STATISTIC:
        np.testing.assert_allclose(stat(local), defined(stat, case, prompts), rtol=0, atol=5e-5)


@given(
    length=st.integers(1, 90),
    left=st.integers(0, 89),
    right=st.integers(0, 89),
    border=st.integers(1, 89),
    width=st.integers(1, 100),
    num_sinks=st.integers(0, 5),
    groups=st.sampled_from([(4, 4), (4, 2), (3, 1)]),
    prompt=st.integers(1, 60),
)
@settings(max_examples=60, deadline=None)
def test_band_and_complete_rows_agree(
    length: int,
    left: int,
    right: int,
    border: int,
    width: int,
    num_sinks: int,
    groups: tuple[int, int],
    prompt: int,
) -> None:
    left = min(left, length - 1)
    right = min(right, length - 1 - left)
    ids = padded(length, (left, right), (0, 0))
    ids[1, border:] = 2
    case, needs = make_case(ids, *groups), Needs(width, num_sinks, question=True)
    prompts = torch.full((2, 2), prompt)
    rows = read_rows(case[3], 0, 0, find_landmarks(ids, num_sinks, prompts), needs)
    for ours, theirs in zip(read(case, needs, prompts), rows, strict=True):
        assert ours is not None
        assert theirs is not None
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=5e-6)


def test_a_later_block_with_chosen_heads_reads_the_same() -> None:
    query, key, ids, dense = make_case(padded(100, (0, 0), (9, 0)), heads=6, key_heads=2)
    lse, needs = log_sum_exp(query, key, dense), Needs(10, 1)
    landmarks, chosen, late = find_landmarks(ids, 1), [1, 4, 5], slice(77, 90)
    whole = read_band(query, key, lse, SCALING, landmarks, needs)
    part = read_band(
        query[:, chosen, late],
        key,
        lse[:, chosen, late],
        SCALING,
        landmarks,
        needs,
        heads=torch.tensor([0, 1, 1]),
        first_query=77,
    )
    np.testing.assert_allclose(part.window, whole.window[:, chosen, late], rtol=0, atol=1e-6)
    np.testing.assert_allclose(part.sinks, whole.sinks[:, chosen, late], rtol=0, atol=1e-6)
    assert torch.equal(part.sink_distances, whole.sink_distances[:, late])


def test_sinks_are_the_first_real_tokens() -> None:
    ids = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 2, 2, 0], [0, 1, 0, 1, 0]])
    assert find_landmarks(ids, 2).sinks.tolist() == [
        [[2, 3], [5, 5]],
        [[0, 1], [2, 3]],
        [[1, 3], [5, 5]],
    ]
    assert find_landmarks(ids[:1], 7).sinks.tolist() == [[[2, 3, 4, 5, 5, 5, 5]]]
    assert find_landmarks(ids, 0).sinks.shape == (3, 2, 0)


def test_padding_of_nan_and_overflowing_scores_stays_in_padding() -> None:
    query, key, ids, dense = make_case(padded(20, (6, 0), (0, 6)))
    lse, needs = log_sum_exp(query, key, dense), Needs(10, 1, question=True)
    landmarks = find_landmarks(ids, 1, torch.tensor([[4], [5]]))
    clean = read_band(query, key, lse, SCALING, landmarks, needs)
    for filler in (torch.nan, 1e30):
        for tensor in (query, key):
            tensor.masked_fill_(ids[:, None, :, None] == 0, filler)
        spoilt = read_band(query, key, lse, SCALING, landmarks, needs)
        for ours, theirs in zip(spoilt, clean, strict=True):
            np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    "make", [lambda: FarMass(0), lambda: FarMass(5, sinks=-1), lambda: FutureInfluence(-1)]
)
def test_impossible_statistics_are_refused(make: object) -> None:
    with pytest.raises(ConfigError, match="at least"):
        make()  # type: ignore[operator]
    with pytest.raises(ConfigError, match="no statistic"):
        Needs.of([])


def test_ranges() -> None:
    local = read(make_case(padded(80, (0, 0))), Needs.of(EVERY_STATISTIC), torch.tensor([[80]]))
    assert float(QuestionMass()(local).min()) == pytest.approx(1.0, abs=1e-5)
    assert 0 <= float(LocalEntropy(7)(local).min()) <= float(LocalEntropy(7)(local).max())
    assert float(LocalEntropy(7)(local).max()) <= math.log(7) + 1e-6
    assert float(AttentionDistance(6)(local).max()) <= 6.0
