"""Replies to questions of reasoning-gym, judged by their task's own scorer; for the child process.

Source: `ProceduralDataset.score_answer` of reasoning-gym 0.1.25, and its tasks' own versions.
"""

import ast
import re
import sys
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from reasoning_gym.factory import create_dataset
from sympy.parsing import sympy_parser

from pivottrace.verifier.exact_text import normalise_exact
from pivottrace.verifier.splitting import words

RIGHT = 1.0
"""The score of a right reply. Scorers give up to 0.99 for a reply that is nearly right."""
NONSENSE = "There is no such reply."
"""A scorer that takes this for right would take anything, so the text is compared in its place."""

# `Integral` is missing: an integral that is left to be solved would be right for every question.
# Some scorers give the reply to `eval`, or to sympy's parser, which does the same. These are the
# parts of a value, and the functions of sympy that a reply may need.
_VALUES = (
    *(ast.Expression, ast.Constant, ast.List, ast.Tuple, ast.Dict, ast.Load, ast.Call),
    *(ast.BinOp, ast.UnaryOp, ast.operator, ast.unaryop),
)
_FUNCTIONS = frozenset(
    words(
        "Symbol Integer Float Rational Abs factorial sqrt cbrt root exp log ln sin cos tan sec csc "
        "cot asin acos atan sinh cosh tanh asinh acosh atanh pi E I oo"
    )
)
_NUMBER = re.compile(r"\b\d+\b")


def judge(reply: str, gold: str, entry: str) -> bool:
    """Whether a reply is right.

    Args:
        reply: The model's answer, not blank.
        gold: The true answer.
        entry: Python's literal of (task, options, question, metadata): what the task's scorer may
            read. The questions were made with these options.

    Raises:
        ValueError: There is no such task, or it refuses its options.
    """
    return _scorer(gold, entry)(reply) >= RIGHT


@lru_cache(maxsize=64)
def _scorer(gold: str, entry: str) -> Callable[[str], float]:
    """A function of a reply that returns its score in [0, 1]; higher is better."""
    task, options, question, metadata = ast.literal_eval(entry)
    dataset = _dataset(task, repr(options))
    filled = {"question": question, "answer": gold, "metadata": metadata}
    overlooked = _OVERLOOKED.get(task)

    def score(reply: str) -> float:
        if overlooked is not None and not overlooked(reply, metadata):
            return 0.0
        try:
            return float(dataset.score_answer(reply, filled))
        except Exception:  # scorers raise errors of many kinds at an unreadable reply
            return 0.0

    if score(NONSENSE) < RIGHT:
        return score
    return lambda reply: float(normalise_exact(reply) == normalise_exact(gold))


@lru_cache(maxsize=32)
def _dataset(task: str, options: str) -> Any:
    dataset = create_dataset(task, **ast.literal_eval(options))
    for name in [name for name in sys.modules if name.startswith("reasoning_gym.")]:
        vars(sys.modules[name])["eval"] = evaluate_value
    vars(sympy_parser)["eval"] = evaluate_value
    return dataset


def evaluate_value(
    text: str, global_names: Any = None, local_names: Mapping[str, Any] | None = None
) -> Any:
    """Python's `eval` for numbers, texts, lists and known functions of sympy, and nothing else.

    It stands in for `eval` where a scorer reads a reply, because a reply is a stranger's text.

    Raises:
        ValueError: The text has anything else in it, such as an attribute or another function.
        SyntaxError: It is not Python.
    """
    tree = ast.parse(text.strip(), mode="eval")
    names = _FUNCTIONS | set(local_names or ())
    for node in ast.walk(tree):
        known = node.id in names if isinstance(node, ast.Name) else isinstance(node, _VALUES)
        if not known or (isinstance(node, ast.Call) and not isinstance(node.func, ast.Name)):
            raise ValueError(f"a reply may not hold {type(node).__name__}")
    return eval(compile(tree, "reply", "eval"), dict(global_names or {}), dict(local_names or {}))


def _uses_the_numbers(reply: str, metadata: Mapping[str, Any]) -> bool:
    """Whether an expression has the question's numbers, each as often; the scorer asks for four."""
    return sorted(map(int, _NUMBER.findall(reply))) == sorted(metadata["numbers"])


_OVERLOOKED = {"puzzle24": _uses_the_numbers}
"""Task → what a reply must fulfil beside its scorer, which overlooks it."""
