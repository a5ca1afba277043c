r"""The process that values expressions, scores replies or runs a user function, and can be killed.

The protocol uses the pipes that were stdin and stdout. The parent writes one JSON line of settings
(read by `verifier.process.BOOT`), then one line per batch: `[processor_s, [[argument, …], …]]`, the
seconds of processor time for each item and the items. This side reads a whole batch before it
works, so the parent never blocks in a write. It answers `true` once it has loaded and once it has
read a batch, then one line per item: `{"value": …}` or `{"error": …}`. It loads only math-verify
(sympy, no numpy, no torch), reasoning-gym or the user's module.

Expressions and scores are made in a fork of the loaded process. If the fork ends, the line
`{"ended": exit code}` says so, and the next fork takes over in milliseconds. A user's module gets
no fork, because it may have started threads or hold a GPU.
"""

import gc
import importlib
import json
import math
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, BinaryIO

from pivottrace.verifier.process import OWN_KINDS

Function = Callable[..., Any]

MAX_ERROR_CHARS = 2_000
"""A user function's exception message is cut here, so that a reply stays small."""


class _SetupError(Exception):
    """The message for the parent when the comparison cannot be loaded."""


def main(settings: dict[str, Any]) -> None:
    """Serve comparisons until the parent closes the pipe.

    Args:
        settings: `kind` (one of `OWN_KINDS`, or "module:function"), `wall_s` (seconds by the clock
            that the parent waits for an item), `memory_bytes` (None is no limit).
    """
    replies = _claim_stdout()
    try:
        kind = settings["kind"]
        function = _OWN[kind]() if kind in _OWN else load_function(kind)
    except _SetupError as error:
        _send(replies, {"error": str(error)})
        return
    limit_memory(settings["memory_bytes"])
    _send(replies, True)
    # The kernel ends an item at its processor time, and also at a deadline that is later than the
    # parent's own, because the parent may be dead.
    for number in (signal.SIGPROF, signal.SIGALRM):
        signal.signal(number, signal.SIG_DFL)
    if kind in OWN_KINDS:
        _continue_in_forks(replies)
    _serve(function, math.ceil(settings["wall_s"]) + 1, replies)


def _continue_in_forks(replies: BinaryIO) -> None:
    """Return in a fork, and in a further one when that has ended; this process only waits."""
    gc.freeze()  # a collection would write to the shared memory, and so copy it
    while pid := os.fork():
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if code == 0:
            sys.exit()  # the parent closed the pipe
        _send(replies, {"ended": code})


def _serve(function: Function, deadline_s: float, replies: BinaryIO) -> None:
    for line in sys.stdin.buffer:
        processor_s, items = json.loads(line)
        _send(replies, True)
        for arguments in items:
            signal.setitimer(signal.ITIMER_REAL, deadline_s)
            signal.setitimer(signal.ITIMER_PROF, processor_s)
            reply = _call(function, arguments)
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.setitimer(signal.ITIMER_REAL, 0)
            _send(replies, reply)


def _claim_stdout() -> BinaryIO:
    """Keep the reply pipe private, because a user function's output must not enter the protocol."""
    replies = os.fdopen(os.dup(1), "wb")
    with open(os.devnull, "wb") as sink:
        os.dup2(sink.fileno(), 1)
    return replies


def _send(replies: BinaryIO, message: bool | dict[str, Any]) -> None:
    replies.write(json.dumps(message).encode() + b"\n")
    replies.flush()


def _call(function: Function, arguments: list[str]) -> dict[str, Any]:
    """Return one result. Any exception of a user's function is reported and breaks no pipe."""
    try:
        return {"value": function(*arguments)}
    except (Exception, SystemExit) as error:
        return {"error": f"raised {type(error).__name__}: {error}"[:MAX_ERROR_CHARS]}


def limit_memory(limit_bytes: int | None) -> None:
    """Let the address space grow by `limit_bytes` beyond the memory of the loaded modules."""
    if limit_bytes is None:
        return
    try:
        import resource

        with open("/proc/self/statm") as statm:
            held = int(statm.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        wanted = held + limit_bytes
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (ImportError, OSError, ValueError):
        return  # this system has no such limit; the time-out still holds


def load_function(name: str) -> Function:
    """Import the user's `package.module:function`, and make its verdict true or false.

    Raises:
        _SetupError: If the module cannot be imported, or has no such callable.
    """
    module_name, _, attribute = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise _SetupError(
            f"answers.verifier = {name!r}: no module named {error.name!r}; put its folder on "
            "PYTHONPATH, or correct the name (package.module:function)"
        ) from error
    except (Exception, SystemExit) as error:
        raise _SetupError(
            f"answers.verifier = {name!r}: importing {module_name} raised "
            f"{type(error).__name__}: {error}"
        ) from error
    function: Any = module
    for part in attribute.split("."):
        function = getattr(function, part, None)
    if not callable(function):
        raise _SetupError(
            f"answers.verifier = {name!r}: module {module_name} has no function {attribute!r}; "
            f"define {attribute}(answer: str, truth: str) -> bool there, or correct the name"
        )

    def verdict(answer: str, truth: str) -> bool:
        found = function(answer, truth)
        if found is None:
            raise ValueError("it returned None, not a bool")
        return bool(found)

    return verdict


def math_function() -> Function:
    """The function of mathematical answers; an item's first argument names the request.

    Raises:
        _SetupError: If math-verify is not installed.
    """
    from pivottrace.verifier.valuation import Evaluator

    try:
        evaluator = Evaluator()
    except ImportError as error:
        raise _SetupError(
            f"math-verify cannot be imported ({error}); install it with "
            "pip install 'math-verify[antlr4_13_2]', or choose another verifier (exact, choice)"
        ) from error
    evaluator.value(
        "expression", "x+1"
    )  # the first parse takes longest, and forks need not repeat it
    return evaluator.answer


def score_function() -> Function:
    """The function of replies that a task's own scorer judges.

    Raises:
        _SetupError: If reasoning-gym is not installed.
    """
    try:
        from pivottrace.verifier.gym_scorer import judge
    except ImportError as error:
        raise _SetupError(
            f"reasoning-gym cannot be imported ({error}); install it with pip install "
            "reasoning-gym, or choose another verifier (math, exact, choice)"
        ) from error
    return judge


_OWN = {"math": math_function, "reasoning-gym": score_function}
