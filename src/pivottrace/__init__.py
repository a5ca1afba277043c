"""PivotTrace: label-efficient RLVR by tracing metacognitive pivots in attention."""

__version__ = "0.1.0"
