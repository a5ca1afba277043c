"""Progress with rate and time left: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

PLAIN_LINE_EVERY_S = 10.0


class Update(Protocol):
    """A function that takes the number done so far, and a remark to show beside it."""

    def __call__(self, done: int, remark: str = "") -> None:
        """Show it."""


def in_words(stage: str) -> str:
    """A stage's name as people read it: "evaluate before"."""
    return stage.replace("_", " ")


def counted(update: Callable[[int], None], sizes: Sequence[int]) -> Callable[[Sequence[int]], None]:
    """A function that takes the indices of parts, each once, and shows the questions in them.

    Args:
        update: It shows a number of questions.
        sizes: Number of questions in each part; see `part_sizes`.
    """
    done = 0

    def show(finished: Sequence[int]) -> None:
        nonlocal done
        done += sum(sizes[index] for index in finished)
        update(done)

    return show


def part_sizes(total: int, part_size: int) -> list[int]:
    """Questions in each part: `part_size`, and the rest in the last one."""
    return [min(part_size, total - start) for start in range(0, total, part_size)]


@contextmanager
def progress(title: str, total: int, unit: str = "questions") -> Iterator[Update]:
    """Yield a function that takes the number done so far, and optionally a remark to show.

    The first number is the number done before the work began, for instance by finished parts of a
    resumed run. The rate and the time left count from it.
    """
    show = _bar if sys.stderr.isatty() else _lines
    with show(title, total, unit) as update:
        yield update


@contextmanager
def _bar(title: str, total: int, unit: str) -> Iterator[Update]:
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
        TextColumn(f"{unit}{{task.fields[remark]}}  {{task.fields[rate]}}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    pace = _Pace()
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(title, total=total, rate="", remark="")

        def update(done: int, remark: str = "") -> None:
            rate, shown = pace(done), f", {remark}" if remark else ""
            if rate is None:
                # rich must not count it as work done just now.
                bar.reset(task, completed=done, rate="", remark=shown)
            else:
                bar.update(task, completed=done, rate=f"{rate:.1f}/s", remark=shown)

        yield update


@contextmanager
def _lines(title: str, total: int, unit: str) -> Iterator[Update]:
    pace, last = _Pace(), time.monotonic()

    def update(done: int, remark: str = "") -> None:
        nonlocal last
        rate, now = pace(done), time.monotonic()
        if done < total and now - last < PLAIN_LINE_EVERY_S:
            return
        last = now
        left = f"  {rate:.1f}/s  {(total - done) / rate:.0f} s left" if rate else ""
        shown = f"{unit}, {remark}" if remark else unit
        print(f"{title:<10} {done}/{total} {shown}{left}", file=sys.stderr, flush=True)

    yield update


class _Pace:
    """The rate since the first number that it was given."""

    def __init__(self) -> None:
        self._first: tuple[int, float] | None = None

    def __call__(self, done: int) -> float | None:
        """Take the number done so far; return the rate per second, None at the first call."""
        now = time.monotonic()
        if self._first is None:
            self._first = done, now
            return None
        number, started = self._first
        return (done - number) / max(now - started, 1e-9)
