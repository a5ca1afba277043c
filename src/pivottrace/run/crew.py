"""The crew that makes a run's parts: this process alone, or several workers on a shared folder.

A part is the same whoever makes it, and it gets its name when it is whole. So claims only save
work: if two workers cannot see each other's locks, they make a part twice, and nothing is wrong.
Locks belong to processes, so the system frees the locks of a worker that dies.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa

from pivottrace.errors import ConfigError, RunBusyError, RunDirError

LOOK_AGAIN_S = 0.5
"""Seconds between two looks at the parts that other workers are making."""
STORING_S = 1.0
"""How long to wait for a run's lock. Whoever stores a label holds it for milliseconds."""
T = TypeVar("T")
Made = Iterator[tuple[int, pa.Table | None]]
"""Parts as they come: the index, and the table; None for a part that another worker has written."""


class Crew:
    """This worker, among `num` that work on the same run.

    Args:
        index: Its place, from 0. It begins with every `num`-th part, and then takes over
            unclaimed parts.
        num: Number of workers. A single worker has the run to itself.
    """

    def __init__(self, index: int = 0, num: int = 1) -> None:
        self.index, self.num = index, num
        self._turns = 0

    @classmethod
    def of_shard(cls, text: str) -> Crew:
        """The worker that `--shard` names, such as "1/4". Raises ConfigError."""
        found = re.fullmatch(r"(\d+)/(\d+)", text)
        index, num = map(int, found.groups()) if found else (0, 0)
        if not 1 <= index <= num:
            raise ConfigError(
                f"--shard {text}: give the worker's number and the number of workers, such as 1/4, "
                f"2/4, 3/4 and 4/4"
            )
        return cls(index - 1, num)

    @property
    def is_shared(self) -> bool:
        """Whether other workers may work on the run at the same time."""
        return self.num > 1

    def open(self, opener: Callable[..., T], *arguments: Any) -> T:
        """Open what makes parts, such as a sampler, where the parts are made."""
        return opener(*arguments)

    def lock(self, folder: Path, wait_s: float = STORING_S) -> int:
        """Lock a run for this process or, if it is shared, for all workers together.

        Returns:
            The open file of the lock, which holds as long as the file is open.

        Raises:
            RunBusyError: Another process holds the run, for longer than `wait_s`.
        """
        file = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
        until = time.monotonic() + wait_s
        while not self._has_locked(file, folder):
            if time.monotonic() > until:
                os.close(file)
                raise RunBusyError(
                    f"{folder}: another process is working on this run. Wait for it to end."
                )
            time.sleep(STORING_S / 50)
        return file

    def _has_locked(self, file: int, folder: Path) -> bool:
        try:
            fcntl.flock(file, (fcntl.LOCK_SH if self.is_shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except OSError as error:
            _refuse_unlocked(folder, error)
            return False
        return True

    @contextmanager
    def turn(self, folder: Path) -> Iterator[None]:
        """Do what one worker at a time may do, such as writing the manifest. It may be nested."""
        if not self.is_shared or self._turns:
            yield
            return
        with (folder / ".turn").open("a") as file:
            _lock(file.fileno(), folder, fcntl.LOCK_EX)
            self._turns += 1
            try:
                yield
            finally:
                self._turns -= 1

    def make_parts(
        self,
        folder: Path,
        name: str,
        missing: Sequence[int],
        make: Callable[[int], pa.Table],
        is_written: Callable[[int], bool],
    ) -> Made:
        """Make the missing parts of a table. A part is claimed until the next one is asked for.

        Args:
            folder: The run's folder.
            name: A name of the table that no other table of the run has.
            missing: Indices of the parts.
            make: It makes a part.
            is_written: Whether a part is there by now.
        """
        if not self.is_shared:
            yield from ((index, make(index)) for index in missing)
            return
        left = sorted(missing, key=lambda index: ((index - self.index) % self.num, index))
        is_waiting = False
        with (folder / ".claims").open("a") as file:
            while left:
                for index in list(left):
                    if is_written(index):
                        yield index, None
                    elif self._claim(file.fileno(), folder, name, index):
                        # It may have been written while we asked.
                        yield index, None if is_written(index) else make(index)
                        _unlock(file.fileno(), name, index)
                    else:
                        continue
                    left.remove(index)
                    is_waiting = False
                if left:
                    if not is_waiting:
                        is_waiting = True
                        print(
                            f"waiting for {len(left)} part{'s' * (len(left) > 1)} that other "
                            f"workers make",
                            file=sys.stderr,
                            flush=True,
                        )
                    time.sleep(LOOK_AGAIN_S)

    def _claim(self, file: int, folder: Path, name: str, index: int) -> bool:
        return _lock(file, folder, fcntl.LOCK_EX | fcntl.LOCK_NB, (1, _place(name, index)))


def _place(name: str, index: int) -> int:
    """The byte of the file of claims whose lock stands for a part."""
    return int.from_bytes(hashlib.sha256(f"{name}/{index}".encode()).digest()[:7], "big")


def _lock(file: int, folder: Path, kind: int, place: tuple[int, int] = (0, 0)) -> bool:
    """Take a lock on bytes; False if another worker has it, and we do not wait."""
    try:
        fcntl.lockf(file, kind, *place)
    except OSError as error:
        _refuse_unlocked(folder, error)
        return False
    return True


def _unlock(file: int, name: str, index: int) -> None:
    fcntl.lockf(file, fcntl.LOCK_UN, 1, _place(name, index))


def _refuse_unlocked(folder: Path, error: OSError) -> None:
    """Refuse a file system without locks. A lock that somebody else holds is no fault."""
    if error.errno not in (errno.EAGAIN, errno.EACCES):
        raise RunDirError(
            f"{folder}: the file system there gives no locks ({os.strerror(error.errno or 0)}), so "
            f"two processes could write the run at once. Give another place (--output)."
        ) from error
