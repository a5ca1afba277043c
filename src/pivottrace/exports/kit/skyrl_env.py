"""The environment of this export, for SkyRL: one turn, and the reward of the row.

It needs the files beside it and math-verify; PivotTrace need not be installed. `skyrl_main.py`
registers it under the name that the rows have in `env_class`.
"""

import sys
from pathlib import Path
from typing import Any

from skyrl_gym.envs.base_text_env import BaseTextEnv, BaseTextEnvStepOutput

sys.path.append(str(Path(__file__).resolve().parent))

from pivottrace.exports.kit.scoring import Scorer

SCORER = Scorer(Path(__file__).with_name("reward.json"))


class PivotTraceEnv(BaseTextEnv):
    """Scores one response to one question."""

    def __init__(self, env_config: Any = None, extras: dict[str, Any] | None = None) -> None:
        """Take the row.

        Args:
            env_config: Not used.
            extras: The row's other columns; `reward_spec.ground_truth` judges the response, and
                `extra_info.weight` is the weight of the row.
        """
        super().__init__()
        row = extras or {}
        self._truth = (row.get("reward_spec") or {}).get("ground_truth")
        self._weight = (row.get("extra_info") or {}).get("weight")
        self._score: dict[str, float] = {}

    def step(self, action: str) -> BaseTextEnvStepOutput:
        """Score the response, and end."""
        self._score = SCORER.score(action, self._truth, self._weight)
        return BaseTextEnvStepOutput(
            observations=[], reward=self._score["score"], done=True, metadata=dict(self._score)
        )

    def get_metrics(self) -> dict[str, float]:
        """`acc`, `answered` and `failed`, which SkyRL averages."""
        return {name: value for name, value in self._score.items() if name != "score"}
