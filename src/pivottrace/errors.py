"""Every error that PivotTrace raises on purpose. Each message says what to do next.

A class inherits the standard type that it refines, so that `except ValueError` still works, and
`PivotTraceError`, so that the command line can print one line in place of a traceback.
"""

from collections.abc import Sequence


def first_line(error: Exception) -> str:
    """The first line of a library's message, to be quoted in one of ours; the type where empty."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def counted(number: int, noun: str, nouns: str | None = None) -> str:
    """A number with its noun, for messages: "1 question", "1,200 questions"."""
    return f"{number:,} {noun if number == 1 else nouns or noun + 's'}"


def first_of(names: Sequence[str], shown: int = 5) -> str:
    """The first of several names, for messages: "a, b and 3 more"."""
    more = f" and {len(names) - shown:,} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more


# Words of the loader, the system, torch, Python and Arrow about memory that they did not get.
_NO_MEMORY = (
    "failed to map segment",
    "allocate memory",
    "not enough memory",
    "out of memory",
    "can't start new thread",
    "failed to launch worker thread",
)


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether an error, or its cause, says that memory was refused."""
    while error is not None:
        text = str(error).lower()
        if isinstance(error, MemoryError) or any(words in text for words in _NO_MEMORY):
            return True
        error = error.__cause__ or error.__context__
    return False


class PivotTraceError(Exception):
    """Base of every error raised on purpose. The command line ends with its `exit_code`."""

    exit_code = 1


class ConfigError(PivotTraceError, ValueError):
    """A configuration value or key is wrong, or changed since the run directory was made."""

    exit_code = 2


class DataError(PivotTraceError, ValueError):
    """Input data is wrong; the message names the file, and the row and column if known."""

    exit_code = 2


class ModelError(PivotTraceError, ValueError):
    """The model or its tokenizer cannot be loaded or cannot be traced."""

    exit_code = 2


class BudgetError(PivotTraceError, ValueError):
    """A label budget is impossible, or a stage asked for more labels than it allows."""

    exit_code = 2


class RunDirError(PivotTraceError, RuntimeError):
    """A run directory lacks a stage's output, belongs to another run, or cannot be written."""


class RunBusyError(RunDirError):
    """Another process is working on the run."""


class TornFileError(RunDirError):
    """A file is not as it was written: it is cut, changed or gone."""


class OutOfDiskError(RunDirError):
    """The disk filled up during the writing of a part. Complete files are not lost."""


class ServerError(PivotTraceError, RuntimeError):
    """A server cannot be reached, or it fails at a request. The message has a cure."""


class NoAnswersError(PivotTraceError, RuntimeError):
    """No question of the pool gave an answer, so nothing can be routed. The message has a cure."""


class LabelsNeeded(PivotTraceError):
    """The run waits for human labels. This is no failure, so it has its own exit code."""

    exit_code = 3
