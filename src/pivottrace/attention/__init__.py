"""Exact statistics of attention at little cost. The package works without the rest of PivotTrace.

from pivottrace.attention import FarMass, QuestionMass, trace, trace_attention

with trace_attention(model, stats=[FarMass(), QuestionMass()]) as t:
    model.generate(**inputs)
t[FarMass()]   # (B, T)
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pivottrace.attention.engine import trace_attention
    from pivottrace.attention.generating import TracedGeneration, generate_traced
    from pivottrace.attention.recorder import AttentionTrace
    from pivottrace.attention.row_statistics import (
        AttentionDistance,
        FarMass,
        FutureInfluence,
        LocalEntropy,
        QuestionMass,
        SinkMass,
        Statistic,
    )
    from pivottrace.attention.token_signals import TokenSignals
    from pivottrace.attention.tracing import profile_heads, trace, trace_responses

__all__ = [
    "AttentionDistance",
    "AttentionTrace",
    "FarMass",
    "FutureInfluence",
    "LocalEntropy",
    "QuestionMass",
    "SinkMass",
    "Statistic",
    "TokenSignals",
    "TracedGeneration",
    "generate_traced",
    "profile_heads",
    "trace",
    "trace_attention",
    "trace_responses",
]

# Looked up on first use, so that importing the package imports no torch.
_HOMES = {
    "trace_attention": "engine",
    "AttentionTrace": "recorder",
    "TokenSignals": "token_signals",
    "TracedGeneration": "generating",
    "generate_traced": "generating",
    "profile_heads": "tracing",
    "trace_responses": "tracing",
    "trace": "tracing",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = importlib.import_module(f"{__name__}.{_HOMES.get(name, 'row_statistics')}")
    value = globals()[name] = getattr(home, name)
    return value
