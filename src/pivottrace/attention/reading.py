"""Read the input of the statistics off queries, keys and log-sum-exp, or off complete rows.

Every fused kernel knows each row's log-sum-exp (LSE), and `A[t, s] = exp(q_t . k_s * scaling -
LSE_t)`, so the mass within W tokens of the diagonal costs O(T W). It is computed in blocks: 32
queries and their 32 + W - 1 keys make one small product, and its diagonal band is a strided view.
On a GPU with Triton, `attention.triton_reading` computes the same in one pass over the queries.

Axes: B batch, H query heads that are read, K key heads, n queries, T keys, W window width, S sinks,
R runs of a packed row (1 if a row is one sequence), D head width.
"""

import functools
import importlib.util
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
import torch.nn.functional as F

from pivottrace.attention.row_statistics import LocalAttention, Needs

# Queries that are read together while decoding, from exact rows, or against a question.
QUERY_BLOCK = 64
# Queries in one block of the band; the more, the more products beside the diagonals are wasted.
BAND_BLOCK = 32
# Scores that are held at once, beyond one block. A CPU is fastest if they fit its cache (512 KiB in
# float32). A GPU is fastest with many, since each operation costs a launch (at most 64 MiB).
MAX_SCORES = {"cpu": 1 << 17, "cuda": 1 << 24}

Scores = Callable[[torch.Tensor], torch.Tensor]

_log = logging.getLogger(__name__)


class RowPlan(NamedTuple):
    """The facts on n consecutive queries that are the same in every layer.

    Attributes:
        own_run: (B, n) the run of each query; 0 at padding.
        in_window: (B, n, W) whether key t - d is a real token of the query's own run.
        distances: (B, n, S) distance back to each sink of its run; -1 for no such sink.
    """

    own_run: torch.Tensor
    in_window: torch.Tensor
    distances: torch.Tensor


@dataclass(frozen=True)
class Landmarks:
    """The places of the runs, the sinks and the questions of a batch among its keys.

    Attributes:
        run_ids: (B, T) number of the sequence of its row that a key belongs to, from 1; 0 at
            padding.
        sinks: (B, R, S) keys of each run's first S real tokens; T if the run has fewer.
        in_question: (B, T) True at the keys of the questions; None if no statistic reads them.
    """

    run_ids: torch.Tensor
    sinks: torch.Tensor
    in_question: torch.Tensor | None = None
    _plans: dict[tuple[int, int, int], RowPlan] = field(default_factory=dict, repr=False)
    _picks: dict[tuple[int, int, int], torch.Tensor] = field(default_factory=dict, repr=False)
    _spans: dict[tuple[int, int], torch.Tensor] = field(default_factory=dict, repr=False)

    def plan(self, first: int, count: int, width: int) -> RowPlan:
        """Return the plan of `count` queries from key `first`. It is made once for all layers."""
        found = self._plans.get((first, count, width))
        if found is None:
            found = self._plans[first, count, width] = self._plan(first, count, width)
        return found

    def _plan(self, first: int, count: int, width: int) -> RowPlan:
        own = self.run_ids[:, first : first + count]
        padded = F.pad(self.run_ids, (width - 1, 0))[:, first : first + count + width - 1]
        earlier = padded.unfold(1, width, 1).flip(-1)  # (B, n, W)
        places = first + torch.arange(count, device=own.device)
        own_sinks = _take_runs(self.sinks, own)
        distances = places[:, None] - own_sinks
        distances = torch.where((distances >= 0) & (own > 0)[..., None], distances, -1)
        return RowPlan(own, (earlier == own[..., None]) & (own > 0)[..., None], distances)

    def picks(self, first: int, count: int, width: int) -> torch.Tensor:
        """Return (B, W + S, n) int32 keys: each query's window, then its sinks; -1 for none."""
        if (first, count, width) not in self._picks:
            plan = self.plan(first, count, width)
            back = torch.cat(
                [
                    torch.arange(width, device=plan.distances.device).expand(plan.in_window.shape),
                    plan.distances,
                ],
                dim=-1,
            )
            keys = first + torch.arange(count, device=back.device)[:, None] - back
            wanted = torch.cat([plan.in_window, plan.distances >= 0], dim=-1)
            picks = torch.where(wanted, keys, -1).int().transpose(1, 2).contiguous()
            self._picks[first, count, width] = picks
        return self._picks[first, count, width]

    @functools.cached_property
    def asked(self) -> torch.Tensor:
        """(B, T) int32, the run whose question a key belongs to; 0 for none."""
        assert self.in_question is not None
        return torch.where(self.in_question, self.run_ids, 0).int()

    def spans(self, first: int, count: int) -> torch.Tensor:
        """Return (3, B, n) int32: each query's run; first and last + 1 key of its question.

        The run is -1 at padding. If a run has no question, its first key is T and its last + 1 is
        0.
        """
        if (first, count) not in self._spans:
            batch, length = self.run_ids.shape
            runs, num_runs = self.asked.long(), int(self.run_ids.max()) + 1
            places = torch.arange(length, device=runs.device).expand(batch, length)
            # First and last + 1 key of each run's question, (B, runs + 1); entry 0 is no run.
            begins, ends = runs.new_full((batch, num_runs), length), runs.new_zeros(batch, num_runs)
            begins.scatter_reduce_(1, runs, places, "amin")
            ends.scatter_reduce_(1, runs, places + 1, "amax")
            begins[:, 0], ends[:, 0] = length, 0
            own = self.run_ids[:, first : first + count]
            at = [torch.where(own > 0, own, -1), begins.gather(1, own), ends.gather(1, own)]
            self._spans[first, count] = torch.stack(at).int()
        return self._spans[first, count]


def find_landmarks(
    run_ids: torch.Tensor, num_sinks: int, prompt_lengths: torch.Tensor | None = None
) -> Landmarks:
    """Find each run's sinks, left-padded or not, and its question.

    Args:
        run_ids: (B, T) from 1, ascending along a row; 0 at padding.
        num_sinks: S >= 0.
        prompt_lengths: (B, R) tokens of each run's question; None if no statistic reads it.
    """
    length = run_ids.shape[1]
    num_runs = max(1, int(run_ids.max())) if run_ids.numel() else 1
    places = torch.arange(length, device=run_ids.device)
    numbers = torch.arange(1, num_runs + 1, device=run_ids.device)
    is_in = run_ids[:, None, :] == numbers[:, None]  # (B, R, T)
    firsts = torch.where(is_in, places, length).amin(dim=-1)  # (B, R)
    counts = is_in.sum(dim=-1)
    # Number each run's real tokens from 1. Runs are contiguous unless padding lies inside a
    # sequence.
    order = torch.where(is_in, is_in.cumsum(dim=-1), 0)  # (B, R, T)
    sinks = torch.full((*firsts.shape, num_sinks), length, device=run_ids.device)
    for s in range(num_sinks):
        found = torch.where(order == s + 1, places, length).amin(dim=-1)
        sinks[..., s] = torch.where(counts > s, found, length)
    in_question = None
    if prompt_lengths is not None:
        limits = prompt_lengths.to(run_ids.device)[..., None]
        in_question = (is_in & (order <= limits)).any(dim=1)
    return Landmarks(run_ids, sinks, in_question)


def read_band(
    query: torch.Tensor,
    key: torch.Tensor,
    log_sum_exp: torch.Tensor,
    scaling: float,
    landmarks: Landmarks,
    needs: Needs,
    *,
    heads: torch.Tensor | None = None,
    first_query: int = 0,
) -> LocalAttention:
    """Read plain causal attention off its log-sum-exp.

    Grouped-query keys are not copied, and scores are float32 at least, as in the fused kernels.

    Args:
        query: (B, H, n, D) of the heads that are read, with positions encoded.
        key: (B, K, T, D), with positions encoded.
        log_sum_exp: (B, H, n) natural log of each row's sum of exponentiated scores.
        scaling: Factor on the scores.
        landmarks: The landmarks of the T keys. Padding gets no mass, as key and as query.
        needs: The parts that the statistics read.
        heads: (H,) the key head of each query head; None if all heads are read, so that K divides H
            in order.
        first_query: Key at which the first query stands.
    """
    if serves_kernels(query):
        return _read_by_kernels(
            query, key, log_sum_exp, scaling, landmarks, needs, heads, first_query
        )
    batch, num_heads, count, _ = query.shape
    dtype = torch.promote_types(query.dtype, torch.float32)
    device = query.device
    plan = landmarks.plan(first_query, count, needs.width)

    window = torch.empty(batch, num_heads, count, needs.width, dtype=dtype, device=device)
    sink_mass = torch.empty(batch, num_heads, count, needs.num_sinks, dtype=dtype, device=device)
    question = None
    if needs.question and landmarks.in_question is not None:
        question = torch.empty(batch, num_heads, count, dtype=dtype, device=device)

    def read_keys(keys: torch.Tensor) -> torch.Tensor:
        return (keys if heads is None else keys[:, heads]).to(dtype)

    def part(rows: slice) -> tuple[torch.Tensor, torch.Tensor, Scores, slice]:
        block = query[:, :, rows].to(dtype) * scaling
        lse = log_sum_exp[:, :, rows, None].to(dtype)
        at = slice(first_query + rows.start, first_query + rows.stop)
        return block, lse, lambda keys: _grouped_scores(block, read_keys(keys)), at

    for rows in _slabs(query, BAND_BLOCK, BAND_BLOCK + needs.width - 1):
        block, lse, scores, at = part(rows)
        band = _band(block, read_keys(_keys_before(key, at, needs.width)), needs.width)
        window[:, :, rows] = _masked_exp(band - lse, plan.in_window[:, None, rows])
        if needs.num_sinks:
            sink_mass[:, :, rows] = _read_sinks(
                scores, key, lse, landmarks.sinks, plan.own_run[:, rows], plan.distances[:, rows]
            )
    if question is not None:
        for rows in _slabs(query, QUERY_BLOCK, key.shape[2]):
            _, lse, scores, at = part(rows)
            question[:, :, rows] = _read_question(scores, key, lse, landmarks, at)
    total = (plan.own_run > 0)[:, None].to(dtype).expand(batch, num_heads, count)
    return LocalAttention(window, sink_mass, plan.distances, question, total)


@functools.cache
def _all_heads(num_heads: int, num_key_heads: int, device: torch.device) -> torch.Tensor:
    """(H,) int32: the key head of each query head; made once, since a layer's time is launches."""
    groups = num_heads // num_key_heads
    return torch.arange(num_key_heads, device=device).repeat_interleave(groups).int()


def serves_kernels(query: torch.Tensor) -> bool:
    """Whether the kernels of `triton_reading` can be used. PyTorch for CUDA installs Triton."""
    return query.is_cuda and query.dtype != torch.float64 and _kernels_run(query.device)


@functools.cache
def _kernels_run(device: torch.device) -> bool:
    """Try once, because Triton or the C compiler that it needs may be missing."""
    if importlib.util.find_spec("triton") is None:
        return False
    one = torch.zeros(1, 1, 1, 16, device=device)
    index = torch.zeros(1, 1, 1, dtype=torch.int32, device=device)
    try:
        from pivottrace.attention.triton_reading import picked_mass

        picked_mass(one, one, one[..., 0], 1.0, index[0, 0], index)
    except torch.OutOfMemoryError:
        raise  # this is no failure of Triton, and the cache keeps no result of an error
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        _log.warning("Triton cannot be used (%s): tracing reads by single operations.", reason)
        return False
    return True


def _read_by_kernels(
    query: torch.Tensor,
    key: torch.Tensor,
    log_sum_exp: torch.Tensor,
    scaling: float,
    landmarks: Landmarks,
    needs: Needs,
    heads: torch.Tensor | None,
    first_query: int,
) -> LocalAttention:
    """Do the work of `read_band` with `triton_reading`."""
    from pivottrace.attention.triton_reading import picked_mass, question_mass

    num_heads, count = query.shape[1:3]
    heads = _all_heads(num_heads, key.shape[1], query.device) if heads is None else heads.int()
    plan = landmarks.plan(first_query, count, needs.width)
    picks = landmarks.picks(first_query, count, needs.width)
    mass = picked_mass(query, key, log_sum_exp, scaling, heads, picks).transpose(2, 3)
    question = None
    if needs.question and landmarks.in_question is not None:
        spans = landmarks.spans(first_query, count)
        question = question_mass(
            query, key, log_sum_exp, scaling, heads, landmarks.asked, spans, first_query
        )
    total = (plan.own_run > 0)[:, None].to(mass.dtype).expand(-1, num_heads, count)
    return LocalAttention(
        mass[..., : needs.width], mass[..., needs.width :], plan.distances, question, total
    )


def read_rows(
    rows: torch.Tensor, first_query: int, first_key: int, landmarks: Landmarks, needs: Needs
) -> LocalAttention:
    """Read the same quantities off rows of the matrix.

    Args:
        rows: (B, H, n, m) masked attention of n consecutive queries to m consecutive keys. Their
            attention to all other keys is 0.
        first_query: Key at which the first query stands.
        first_key: The first of the m keys.
        landmarks: The landmarks of all keys.
        needs: The parts that the statistics read.
    """
    batch, num_heads, count, num_keys = rows.shape
    plan = landmarks.plan(first_query, count, needs.width)
    places = torch.arange(first_query, first_query + count, device=rows.device)

    def pick(keys: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        """Return the (B, H, n, k) entries at (B or 1, n, k) keys; 0 if not wanted or not seen."""
        columns = keys - first_key
        wanted = wanted & (columns >= 0) & (columns < num_keys)
        columns = torch.where(wanted, columns, 0)[:, None]
        columns = columns.expand(batch, num_heads, count, keys.shape[-1])
        return rows.gather(-1, columns) * wanted[:, None]

    back = torch.arange(needs.width, device=rows.device)
    question = None
    if needs.question and landmarks.in_question is not None:
        asked = landmarks.in_question[:, None, None, first_key : first_key + num_keys]
        question = (rows * asked).sum(dim=-1)
    return LocalAttention(
        window=pick((places[:, None] - back)[None], plan.in_window),
        sinks=pick(places[:, None] - plan.distances, plan.distances >= 0),
        sink_distances=plan.distances,
        question=question,
        total=rows.sum(dim=-1),
    )


def _slabs(query: torch.Tensor, block: int, columns: int) -> Iterator[slice]:
    """Cut (B, H, n, D) queries into slabs: as many blocks as `MAX_SCORES` allows, at least one."""
    batch, heads, count, _ = query.shape
    blocks = MAX_SCORES.get(query.device.type, 0) // (batch * heads * block * columns)
    slab = block * max(1, blocks)
    for start in range(0, count, slab):
        yield slice(start, min(start + slab, count))


def _read_sinks(
    scores: Scores,
    key: torch.Tensor,
    lse: torch.Tensor,
    sinks: torch.Tensor,
    own_run: torch.Tensor,
    distances: torch.Tensor,
) -> torch.Tensor:
    """Return (B, H, n, S), the rows' mass on the sinks of their own runs."""
    batch, num_runs, num_sinks = sinks.shape
    chosen, offset = sinks[:, :1], 1
    if num_runs > 1 and (last := int(own_run.max())):  # only the runs that this block meets
        offset = max(int(own_run.min()), 1)
        chosen = sinks[:, offset - 1 : last]
    met = chosen.shape[1]
    exponent = scores(_take_keys(key, chosen.reshape(batch, -1))) - lse  # (B, H, n, R' S)
    exponent = exponent.unflatten(-1, (met, num_sinks))
    numbers = torch.arange(offset, offset + met, device=own_run.device)
    own = own_run[..., None] == numbers  # (B, n, R')
    keep = own[..., None] & (distances >= 0)[:, :, None]  # (B, n, R', S)
    return _masked_exp(exponent, keep[:, None]).sum(dim=-2)


def _read_question(
    scores: Scores, key: torch.Tensor, lse: torch.Tensor, landmarks: Landmarks, at: slice
) -> torch.Tensor:
    """Return (B, H, n), the rows' mass on the questions of their own runs."""
    runs, asked = landmarks.run_ids, landmarks.in_question
    assert asked is not None
    own = runs[:, at]
    wanted = asked & (runs >= own.amin(dim=1, keepdim=True)) & (runs <= own.amax(1, keepdim=True))
    # Only the keys low ... high - 1 hold a question that these rows read.
    columns = wanted.any(dim=0).nonzero()
    if not columns.numel():
        return lse.new_zeros(lse.shape[:3])
    low, high = int(columns[0]), int(columns[-1]) + 1
    places = torch.arange(at.start, at.stop, device=runs.device)
    # (B, n, high - low) True at question keys of the row's own run, up to the row itself.
    keep = asked[:, None, low:high] & (runs[:, None, low:high] == own[..., None])
    keep = keep & (torch.arange(low, high, device=runs.device) <= places[:, None])
    return _masked_exp(scores(key[:, :, low:high]) - lse, keep[:, None]).sum(dim=-1)


def _take_runs(per_run: torch.Tensor, own_run: torch.Tensor) -> torch.Tensor:
    """Take each query's run from (B, R, S); padding takes the first. The result is (B, n, S)."""
    index = (own_run - 1).clamp(min=0)[..., None].expand(-1, -1, per_run.shape[-1])
    return per_run.gather(1, index)


def _take_keys(key: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """Take (B, K, m, D) keys at (B, m) positions; a position past the end takes the last key."""
    index = positions.clamp(max=key.shape[2] - 1)[:, None, :, None]
    return key.gather(2, index.expand(-1, key.shape[1], -1, key.shape[3]))


def _keys_before(key: torch.Tensor, rows: slice, width: int) -> torch.Tensor:
    """Take (B, K, n + W - 1, D): a block's keys and W - 1 before it, zeros before the first."""
    first = rows.start - (width - 1)
    return F.pad(key[:, :, max(first, 0) : rows.stop], (0, 0, max(-first, 0), 0))


def _grouped_scores(query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    """Return (B, H, n, m) scores of (B, H, n, D) queries on (B, K, m, D) keys, without a copy."""
    batch, heads, count, width = query.shape
    grouped = query.reshape(batch, key.shape[1], -1, width)  # (B, K, groups * n, D)
    return (grouped @ key.transpose(-1, -2)).view(batch, heads, count, key.shape[2])


def _band(query: torch.Tensor, key: torch.Tensor, width: int) -> torch.Tensor:
    """Return (B, H, n, W): at [i, d] the score of query i on the key d tokens before it.

    The keys (B, K, n + W - 1, D) begin W - 1 tokens before the first query.
    """
    batch, _, count, _ = query.shape
    blocks = -(-count // BAND_BLOCK)
    if blocks == 1:
        return _diagonals(_grouped_scores(query, key), width)
    spare = (0, 0, 0, blocks * BAND_BLOCK - count)
    # Each block of queries is paired with its own keys, like one more sequence of the batch.
    queries = F.pad(query, spare).unflatten(2, (blocks, -1)).transpose(1, 2).flatten(0, 1)
    keys = F.pad(key, spare).unfold(2, BAND_BLOCK + width - 1, BAND_BLOCK)  # (B, K, b, D, m)
    keys = keys.permute(0, 2, 1, 4, 3).flatten(0, 1)
    band = _diagonals(_grouped_scores(queries, keys), width)
    return band.unflatten(0, (batch, blocks)).transpose(1, 2).flatten(2, 3)[:, :, :count]


def _diagonals(scores: torch.Tensor, width: int) -> torch.Tensor:
    """View contiguous (B, H, n, n + W - 1) scores as (B, H, n, W): at [i, d] the key i - d."""
    batch, heads, count, columns = scores.shape
    head_stride = count * columns
    strides = (heads * head_stride, head_stride, columns + 1, 1)
    return scores.as_strided((batch, heads, count, width), strides).flip(-1)


def _masked_exp(exponent: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
    """Exponentiate where `keep`, 0 elsewhere, so that NaN and overflow stay in the padding."""
    return exponent.masked_fill(~keep, -torch.inf).exp()
