"""Random shapes, masks and data types: kernels against a dense reference, traces against eager."""

import functools
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from architectures import VOCABULARY, build_model
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers.masking_utils import (
    and_masks,
    causal_mask_function,
    packed_sequence_mask_function,
    sliding_window_causal_mask_function,
)

from pivottrace.attention import (
    AttentionDistance,
    FarMass,
    FutureInfluence,
    LocalEntropy,
    QuestionMass,
    SinkMass,
    trace,
)
from pivottrace.attention.kernels import (
    ScoreRule,
    chunked_attention,
    fused_attention,
    why_not_fused,
)
from pivottrace.attention.masks import MaskSpec, dense_mask, describe_mask
from pivottrace.attention.reading import find_landmarks, read_band, read_rows
from pivottrace.attention.row_statistics import LocalAttention, Needs
from pivottrace.errors import PivotTraceError

pytestmark = pytest.mark.usefixtures("one_thread")

# The same examples in every run, so that a failure is never a matter of luck.
STEADY = {
    "deadline": None,
    "derandomize": True,
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large],
}
# Of attention, and of outputs: what rounding in each type leaves of values around 1.
TOLERANCES = {
    torch.float64: (1e-9, 1e-9),
    torch.float32: (1e-5, 1e-5),
    torch.bfloat16: (2e-2, 3e-2),
}


@dataclass(frozen=True)
class Case:
    """A mask as the tracer sees it, and as a table of what is added to which score."""

    spec: MaskSpec
    bias: torch.Tensor  # (B, 1 or H, n, S) float64, -inf where a query does not see a key
    run_ids: torch.Tensor  # (B, S) from 1, 0 at padding

    @property
    def real(self) -> torch.Tensor:
        """(B, n) queries that are no padding."""
        count = self.bias.shape[2]
        return self.run_ids[:, self.spec.first_query :][:, :count] > 0


@st.composite
def padding_patterns(draw: st.DrawFn, batch: int, length: int) -> torch.Tensor:
    """(B, S) 1 at real tokens: padded left, right, in the middle, anywhere, or nothing real."""
    rows = []
    for _ in range(batch):
        start, stop = sorted(draw(st.tuples(*[st.integers(0, length)] * 2)))
        row = torch.zeros(length, dtype=torch.long)
        kind = draw(st.sampled_from(["none", "left", "right", "both", "middle", "any", "empty"]))
        if kind == "any":
            bits = draw(st.integers(0, 2**length - 1))
            row = torch.tensor([bits >> place & 1 for place in range(length)])
        elif kind == "middle":
            row[:start] = row[stop:] = 1
        elif kind != "empty":
            left = start if kind in ("left", "both") else 0
            right = stop if kind in ("right", "both") else length
            row[left:right] = 1
        rows.append(row)
    return torch.stack(rows)


@st.composite
def described_masks(draw: st.DrawFn) -> Case:
    """What `transformers` describes: causal or windowed, padded or packed, cached or not."""
    batch, length = draw(st.integers(1, 3)), draw(st.integers(1, 150))
    layout = draw(st.sampled_from(["whole", "padded", "packed"]))
    window = draw(st.none() | st.integers(1, 160))
    padding = draw(padding_patterns(batch, length)) if layout == "padded" else None
    valid = torch.ones(batch, length, dtype=torch.long) if padding is None else padding
    run_ids = valid
    function = causal_mask_function
    if window is not None:
        function = sliding_window_causal_mask_function(window)
    if layout == "packed":
        borders = draw(st.sets(st.integers(0, length - 1), max_size=5))
        starts = torch.zeros(batch, length, dtype=torch.long)
        starts[:, [0, *borders]] = 1
        run_ids = starts.cumsum(dim=1)
        function = and_masks(function, packed_sequence_mask_function(run_ids))
    past = draw(st.integers(0, length - 1)) if layout != "packed" and draw(st.booleans()) else 0
    keys = length + draw(st.integers(0, 20)) if past else length  # a static cache has room
    spec = describe_mask(
        {"batch_size": batch, "q_length": length - past, "kv_length": keys, "q_offset": past}
        | {"attention_mask": None if padding is None else padding.bool()}
        | {"mask_function": function, "local_size": window}
        | {"allow_is_causal_skip": layout != "packed"}
    )
    run_ids = torch.nn.functional.pad(run_ids, (0, keys - length))
    query, key = torch.arange(past, length)[:, None], torch.arange(keys)
    sees = (key <= query) & (key > query - (window or keys))
    sees = sees & (run_ids[:, past:length, None] == run_ids[:, None]) & (run_ids > 0)[:, None]
    # A query at padding sees the keys before it; its row counts as none.
    bias = torch.zeros(sees.shape, dtype=torch.float64).masked_fill(~sees, -torch.inf)
    return Case(spec, bias[:, None], run_ids)


@st.composite
def ready_masks(draw: st.DrawFn, heads: int) -> Case:
    """(B, 1 or H, n, S) boolean or additive, of any pattern; the queries end the keys."""
    batch, keys = draw(st.integers(1, 2)), draw(st.integers(1, 90))
    count = draw(st.integers(1, keys))
    shape = (batch, draw(st.sampled_from([1, heads])), count, keys)
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**16)))
    sees = torch.rand(shape, generator=generator) < draw(st.sampled_from([0.05, 0.5, 0.95]))
    run_ids = sees.any(dim=1).any(dim=1).long()
    if draw(st.booleans()):
        bias = torch.zeros(shape, dtype=torch.float64).masked_fill(~sees, -torch.inf)
        return Case(dense_mask(sees), bias, run_ids)
    dtype = draw(st.sampled_from([torch.float32, torch.bfloat16]))
    added = (3 * torch.randn(shape, generator=generator)).to(dtype)
    added = added.masked_fill(~sees, -torch.inf)
    return Case(dense_mask(added), added.double(), run_ids)


def dense_attention(
    query: torch.Tensor, key: torch.Tensor, case: Case, rule: ScoreRule
) -> torch.Tensor:
    """(B, H, n, S) rows in float64; 0 at padding and where a query sees nothing."""
    copied = key.double().repeat_interleave(query.shape[1] // key.shape[1], dim=1)
    scores = query.double() @ copied.transpose(-1, -2) * rule.scaling
    if rule.softcap is not None:
        scores = rule.softcap * torch.tanh(scores / rule.softcap)
    scores = (scores + case.bias).masked_fill(case.bias == -torch.inf, -torch.inf)
    if rule.learned_sinks is not None:
        sink = rule.learned_sinks.double()[:, None, None].expand(*scores.shape[:3], 1)
        scores = torch.cat([scores, sink], dim=-1)
    rows = scores.softmax(dim=-1)[..., : key.shape[2]].nan_to_num()
    return rows.masked_fill(~case.real[:, None, :, None], 0.0)


def read_dense(
    rows: torch.Tensor, first_query: int, run_ids: torch.Tensor, needs: Needs, prompts: torch.Tensor
) -> LocalAttention:
    """The part of (B, H, n, S) rows that statistics read, one run at a time."""
    batch, heads, count, _ = rows.shape
    sinks = rows.new_zeros(batch, heads, count, needs.num_sinks)
    distances = torch.full((batch, count, needs.num_sinks), -1)
    question = rows.new_zeros(batch, heads, count)
    places = torch.arange(first_query, first_query + count)
    window = torch.stack(
        [
            torch.nn.functional.pad(rows, (d, 0))[:, :, torch.arange(count), places]
            for d in range(needs.width)
        ],
        dim=-1,
    )
    for b in range(batch):
        for run in range(1, int(run_ids[b].max()) + 1):
            own = (run_ids[b] == run).nonzero()[:, 0]
            at = (run_ids[b, places] == run).nonzero()[:, 0]  # queries of this run
            for s, sink in enumerate(own[: needs.num_sinks].tolist()):
                after = at[places[at] >= sink]
                sinks[b, :, after, s] = rows[b, :, after, sink]
                distances[b, after, s] = places[after] - sink
            asked = own[: int(prompts[b, run - 1])]
            question[b, :, at] = rows[b, :, at][..., asked].sum(-1)
    return LocalAttention(window, sinks, distances, question, rows.sum(dim=-1))


def assert_alike(ours: Any, theirs: Any, tolerance: float) -> None:
    for name in LocalAttention._fields:
        torch.testing.assert_close(
            getattr(ours, name).double(),
            getattr(theirs, name).double(),
            rtol=0,
            atol=tolerance,
            msg=lambda text, name=name: f"{name}: {text}",
        )


def check_kernels(data: st.DataObject, case: Case, heads: int, key_heads: int) -> None:
    """Both ways to attend, as far as they serve this mask, against the dense reference."""
    spec, (batch, _, count, keys) = case.spec, case.bias.shape
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 2**16)))
    dtype = data.draw(st.sampled_from(list(TOLERANCES)))
    query, key, value = (
        torch.randn(batch, number, tokens, width, generator=generator).to(dtype)
        for number, tokens, width in (
            (heads, count, 8),
            (key_heads, keys, 8),
            (key_heads, keys, data.draw(st.integers(1, 8))),
        )
    )
    rule = ScoreRule(
        data.draw(st.sampled_from([0.1, 0.5, 1.0])),
        data.draw(st.none() | st.just(2.0)),
        torch.randn(heads, generator=generator) if data.draw(st.booleans()) else None,
    )
    if data.draw(st.booleans()):
        rule = ScoreRule(rule.scaling)
    needs = Needs(data.draw(st.integers(1, 80)), data.draw(st.integers(0, 4)), question=True)
    prompts = torch.randint(1, 40, (batch, int(case.run_ids.max()) or 1), generator=generator)

    dense = dense_attention(query, key, case, rule)
    copied = value.double().repeat_interleave(heads // key_heads, dim=1)
    output = (dense @ copied).transpose(1, 2)  # (B, n, H, E)
    expected = read_dense(dense, spec.first_query, case.run_ids, needs, prompts)
    landmarks = find_landmarks(case.run_ids, needs.num_sinks, prompts)
    of_rows, of_outputs = TOLERANCES[dtype]

    chunks: list[LocalAttention] = []

    def read(start: int, first_key: int, rows: torch.Tensor) -> None:
        chunks.append(read_rows(rows, spec.first_query + start, first_key, landmarks, needs))

    attended = chunked_attention(query, key, value, spec, rule, read)
    torch.testing.assert_close(attended.double(), output, rtol=0, atol=of_outputs)
    along = {"sink_distances": 1}
    together = {
        name: torch.cat([getattr(chunk, name) for chunk in chunks], dim=along.get(name, 2))
        for name in LocalAttention._fields
    }
    assert_alike(LocalAttention(**together), expected, of_rows)

    if why_not_fused(query, key, value, spec, rule) is None:
        attended, lse = fused_attention(query, key, value, spec, rule)
        assert bool(attended.isfinite().all())
        real = case.real
        torch.testing.assert_close(attended[real].double(), output[real], rtol=0, atol=of_outputs)
        local = read_band(
            query, key, lse, rule.scaling, landmarks, needs, first_query=spec.first_query
        )
        assert_alike(local, expected, of_rows)


@given(st.data(), described_masks(), st.sampled_from([(4, 4), (4, 2), (3, 1)]))
@settings(max_examples=300, **STEADY)
def test_kernels_equal_the_dense_reference(
    data: st.DataObject, case: Case, heads: tuple[int, int]
) -> None:
    if case.spec.sequence_ids is not None:
        assert torch.equal(case.spec.sequence_ids, case.run_ids)
    check_kernels(data, case, *heads)


@given(st.data(), st.sampled_from([(4, 4), (4, 2), (3, 1)]))
@settings(max_examples=120, **STEADY)
def test_kernels_equal_the_dense_reference_under_ready_made_masks(
    data: st.DataObject, heads: tuple[int, int]
) -> None:
    case = data.draw(ready_masks(heads[0]))
    assert why_not_fused(*[torch.zeros(1, 1, 1, 8)] * 3, case.spec, ScoreRule(1.0)) is not None
    check_kernels(data, case, *heads)


WINDOW = 5
STATS = (
    FarMass(WINDOW, sinks=2),
    AttentionDistance(WINDOW),
    SinkMass(2),
    QuestionMass(),
    LocalEntropy(WINDOW),
    FutureInfluence(4),
)
# Windows of Mistral and of every other layer of Gemma 2 are 14 tokens.
tiny_model = functools.cache(build_model)
FAMILIES = ("Llama", "Gemma2", "Mistral")


@torch.no_grad()
def assert_trace_equals_eager(
    family: str,
    given_mask: torch.Tensor,
    eager_mask: torch.Tensor,
    real: torch.Tensor,
    seed: int,
    pass_positions: bool,
) -> None:
    """Trace under one form of a mask, and compare with eager matrices under another, real rows.

    Args:
        family: Of the model.
        given_mask: As `trace` gets it.
        eager_mask: The same as eager attention understands it.
        real: (B, T).
        seed: Of the tokens.
        pass_positions: Whether `trace` is told positions that count real tokens; it counts so
            by itself under a (B, T) mask, and else the model counts all tokens.
    """
    model = tiny_model(family)
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(2, VOCABULARY, real.shape, generator=generator)
    positions = (real.long().cumsum(dim=-1) - 1).clamp(min=0)
    if given_mask.dim() == 4 and not pass_positions:
        positions = torch.arange(real.shape[1])[None]
    prompts = torch.randint(1, 20, (len(real), 1), generator=generator)
    traced = trace(
        model,
        tokens,
        given_mask,
        stats=STATS,
        prompt_lengths=prompts[:, 0],
        per_head=True,
        position_ids=positions if pass_positions else None,
    )

    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    layers = model.model(
        tokens,
        attention_mask=eager_mask,
        position_ids=positions,
        use_cache=False,
        output_attentions=True,
    ).attentions
    model.set_attn_implementation(before)
    for layer, rows in enumerate(layers):
        rows = rows.double().masked_fill(~real[:, None, :, None], 0.0)
        local = read_dense(rows, 0, real.long(), Needs.of(STATS), prompts)
        for stat in STATS:
            theirs = stat(local)[..., stat.reach :].float()
            ours = traced.per_head(stat)[layer]
            kept = real[:, None].expand_as(ours)
            torch.testing.assert_close(
                ours[kept],
                theirs[kept],
                rtol=0,
                atol=2e-5 * max(1, stat.width),
                msg=lambda text, at=(family, layer, stat): f"{at}: {text}",
            )
            assert float(ours[~kept].abs().max() if (~kept).any() else 0.0) == 0.0


# `trace` documents one refusal alone, of a mask of another shape. The masks that these tests draw
# are all of the documented shapes, so that an error of ours fails them.


@given(
    data=st.data(),
    family=st.sampled_from(FAMILIES),
    batch=st.integers(1, 3),
    length=st.integers(1, 48),
    seed=st.integers(0, 2**16),
    dtype=st.sampled_from([torch.long, torch.bool, torch.float32]),
    pass_positions=st.booleans(),
)
@settings(max_examples=200, **STEADY)
def test_traces_under_any_padding_equal_eager(
    data: st.DataObject,
    family: str,
    batch: int,
    length: int,
    seed: int,
    dtype: torch.dtype,
    pass_positions: bool,
) -> None:
    pattern = data.draw(padding_patterns(batch, length))
    assert_trace_equals_eager(
        family, pattern.to(dtype), pattern, pattern.bool(), seed, pass_positions
    )


@given(
    data=st.data(),
    family=st.sampled_from(FAMILIES),
    batch=st.integers(1, 2),
    length=st.integers(1, 40),
    seed=st.integers(0, 2**16),
    per_head=st.booleans(),
    kind=st.sampled_from(["boolean", "lowest", "infinite"]),
    share=st.sampled_from([0.1, 0.5, 0.9]),
    pass_positions=st.booleans(),
)
@settings(max_examples=140, **STEADY)
def test_traces_under_ready_made_masks_equal_eager(
    data: st.DataObject,
    family: str,
    batch: int,
    length: int,
    seed: int,
    per_head: bool,
    kind: str,
    share: float,
    pass_positions: bool,
) -> None:
    real = data.draw(padding_patterns(batch, length)).bool()
    heads = tiny_model(family).config.num_attention_heads if per_head else 1
    generator = torch.Generator().manual_seed(seed)
    sees = torch.rand(batch, heads, length, length, generator=generator) < share
    sees |= torch.eye(length, dtype=torch.bool)  # every real token sees itself
    sees &= torch.ones(length, length, dtype=torch.bool).tril()
    sees &= real[:, None, None] & real[:, None, :, None]
    lowest = torch.finfo(torch.float32).min
    added = torch.zeros(sees.shape)
    if kind != "boolean":
        added = torch.randn(sees.shape, generator=generator)
    eager_mask = added.masked_fill(~sees, lowest)  # -inf would make eager's padding NaN
    given_mask = {
        "boolean": sees,
        "lowest": eager_mask,
        "infinite": added.masked_fill(~sees, -torch.inf),
    }[kind]
    assert_trace_equals_eager(family, given_mask, eager_mask, real, seed, pass_positions)


@pytest.mark.parametrize(
    "mask",
    [
        torch.ones(10),
        torch.ones(2, 13),
        torch.ones(2, 7),
        torch.ones(1, 10),
        torch.ones(2, 10, 10),
        torch.ones(2, 1, 10, 13, dtype=torch.bool),
        torch.ones(2, 3, 10, 10, dtype=torch.bool),
        torch.ones(2, 1, 10, 10, dtype=torch.long),
    ],
    ids=lambda mask: f"{tuple(mask.shape)}",
)
def test_masks_of_the_wrong_shape_are_refused(mask: torch.Tensor) -> None:
    with pytest.raises(PivotTraceError):
        trace(tiny_model("Llama"), torch.full((2, 10), 5), mask)
