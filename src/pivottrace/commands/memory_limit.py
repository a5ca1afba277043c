"""Under a limit of the memory (`ulimit -v`), libraries are loaded in an order that ends clearly."""

from __future__ import annotations

import os
import resource

LEAST = 1_000_000_000
"""Bytes of address space. Loaded, the libraries below take 0.73 GB with one thread (ours)."""


def load_within_limit() -> None:
    """Load what must not be loaded late, if the process has a limit; else do nothing.

    OpenBLAS, which comes with numpy and scipy, asks again without end if it is refused memory. If
    polars cannot load a part of itself, this shows later, as an undefined name. So these libraries
    are loaded while there is room.

    Raises:
        MemoryError: The limit is too small.
    """
    limits = (resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA))
    limit = min((each for each in limits if each != resource.RLIM_INFINITY), default=None)
    if limit is None:
        return
    if limit < LEAST:
        raise MemoryError(
            f"the limit is {limit / 1e9:.2g} GB, and the libraries alone take {LEAST / 1e9:.2g} GB"
        )
    # Each of its threads takes 0.1 GB, and its work here is small.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # Polars' allocator would print a line for each thread that it did not get, a hundred thousand.
    os.environ.setdefault("_RJEM_MALLOC_CONF", "background_thread:false")
    import numpy  # noqa: F401
    import polars  # noqa: F401
    import pyarrow.parquet  # noqa: F401
    import scipy.linalg  # noqa: F401
