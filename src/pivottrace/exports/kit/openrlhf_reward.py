"""The reward of this export, for OpenRLHF: `--reward.remote_url reward.py`.

It needs the files beside it and math-verify; PivotTrace need not be installed. OpenRLHF gives a
reward only texts, so a row's answer and weight come in the label, as JSON.
"""

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parent))  # OpenRLHF loads this file by its path

from pivottrace.exports.kit.scoring import Scorer

SCORER = Scorer(Path(__file__).with_name("reward.json"))
# Tokens that models put behind a response, such as <|im_end|> and </s>.
_END = re.compile(r"(\s*(<[|｜][^<>\s]{1,40}[|｜]>|</?s>|<eos>|<pad>|<end_of_turn>))+\s*\Z")
# A prompt that was cut on the left, or tokenized to another text, is found by its end.
_TAIL_CHARS = 40


def reward_func(
    queries: Sequence[str], prompts: Sequence[str], labels: Sequence[str]
) -> dict[str, Any]:
    """Score responses. OpenRLHF hides an exception here, so there is none.

    Args:
        queries: (N,) prompts with their responses, special tokens included; N is 1 in OpenRLHF.
        prompts: (N,) the prompts.
        labels: (N,) JSON with `answer` and `weight`.

    Returns:
        `rewards`, weight x right; `scores`, right or not; `extra_logs`. Each is a number if N is 1,
        as OpenRLHF takes it, and else a list.
    """
    texts = [response_of(*pair) for pair in zip(queries, prompts, strict=True)]
    judges = [_read(label) for label in labels]
    scores = SCORER.score_many(
        texts, [judge.get("answer") for judge in judges], [judge.get("weight") for judge in judges]
    )
    columns = {name: [score[name] for score in scores] for name in ("answered", "failed")}
    return {
        "rewards": _one([score["score"] for score in scores]),
        "scores": _one([score["acc"] for score in scores]),
        "extra_logs": {name: _one(values) for name, values in columns.items()},
    }


def response_of(query: str, prompt: str) -> str:
    """The response in a query, without the special tokens at its end."""
    response = query
    if query.startswith(prompt):
        response = query[len(prompt) :]
    elif (end := prompt[-_TAIL_CHARS:]) and (place := query.find(end)) >= 0:
        response = query[place + len(end) :]
    return _END.sub("", response)


def _read(label: str) -> dict[str, Any]:
    """The label's object; empty for anything else, such as OpenRLHF's default label."""
    try:
        found = json.loads(label)
    except (TypeError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _one(values: list[float]) -> Any:
    return values[0] if len(values) == 1 else values
