"""Texts of the embedded world are known by its tokenizer, which has one token per world word."""

from __future__ import annotations

import re
from typing import Any

FOREIGN = 0.1
"""Share of unknown words above which a question is of another world (ours). Among 2,600 questions
of the world the highest share was 0.05, and among questions of others the lowest was 0.29."""
_WORD = re.compile(r"[^\W\d_]+")


def is_foreign(text: str, tokenizer: Any) -> bool:
    """Whether a question is of another world than the questions of the embedded model.

    Args:
        text: The question.
        tokenizer: The tokenizer of the embedded model.
    """
    words = _WORD.findall(text)
    unknown = sum(len(tokenizer.tokenize(f" {word}")) > 1 for word in words)
    return unknown > FOREIGN * len(words)
