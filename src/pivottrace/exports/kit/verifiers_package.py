"""Rows of a PivotTrace run as a taskset of verifiers."""

from .taskset import RowsTaskset

__all__ = ["RowsTaskset"]
