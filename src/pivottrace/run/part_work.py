"""The work on a table in parts: missing parts are made, finished ones are kept."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import pyarrow as pa

from pivottrace.run.directory import RunDir


def run_parts(
    run: RunDir,
    name: str,
    num_parts: int,
    make: Callable[[int], pa.Table],
    *,
    on_parts: Callable[[Sequence[int]], None] = lambda finished: None,
    begin: Callable[[], None] = lambda: None,
    is_over: Callable[[], bool] = lambda: False,
) -> None:
    """Make the parts that are missing, with the run's crew.

    Args:
        run: The run, in the round of the table.
        name: The table.
        num_parts: Number of its parts.
        make: It makes a part from its index.
        on_parts: It is called with the indices of the parts that were finished before, and then
            with each part that has come since.
        begin: It is called before each part is written. It records the settings of the attempt. An
            attempt that fails before its first part has nothing to keep, so its settings are not
            recorded.
        is_over: Whether another worker has used the parts and removed them by now.
    """
    finished = [index for index in range(num_parts) if run.has_part(name, index)]
    on_parts(finished)
    missing = sorted({*range(num_parts)}.difference(finished))
    made = run.crew.make_parts(
        run.path,
        str(run.part_path(name, 0).parent.relative_to(run.path)),
        missing,
        make,
        lambda index: run.has_part(name, index) or is_over(),
    )
    for index, table in made:
        if table is not None:
            begin()
            run.write_part(name, index, table)
        on_parts([index])


def part_seed(seed: int, kind: str, index: int) -> int:
    """A seed for one part: it depends on run seed, kind and part only, so not on the machine."""
    digest = hashlib.sha256(f"{seed}/{kind}/{index}".encode()).digest()
    return int.from_bytes(digest[:4], "big")
