"""Work in batches that shrink when memory runs out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from accelerate.utils.memory import should_reduce_batch_size

from pivottrace.errors import ModelError

logger = logging.getLogger(__name__)

Row = TypeVar("Row")
Result = TypeVar("Result")


def in_batches(
    rows: Sequence[Row],
    batch_size: int,
    work: Callable[[int, Sequence[Row]], Sequence[Result]],
) -> list[Result]:
    """Put rows through `work`, `batch_size` at once. When memory runs out, the size is halved.

    The smaller size is kept to the end of the call, but not for the next call. Otherwise the sizes
    in one part of a run would depend on the parts before it, and a resumed run does not make those
    parts again.

    Args:
        rows: (N,) rows to work on.
        batch_size: Number of rows in the first batch.
        work: A function of the number of rows before a batch, and of the batch. It returns one
            result per row. If it draws random numbers, it must seed them by that number of rows,
            because failed attempts draw random numbers too.

    Returns:
        (N,) the results, in the order of the rows.

    Raises:
        ModelError: Memory runs out with a single row.
    """
    results: list[Result] = []
    while len(results) < len(rows):
        start = len(results)
        batch = rows[start : start + batch_size]
        if not memory_suffices(lambda: results.extend(work(start, batch))):  # noqa: B023
            batch_size = half_of(len(batch))
    return results


def memory_suffices(attempt: Callable[[], object]) -> bool:
    """Make an attempt, and say whether it ended before memory ran out."""
    try:
        attempt()
        return True
    except RuntimeError as error:
        if not _out_of_memory(error):
            raise
    # Outside the `except` block the traceback is gone. The memory that the failed attempt had
    # allocated is free then.
    torch.cuda.empty_cache()
    return False


def half_of(batch_size: int) -> int:
    """The size to go on with after memory ran out; said as a warning.

    Raises:
        ModelError: The size was 1.
    """
    if batch_size == 1:
        raise ModelError(
            "memory ran out with one sequence at a time: use a smaller model, dtype = "
            "'bfloat16', or fewer new tokens (rollouts.max_new_tokens, in training "
            "train.max_new_tokens)"
        )
    logger.warning("out of memory: going on with %d sequences at once", batch_size // 2)
    return batch_size // 2


def _out_of_memory(error: RuntimeError) -> bool:
    """Whether memory ran out. On the CPU and on MPS only the message of the error says so."""
    return isinstance(error, torch.OutOfMemoryError) or should_reduce_batch_size(error)
