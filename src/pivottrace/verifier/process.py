"""The parent's end of a process that values expressions or runs a user function.

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
from typing import IO, Any, cast

from pivottrace.errors import ConfigError

STARTUP_TIMEOUT_S = 120.0
"""Importing sympy takes a second, and far more on a loaded machine or with a heavy module."""

# With -P and the explicit path the child finds the same modules as the parent, and no file of its
# own folder replaces a module of the standard library.
BOOT = (
    "import json, sys; settings = json.loads(sys.stdin.buffer.readline()); "
    "sys.path[:] = settings['path']; "
    "from pivottrace.verifier.child import main; main(settings)"
)


class ChildProcess:
    """One child process with its two pipes. It ends at `stop`, garbage collection or exit."""

    def __init__(self, kind: str, timeout_s: float, memory_bytes: int | None) -> None:
        self.owner_pid = os.getpid()
        self._kind = kind
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", BOOT],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL if kind == "math" else None,
            start_new_session=True,  # Ctrl-C is ours to handle; grandchildren die with it
        )
        self.stop = weakref.finalize(self, _end, self._process, self.owner_pid)
        self._requests = cast(IO[bytes], self._process.stdin)
        self._reply_fd = cast(IO[bytes], self._process.stdout).fileno()
        os.set_blocking(self._reply_fd, False)
        self._buffer = b""
        self._settings = {
            "kind": kind,
            "timeout_s": timeout_s,
            "memory_bytes": memory_bytes,
            "path": [entry for entry in sys.path if isinstance(entry, str)],
        }

    def await_ready(self) -> None:
        """Wait until math-verify or the user's module is loaded.

        Raises:
            ConfigError: If it cannot be loaded.
        """
        self.send(self._settings)
        reply = self.receive(STARTUP_TIMEOUT_S)
        if reply is True:
            return
        self.stop()
        if isinstance(reply, dict):
            raise ConfigError(reply["error"])
        fate = "did not load within" if reply == "timeout" else "ended while loading, within"
        raise ConfigError(
            f"verifier {self._kind!r} {fate} {STARTUP_TIMEOUT_S:.0f} s; check that "
            f"`{sys.executable} -c 'import pivottrace.verifier.child'` and your module load"
        )

    def send(self, message: Any) -> None:
        """Write one line. A dead child shows at the next `receive`."""
        try:
            self._requests.write(json.dumps(message).encode() + b"\n")
            self._requests.flush()
        except BrokenPipeError:
            return

    def receive(self, timeout_s: float) -> Any:
        """Return one reply; "timeout" if it takes longer, "died" at the end of the pipe."""
        deadline = time.monotonic() + timeout_s
        while b"\n" not in self._buffer:
            with selectors.DefaultSelector() as selector:
                selector.register(self._reply_fd, selectors.EVENT_READ)
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    return "timeout"
            received = os.read(self._reply_fd, 1 << 16)
            if not received:
                return "died"
            self._buffer += received
        line, self._buffer = self._buffer.split(b"\n", 1)
        return json.loads(line)


def _end(process: subprocess.Popen[bytes], owner_pid: int) -> None:
    """Kill the child and all its processes, reap it so that no zombie stays, close the pipes."""
    if os.getpid() != owner_pid:
        process.returncode = 0  # this is a fork of the owner, which must not end the child or warn
        return
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            _close(pipe)


def _close(pipe: IO[bytes]) -> None:
    try:
        pipe.close()
    except BrokenPipeError:  # unsent bytes for a dead child
        return
