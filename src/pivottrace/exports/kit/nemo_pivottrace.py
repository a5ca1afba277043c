"""The rows and the environment of this export, for NeMo-RL.

It needs the files beside it and math-verify, which NeMo-RL has; PivotTrace need not be installed.
`nemo_main.py` registers the parts under the name `pivottrace`.
"""

import sys
from pathlib import Path
from typing import Any

import ray
import torch
from nemo_rl.data.datasets.raw_dataset import RawDataset
from nemo_rl.data.datasets.utils import load_dataset_from_path
from nemo_rl.environments.interfaces import EnvironmentInterface, EnvironmentReturn

sys.path.append(str(Path(__file__).resolve().parent))

from pivottrace.exports.kit.scoring import Scorer


class Rows(RawDataset):
    """A parquet file of this export; `dataset_name` is `nemo_pivottrace.Rows`."""

    def __init__(self, data_path: str, **settings: Any) -> None:
        """Read it.

        Args:
            data_path: The file.
            settings: Other settings of the dataset, which NeMo-RL reads itself.
        """
        self.task_name = "pivottrace"
        rows = load_dataset_from_path(data_path)
        self.dataset = rows.add_column("task_name", [self.task_name] * len(rows))
        self.val_dataset = None


def row_processor(
    datum_dict: dict[str, Any],
    task_data_spec: Any,
    tokenizer: Any,
    max_seq_length: int,
    idx: int,
) -> dict[str, Any]:
    """Make NeMo-RL's datum of a row: the prompt by the chat template, and the answer.

    A prompt that is too long is masked out, as NeMo-RL's own processors do it.
    """
    text = tokenizer.apply_chat_template(
        datum_dict["prompt"], tokenize=False, add_generation_prompt=True
    )
    tokens = tokenizer(text, return_tensors="pt", add_special_tokens=False)["input_ids"][0]
    length, fits = len(tokens), len(tokens) < max_seq_length
    return {
        "message_log": [
            {"role": "user", "content": text, "token_ids": tokens if fits else tokens[:4]}
        ],
        "length": length,
        "extra_env_info": {name: datum_dict[name] for name in ("ground_truth", "weight", "id")},
        "loss_multiplier": float(fits),
        "idx": idx,
        "task_name": datum_dict["task_name"],
    }


@ray.remote(max_restarts=-1, max_task_retries=-1, max_concurrency=64)
class PivotTraceEnvironment(EnvironmentInterface):
    """Scores one response to each question."""

    def __init__(self, cfg: dict[str, Any]) -> None:
        """Start; there are no settings."""
        self._scorer = Scorer(Path(__file__).with_name("reward.json"))

    def step(
        self,
        message_log_batch: list[list[dict[str, Any]]],
        metadata: list[dict[str, Any]],
        return_extracted_answer: bool = False,
    ) -> EnvironmentReturn:
        """Score the responses of a batch. Every conversation ends."""
        texts = [
            "".join(str(m["content"]) for m in log if m["role"] == "assistant")
            for log in message_log_batch
        ]
        scores = self._scorer.score_many(
            texts,
            [row.get("ground_truth") for row in metadata],
            [row.get("weight") for row in metadata],
        )
        rewards = torch.tensor([score["score"] for score in scores])
        return EnvironmentReturn(
            observations=[{"role": "environment", "content": ""} for _ in scores],
            metadata=metadata,
            next_stop_strings=[None] * len(scores),
            rewards=rewards,
            terminateds=torch.ones_like(rewards),
            answers=None,
        )

    def global_post_process_and_metrics(self, batch: Any) -> tuple[Any, dict[str, float]]:
        """The share of responses that ended, and the mean reward."""
        ended = batch["is_end"].float()
        return batch, {
            "accuracy": (batch["rewards"] > 0).float().mean().item(),
            "reward": batch["rewards"].mean().item(),
            "fraction_of_samples_properly_ended": ended.mean().item(),
        }
