"""A long program in another interpreter: its output goes to a log, and it ends with us."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from pivottrace.errors import RunDirError

POLL_S = 1.0
END_S = 20.0  # a trainer takes some seconds to end its workers
_ERROR = re.compile(r"^(?:\w+\.)*\w*(?:Error|Exception|Interrupt)\b.*")


def run_child(
    what: str,
    command: Sequence[str],
    folder: Path,
    log: Path,
    environment: Mapping[str, str],
    on_poll: Callable[[], None] = lambda: None,
) -> None:
    """Run a program to its end. Only one runs in a folder at a time.

    It has a process group of its own, which is ended if anything stops us, such as Ctrl-C. If we
    are killed, it goes on, and holds the folder until it ends.

    Args:
        what: The program in words, for messages.
        command: Its words.
        folder: The working directory.
        log: The file that its output is added to.
        environment: Variables that it gets beside ours.
        on_poll: Called about every second while it runs, and once when it has ended.

    Raises:
        RunDirError: It failed, and the message has its last error and the log's path. Or a
            program of an earlier call is still running there.
    """
    with _held(folder, what) as lock, log.open("ab") as output:
        child = subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment},
            start_new_session=True,  # Ctrl-C is ours to handle
            pass_fds=(lock,),
        )
        os.pwrite(lock, f"{child.pid}\n".encode(), 0)
        try:
            while child.poll() is None:
                on_poll()
                with suppress(subprocess.TimeoutExpired):
                    child.wait(POLL_S)
        finally:
            _end(child)
            on_poll()
    if child.returncode:
        raise RunDirError(
            f"{what} ended with exit code {child.returncode}: {_last_error(log)} (all of it: {log})"
        )


@contextmanager
def _held(folder: Path, what: str) -> Iterator[int]:
    """Hold a folder. The child inherits the lock, so a child that outlives us still holds it."""
    with (folder / ".lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            pid = file.read().strip() or "unknown"
            raise RunDirError(
                f"{folder}: {what} of an earlier call is still running (process {pid}). Wait for "
                f"it to end, or end it: kill -TERM -- -{pid}"
            ) from None
        file.truncate(0)
        yield file.fileno()


def _end(child: subprocess.Popen[bytes]) -> None:
    """End the child, which may clean up first, and then all of its process group."""
    if child.poll() is None:
        _signal(child.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            child.wait(END_S)
    _signal(child.pid, signal.SIGKILL)
    child.wait()


def _signal(group: int, number: signal.Signals) -> None:
    # macOS does not permit a signal to a group of dead processes only.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _last_error(log: Path) -> str:
    """The last line of a log that names an error, else its last line."""
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if _ERROR.match(line)]
    return (errors or lines or ["it printed nothing"])[-1]
