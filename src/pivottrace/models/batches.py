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
    """Put rows through `work`, `batch_size` at once; half as many from where memory runs out.

    The smaller size is kept to the end of the call, but not beyond it: what a part of a run goes
    through must not depend on the parts before it, which a resumed run does not make again.

    Args:
        rows: (N,) what to work on.
        batch_size: Rows at once, at first.
        work: Takes the number of rows before a batch and the batch, and gives one result per row.
            If it draws random numbers, it seeds them by that number, because failed attempts draw
            too.

    Returns:
        (N,) the results, in the rows' order.

    Raises:
        ModelError: Memory runs out with a single row.
    """
    results: list[Result] = []
    while len(results) < len(rows):
        start = len(results)
        batch = rows[start : start + batch_size]
        try:
            results += work(start, batch)
            continue
        except RuntimeError as error:
            if not _out_of_memory(error):
                raise
        # Out here the traceback is gone, and with it what the failed attempt had allocated.
        if len(batch) == 1:
            raise ModelError(
                "memory ran out with one sequence at a time: use a smaller model, dtype = "
                "'bfloat16', or fewer new tokens (rollouts.max_new_tokens, in training "
                "train.max_new_tokens)"
            )
        batch_size = len(batch) // 2
        logger.warning("out of memory: going on with %d sequences at once", batch_size)
        torch.cuda.empty_cache()
    return results


def _out_of_memory(error: RuntimeError) -> bool:
    """Whether memory ran out; on the CPU and on MPS only the message says so."""
    return isinstance(error, torch.OutOfMemoryError) or should_reduce_batch_size(error)
