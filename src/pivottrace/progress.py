"""Progress with rate and time left: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

PLAIN_LINE_EVERY_S = 10.0


@contextmanager
def progress(title: str, total: int, unit: str = "questions") -> Iterator[Callable[[int], None]]:
    """Yield a function that takes the number done so far."""
    show = _bar if sys.stderr.isatty() else _lines
    with show(title, total, unit) as update:
        yield update


@contextmanager
def _bar(title: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description:<10}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(f"{unit}  {{task.fields[rate]}}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    started = time.monotonic()
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(title, total=total, rate="")

        def update(done: int) -> None:
            bar.update(task, completed=done, rate=_rate(done, started))

        yield update


@contextmanager
def _lines(title: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
    started = last = time.monotonic()

    def update(done: int) -> None:
        nonlocal last
        now = time.monotonic()
        if done < total and now - last < PLAIN_LINE_EVERY_S:
            return
        last = now
        left = (now - started) / max(done, 1) * (total - done)
        print(
            f"{title:<10} {done}/{total} {unit}  {_rate(done, started)}  {left:.0f} s left",
            file=sys.stderr,
            flush=True,
        )

    yield update


def _rate(done: int, started: float) -> str:
    return f"{done / max(time.monotonic() - started, 1e-9):.1f}/s"
