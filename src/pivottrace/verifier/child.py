r"""The process in which `verifier.comparison` compares answers, so that it can be killed.

The protocol uses the pipes that were stdin and stdout. The parent writes one JSON line of settings
(read by `verifier.process.BOOT`), then one line per batch, `[[a, b], …]`. This side reads a whole
batch before it works, so the parent never blocks in a write. It answers one line per pair: `true`,
`false` or `{"error": …}`. It loads only math-verify (sympy, no numpy, no torch) or the user's
module.
"""

import functools
import importlib
import json
import logging
import math
import os
import signal
import sys
import warnings
from collections.abc import Callable
from typing import Any, BinaryIO

Equal = Callable[[str, str], Any]

MAX_ERROR_CHARS = 2_000
"""A user function's exception message is cut here, so that a reply stays small."""


class _SetupError(Exception):
    """The message for the parent when the comparison cannot be loaded."""


def main(settings: dict[str, Any]) -> None:
    """Serve comparisons until the parent closes the pipe.

    Args:
        settings: `kind` ("math" or "module:function"), `timeout_s` (seconds), `memory_bytes` (None
            is no limit).
    """
    replies = _claim_stdout()
    try:
        kind = settings["kind"]
        equal = math_equal_function() if kind == "math" else load_function(kind)
    except _SetupError as error:
        _send(replies, {"error": str(error)})
        return
    _limit_memory(settings["memory_bytes"])
    _send(replies, True)
    # The kernel ends a comparison that outlives the parent's own deadline (the parent may be dead).
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    deadline_s = math.ceil(settings["timeout_s"]) + 1
    for line in sys.stdin.buffer:
        for a, b in json.loads(line):
            signal.setitimer(signal.ITIMER_REAL, deadline_s)
            reply = _compare(equal, a, b)
            signal.setitimer(signal.ITIMER_REAL, 0)
            _send(replies, reply)


def _claim_stdout() -> BinaryIO:
    """Keep the reply pipe private, because a user function's output must not enter the protocol."""
    replies = os.fdopen(os.dup(1), "wb")
    with open(os.devnull, "wb") as sink:
        os.dup2(sink.fileno(), 1)
    return replies


def _send(replies: BinaryIO, message: bool | dict[str, str]) -> None:
    replies.write(json.dumps(message).encode() + b"\n")
    replies.flush()


def _compare(equal: Equal, a: str, b: str) -> bool | dict[str, str]:
    """Return one verdict. Any exception of a user's function is reported and breaks no pipe."""
    try:
        verdict = equal(a, b)
        if verdict is None:
            return {"error": "returned None, not a bool"}
        return bool(verdict)
    except (Exception, SystemExit) as error:
        return {"error": f"raised {type(error).__name__}: {error}"[:MAX_ERROR_CHARS]}


def _limit_memory(limit_bytes: int | None) -> None:
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


def load_function(name: str) -> Equal:
    """Import the user's `package.module:function`.

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
    return function


def math_equal_function() -> Equal:
    r"""Build the comparison of two `normalise_math` texts by math-verify.

    math-verify's own time-outs are off. They use SIGALRM, which cannot interrupt a long operation
    inside C, and the parent kills this process anyway. `verify(gold, prediction)` follows the form
    of its first argument ("x = 5" against "5", intervals against sets). So for such forms equality
    here is equality in either order, which makes it symmetric.

    Raises:
        _SetupError: If math-verify is not installed.
    """
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)  # it warns that its time-outs are off
    try:
        from math_verify import LatexExtractionConfig, parse, verify

        sympy = importlib.import_module("sympy")  # untyped, so imported as Any
    except ImportError as error:
        raise _SetupError(
            f"math-verify cannot be imported ({error}); install it with "
            "pip install 'math-verify[antlr4_13_2]', or choose another verifier (exact, choice)"
        ) from error
    follow_gold = (sympy.Set, sympy.Tuple, sympy.logic.boolalg.Boolean)
    boxes_only = [LatexExtractionConfig(boxed_match_priority=0)]

    @functools.lru_cache(maxsize=4096)
    def parsed(text: str) -> list[Any]:
        # Parse the whole answer as LaTeX, or nothing. With fallbacks on, math-verify takes the last
        # number in a text that it cannot parse.
        return parse(
            f"\\boxed{{{text}}}",
            boxes_only,
            fallback_mode="no_fallback",
            extraction_mode="first_match",
            parsing_timeout=None,
        )

    def equal(a: str, b: str) -> bool:
        left, right = parsed(a), parsed(b)
        if not left or not right:
            return a.casefold() == b.casefold()
        if verify(left, right, timeout_seconds=None):
            return True
        order_matters = any(isinstance(side, follow_gold) for side in (*left, *right))
        return order_matters and bool(verify(right, left, timeout_seconds=None))

    return equal
