"""Whether training helped, in words: on all held-out questions, and on each set of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pivottrace.errors import counted
from pivottrace.run.directory import RunDir
from pivottrace.run.readings import evaluation_facts
from pivottrace.run.rounds import latest_round

# With fewer held-out questions an interval is wider than most gains of training.
FEW_HELD_OUT = 200


def helped(run: RunDir) -> str | None:
    """The verdict on all sets together, or why there is none; None if the run does not know yet."""
    facts, train = evaluation_facts(run), latest_round(run, "train").stage_facts("train")
    before, after, change = (facts.get(name) for name in ("before", "after", "difference"))
    if train.get("trained") is False:
        return f"nothing was trained: {train['reason']}"
    if not train:
        return None
    if facts.get("skipped"):
        return f"nothing says whether training helped: {facts['skipped']}"
    if before is None or after is None or change is None:
        return None
    what = "training helped" if change["low"] > 0 else "no change beyond chance"
    what = "training did harm" if change["high"] < 0 else what
    text = f"{what}: {_change(before, after, change)}"
    num_sets = after.get("num_sets", 1)
    if num_sets > 1:
        text += f", the unweighted mean over {num_sets} sets"
    num = after.get("num_questions", FEW_HELD_OUT)
    if change["low"] <= 0 <= change["high"] and num < FEW_HELD_OUT:
        text += f"; {num} held-out questions are too few to see a small change"
    return text


def of_sets(run: RunDir) -> Iterator[str]:
    """Yield the figures of each held-out set after training, where there are several."""
    sets = evaluation_facts(run).get("sets", [])
    if len(sets) < 2:
        return
    for each in sets:
        before, after, change = (each.get(name) for name in ("before", "after", "difference"))
        if before is None or after is None or change is None:
            continue
        yield (
            f"{each['name']}: {_change(before, after, change)}; avg@{after['k']} of "
            f"{counted(after['num_questions'], 'question')}, pass@{after['k']} "
            f"{100 * before['pass_at_k']:.1f} % → {100 * after['pass_at_k']:.1f} %"
        )


def _change(
    before: Mapping[str, Any], after: Mapping[str, Any], change: Mapping[str, float]
) -> str:
    return (
        f"{100 * before['accuracy']:.1f} % → {100 * after['accuracy']:.1f} %, "
        f"{100 * change['mean']:+.1f} points (95 % interval {100 * change['low']:+.1f} to "
        f"{100 * change['high']:+.1f})"
    )
