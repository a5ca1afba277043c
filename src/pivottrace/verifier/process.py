"""The parent's end of a process that values expressions, scores replies or runs a user function.

The other end is `pivottrace.verifier.child`, whose docstring has the protocol. We use a plain
subprocess, because `multiprocessing` imports the caller's main script again, and often torch too.
"""

import json
import os
import selectors
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Sequence
from contextlib import suppress
from typing import IO, Any, cast

STARTUP_TIMEOUT_S = 120.0
"""Importing sympy takes a second, and far more on a loaded machine or with a heavy module."""

# With -P and the explicit path the child finds the same modules as the parent, and no file of its
# own folder replaces a module of the standard library.
BOOT = (
    "import json, sys; settings = json.loads(sys.stdin.buffer.readline()); "
    "sys.path[:] = settings['path']; "
    "from pivottrace.verifier.child import main; main(settings)"
)

OWN_KINDS = ("math", "reasoning-gym")
"""Kinds whose function is no user's. It computes on one core and holds nothing, so its process may
be forked, and be limited by processor time."""

Item = Sequence[str]
SLOW, LATE, DIED = "slow", "late", "died"
"""Replies for an item that used up its processor time, that had none until its deadline by the
clock, and at which the process ended."""


class ChildProcess:
    """One child process with its two pipes. It ends at `stop`, garbage collection or exit."""

    def __init__(
        self, kind: str, timeout_s: float, wall_s: float, memory_bytes: int | None
    ) -> None:
        """Start it.

        Args:
            kind: One of `OWN_KINDS`, or "module:function".
            timeout_s: After each such time without a reply the process is continued, in case that
                somebody has stopped it.
            wall_s: Seconds by the clock after which a reply is late.
            memory_bytes: As in `Verifier`.
        """
        self.owner_pid = os.getpid()
        self._timeout_s, self._wall_s = timeout_s, wall_s
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", BOOT],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL if kind in OWN_KINDS else None,
            start_new_session=True,  # Ctrl-C is ours to handle; grandchildren die with it
        )
        self.stop = weakref.finalize(self, _end, self._process, self.owner_pid)
        self._requests = cast(IO[bytes], self._process.stdin)
        self._reply_fd = cast(IO[bytes], self._process.stdout).fileno()
        os.set_blocking(self._reply_fd, False)
        self._buffer = b""
        self._settings = {
            "kind": kind,
            "wall_s": wall_s,
            "memory_bytes": memory_bytes,
            "path": [entry for entry in sys.path if isinstance(entry, str)],
        }

    def load(self) -> Any:
        """Wait until math-verify, reasoning-gym or the user's module is loaded.

        Returns:
            True; {"error": …} if it cannot be loaded; `LATE` or `DIED`.
        """
        self._send(self._settings)
        return self._next(STARTUP_TIMEOUT_S)

    def hand_over(self, items: Sequence[Item], processor_s: float) -> Any:
        """Give the child a batch.

        Args:
            items: The arguments of each item.
            processor_s: Seconds of processor time for each; 0 is no limit.

        Returns:
            True once the child has the batch; `LATE` or `DIED`.
        """
        self._send([processor_s, [list(item) for item in items]])
        reply = self._next(self._wall_s)
        # A fork has ended. Nothing tells whether it took the batch with it.
        return DIED if isinstance(reply, dict) else reply

    def receive(self) -> Any:
        """Return the reply to the next item: {"value": …}, {"error": …}, or a word as above."""
        reply = self._next(self._wall_s)
        if isinstance(reply, dict) and "ended" in reply:
            return SLOW if reply["ended"] == -signal.SIGPROF else DIED
        return reply

    def _send(self, message: Any) -> None:
        """Write one line. A dead child shows at the next reply."""
        try:
            self._requests.write(json.dumps(message).encode() + b"\n")
            self._requests.flush()
        except BrokenPipeError:
            return

    def _next(self, wall_s: float) -> Any:
        """Return one line of the child; `LATE` if it takes longer, `DIED` at the pipe's end."""
        deadline = time.monotonic() + wall_s
        while b"\n" not in self._buffer:
            while not self._can_read(min(self._timeout_s, deadline - time.monotonic())):
                if time.monotonic() >= deadline:
                    return LATE
                _signal(self._process, signal.SIGCONT)
            received = os.read(self._reply_fd, 1 << 16)
            if not received:
                return DIED
            self._buffer += received
        line, self._buffer = self._buffer.split(b"\n", 1)
        return json.loads(line)

    def _can_read(self, wait_s: float) -> bool:
        with selectors.DefaultSelector() as selector:
            selector.register(self._reply_fd, selectors.EVENT_READ)
            return bool(selector.select(max(0.0, wait_s)))


def _end(process: subprocess.Popen[bytes], owner_pid: int) -> None:
    """Kill the child and all its processes, reap it so that no zombie stays, close the pipes."""
    if os.getpid() != owner_pid:
        process.returncode = 0  # this is a fork of the owner, which must not end the child or warn
        return
    _signal(process, signal.SIGKILL)
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            _close(pipe)


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """Send a signal to the child and its processes, which may live on when it is dead."""
    if process.returncode is None:  # not reaped yet, so the number is still its own
        # macOS does not permit a signal to a group of dead processes only.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)


def _close(pipe: IO[bytes]) -> None:
    try:
        pipe.close()
    except BrokenPipeError:  # unsent bytes for a dead child
        return
