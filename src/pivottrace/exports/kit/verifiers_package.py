"""Rows of a PivotTrace run as a taskset of verifiers."""

from .verifiers_taskset import RowsTaskset

__all__ = ["RowsTaskset"]
