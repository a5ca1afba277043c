"""Under a limit of the memory (`ulimit -v`), libraries are loaded in an order that ends clearly."""

from __future__ import annotations

import os
import resource

LEAST = 1_000_000_000
"""Bytes of address space. Loaded, the libraries below take 0.73 GB with one thread (ours)."""
LEAST_WITH_MODEL = 4_000_000_000
"""The same for a command that may load a model. A run of the embedded one, which is tiny, takes 3.4
GB with one thread and 3.8 GB with many (ours)."""
WITHOUT_MODEL = frozenset(
    ("init", "status", "repair", "report", "view", "label", "redo", "plan", "audit", "export")
)


def load_within_limit(command: str) -> None:
    """Load what must not be loaded late, if the process has a limit; else do nothing.

    OpenBLAS, which comes with numpy and scipy, asks again without end if it is refused memory. If
    polars cannot load a part of itself, this shows later, as an undefined name. So these libraries
    are loaded while there is room. And where the last megabytes are refused, Python itself ends in
    many ways, or crawls. So a limit below the need of the libraries is refused at once.

    Args:
        command: Name of the command that is about to begin.

    Raises:
        MemoryError: The limit is too small.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return
    least = LEAST if command in WITHOUT_MODEL else LEAST_WITH_MODEL
    if limit < least:
        raise MemoryError(
            f"the limit is {limit / 1e9:.2g} GB, and the libraries of this command alone take up "
            f"to {least / 1e9:.2g} GB"
        )
    # Each of its threads takes 0.1 GB, and its work here is small.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # Polars' allocator would print a line for each thread that it did not get, a hundred thousand.
    os.environ.setdefault("_RJEM_MALLOC_CONF", "background_thread:false")
    import numpy  # noqa: F401
    import polars  # noqa: F401
    import pyarrow.parquet  # noqa: F401
    import scipy.linalg  # noqa: F401
