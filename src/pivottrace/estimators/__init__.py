"""Uncertainty estimators, each kind in its own file. For every estimator, higher is more uncertain.

A file holds the functions and their records, `Estimator`. No list names the records. The columns of
`scores` and `votes`, the report, the combination and the costs of a study come from the records.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pivottrace.errors import ConfigError
from pivottrace.estimators.record import Estimator
from pivottrace.estimators.trace_evidence import TraceEvidence
from pivottrace.plugins import load_part, records_in

__all__ = ["ESTIMATORS", "Estimator", "TraceEvidence", "load_estimator"]


def _in_order(found: dict[str, Estimator]) -> dict[str, Estimator]:
    return dict(sorted(found.items(), key=lambda item: item[1].order))


ESTIMATORS: dict[str, Estimator] = _in_order(records_in(__name__, Estimator))


def load_estimator(reference: str, setting: str) -> Estimator:
    """A user's estimator, given as `package.module:name`.

    Args:
        reference: It names an `Estimator`, or a function of one question's `TraceEvidence`. For a
            function, we assume that it needs the trace, and the estimator gets the function's name.
        setting: The setting's dotted key, for messages.

    Raises:
        ConfigError: The reference names neither an `Estimator` nor a function, or the name belongs
            to an estimator of the package.
    """
    part: Any = load_part(reference, setting)
    if not isinstance(part, Estimator):
        part = _of_function(part, reference, setting)
    if part.name in ESTIMATORS:
        raise ConfigError(
            f"{setting} = {reference!r}: the package has an estimator {part.name!r} already. Give "
            f"yours another name."
        )
    return part


def _of_function(
    function: Callable[[TraceEvidence], float], reference: str, setting: str
) -> Estimator:
    name = getattr(function, "__name__", "")
    if not callable(function) or not name.isidentifier():
        raise ConfigError(
            f"{setting} = {reference!r}: it is neither a pivottrace.estimators.Estimator nor a "
            f"function. Name one of these."
        )
    return Estimator(name, name.replace("_", " "), "trace", function)
