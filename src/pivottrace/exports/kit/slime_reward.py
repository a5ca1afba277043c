"""The reward of this export, for slime: `--custom-rm-path slime_reward.reward`.

It needs the files beside it and math-verify; PivotTrace need not be installed.
"""

import asyncio
import sys
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parent))

from pivottrace.exports.kit.scoring import Scorer

SCORER = Scorer(Path(__file__).with_name("reward.json"))


async def reward(args: Any, sample: Any, **kwargs: Any) -> Any:
    """Score a sample, or a list of samples as slime gives it with `--group-rm`.

    Args:
        args: The arguments of slime; not used.
        sample: One sample or a list. `label` judges the response, and `metadata["weight"]` is the
            weight of the row.
        kwargs: Whatever else a version of slime gives.

    Returns:
        A sample's `score`, `acc`, `answered` and `failed`; `--reward-key score` takes the first for
        training, and `--eval-reward-key acc` the second for tests. A list of them for a list.
    """
    samples = sample if isinstance(sample, list) else [sample]
    scores = await asyncio.to_thread(
        SCORER.score_many,
        [each.response for each in samples],
        [each.label for each in samples],
        [(each.metadata or {}).get("weight") for each in samples],
    )
    return scores if isinstance(sample, list) else scores[0]
