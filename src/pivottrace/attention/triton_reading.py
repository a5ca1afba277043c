"""Read the input of the statistics on a GPU, with two Triton kernels.

The formulas are the same as in `attention.reading`. As single operations in float32 they pass the
queries and each block's scores through memory several times, which costs a GPU half the time of a
layer. Here a block of queries is loaded once, in its own precision, and only the masses are
written. Sums are float32.

Axes: B batch, H query heads that are read, K key heads, n queries, T keys, D head width, P keys
that a query picks: its window, then its sinks.
"""

# Triton compiles the bodies of its functions, and its types are its own.
# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

import torch
import triton
import triton.language as tl

PICK_ROWS = 32  # queries per program: as many as stay in registers beside their keys


def picked_mass(
    query: torch.Tensor,
    key: torch.Tensor,
    log_sum_exp: torch.Tensor,
    scaling: float,
    key_heads: torch.Tensor,
    picks: torch.Tensor,
) -> torch.Tensor:
    """Compute the attention of each query to the keys that it picks.

    Args:
        query: (B, H, n, D).
        key: (B, K, T, D).
        log_sum_exp: (B, H, n) float32.
        scaling: Factor on the scores.
        key_heads: (H,) int32, the key head of each query head.
        picks: (B, P, n) int32, index of a key; -1 for none.

    Returns:
        (B, H, P, n) float32; 0 if no key is picked.
    """
    batch, heads, count, width = query.shape
    num_picks = picks.shape[1]
    mass = query.new_empty(batch, heads, num_picks, count, dtype=torch.float32)
    log_sum_exp, picks = log_sum_exp.contiguous(), picks.contiguous()
    grid = (triton.cdiv(count, PICK_ROWS), heads, batch)
    with torch.cuda.device_of(query):  # Triton launches on the current device
        _pick[grid](
            query,
            key,
            log_sum_exp,
            key_heads,
            picks,
            mass,
            *query.stride(),
            *key.stride(),
            scaling,
            heads,
            count,
            num_picks,
            WIDTH=width,
            PADDED=_padded(width),
            ROWS=PICK_ROWS,
        )
    return mass


def question_mass(
    query: torch.Tensor,
    key: torch.Tensor,
    log_sum_exp: torch.Tensor,
    scaling: float,
    key_heads: torch.Tensor,
    asked: torch.Tensor,
    spans: torch.Tensor,
    first_query: int,
) -> torch.Tensor:
    """Compute the attention of each query to the question of its own run.

    Args:
        query: (B, H, n, D).
        key: (B, K, T, D).
        log_sum_exp: (B, H, n) float32.
        scaling: Factor on the scores.
        key_heads: (H,) int32, the key head of each query head.
        asked: (B, T) int32, the run whose question a key belongs to; 0 for none.
        spans: (3, B, n) int32, each query's run (-1 at padding), and the first and last + 1 key of
            that run's question.
        first_query: Key at which the first query stands.

    Returns:
        (B, H, n) float32; 0 at padding.
    """
    batch, heads, count, width = query.shape
    mass = query.new_empty(batch, heads, count, dtype=torch.float32)
    # This many rows fit into the shared memory of a desktop GPU, even with heads of width 256.
    rows = 32 if query.dtype == torch.float32 else 64
    grid = (triton.cdiv(count, rows), heads, batch)
    with torch.cuda.device_of(query):
        _ask[grid](
            query,
            key,
            log_sum_exp.contiguous(),
            key_heads,
            asked.contiguous(),
            spans.contiguous(),
            mass,
            *query.stride(),
            *key.stride(),
            scaling,
            batch,
            heads,
            count,
            key.shape[2],
            first_query,
            WIDTH=width,
            PADDED=_padded(width),
            ROWS=rows,
            KEYS=32,
            num_stages=1,
        )
    return mass


def _padded(width: int) -> int:
    """Return the width of a tile, a power of two; matrix units need at least 16."""
    return max(16, triton.next_power_of_2(width))


@triton.jit
def _load_rows(
    start, rows, is_row, row_stride, column_stride, WIDTH: tl.constexpr, PADDED: tl.constexpr
):
    columns = tl.arange(0, PADDED)
    at = start + rows.to(tl.int64)[:, None] * row_stride + columns[None, :] * column_stride
    return tl.load(at, mask=is_row[:, None] & (columns < WIDTH)[None, :], other=0.0)


@triton.jit
def _pick(
    query,
    key,
    log_sum_exp,
    key_heads,
    picks,
    mass,
    query_b,
    query_h,
    query_n,
    query_d,
    key_b,
    key_h,
    key_n,
    key_d,
    scaling,
    heads,
    count,
    num_picks,
    WIDTH: tl.constexpr,
    PADDED: tl.constexpr,
    ROWS: tl.constexpr,
):
    head, batch = tl.program_id(1).to(tl.int64), tl.program_id(2).to(tl.int64)
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    is_row = rows < count
    row = batch * heads + head
    start = query + batch * query_b + head * query_h
    queries = _load_rows(start, rows, is_row, query_n, query_d, WIDTH, PADDED).to(tl.float32)
    total = tl.load(log_sum_exp + row * count + rows, mask=is_row, other=0.0)
    start = key + batch * key_b + tl.load(key_heads + head) * key_h
    for pick in range(num_picks):
        at = tl.load(picks + (batch * num_picks + pick) * count + rows, mask=is_row, other=-1)
        keys = _load_rows(start, at, at >= 0, key_n, key_d, WIDTH, PADDED).to(tl.float32)
        score = tl.sum(queries * keys, axis=1) * scaling
        found = tl.where(at >= 0, tl.exp(score - total), 0.0)
        tl.store(mass + (row * num_picks + pick) * count + rows, found, mask=is_row)


@triton.jit
def _ask(
    query,
    key,
    log_sum_exp,
    key_heads,
    asked,
    spans,
    mass,
    query_b,
    query_h,
    query_n,
    query_d,
    key_b,
    key_h,
    key_n,
    key_d,
    scaling,
    batches,
    heads,
    count,
    num_keys,
    first_query,
    WIDTH: tl.constexpr,
    PADDED: tl.constexpr,
    ROWS: tl.constexpr,
    KEYS: tl.constexpr,
):
    head, batch = tl.program_id(1).to(tl.int64), tl.program_id(2).to(tl.int64)
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    is_row = rows < count
    row = batch * heads + head
    start = query + batch * query_b + head * query_h
    queries = _load_rows(start, rows, is_row, query_n, query_d, WIDTH, PADDED)
    total = tl.load(log_sum_exp + row * count + rows, mask=is_row, other=0.0)
    own = tl.load(spans + batch * count + rows, mask=is_row, other=-1)
    firsts = spans + (batches + batch) * count + rows
    low = tl.min(tl.load(firsts, mask=is_row, other=num_keys))
    high = tl.max(tl.load(firsts + batches * count, mask=is_row, other=0))
    start = key + batch * key_b + tl.load(key_heads + head) * key_h
    found = tl.zeros([ROWS], dtype=tl.float32)
    for first_key in range(low, high, KEYS):
        at = first_key + tl.arange(0, KEYS)
        keys = _load_rows(start, at, at < num_keys, key_n, key_d, WIDTH, PADDED)
        scores = tl.dot(queries, tl.trans(keys), input_precision="ieee") * scaling
        run = tl.load(asked + batch * num_keys + at, mask=at < num_keys, other=0)
        sees = (run[None, :] == own[:, None]) & (at[None, :] <= (first_query + rows)[:, None])
        found += tl.sum(tl.where(sees, tl.exp(scores - total[:, None]), 0.0), axis=1)
    tl.store(mass + row * count + rows, found, mask=is_row)
