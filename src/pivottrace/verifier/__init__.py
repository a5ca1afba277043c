"""Read answers off responses, vote on them, and compare them in a process that can be killed."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pivottrace.verifier.comparison import Verifier

__all__ = ["Verifier"]


def __getattr__(name: str) -> Any:
    # It is looked up on first use, because the process that compares answers imports this package
    # too.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from pivottrace.verifier.comparison import Verifier

    return Verifier
