"""Optional packages: adapters (peft) and trackers. A missing one is reported in one clear line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers.integrations import TensorBoardCallback

from pivottrace.config import TrainConfig
from pivottrace.errors import ConfigError
from pivottrace.plugins import require

ALL_LINEAR = "all-linear"
ALPHA_PER_RANK = 2  # the usual choice; adapters start at 0, so it only scales their rate


def lora_config(config: TrainConfig, model: Any) -> Any:
    """The adapters of `[train] lora_*` as peft's `LoraConfig`; None without adapters.

    Raises:
        ConfigError: The package peft is missing, the model has no such modules, or one of them
            shares its tensor with another.
    """
    if config.lora_rank is None:
        return None
    require("peft", "lora", f"train.lora_rank = {config.lora_rank}")
    from peft import LoraConfig

    names = [name.strip() for name in config.lora_target.split(",")]
    if names != [ALL_LINEAR]:
        _refuse_targets(model, names, config.lora_target)
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=config.lora_rank,
        lora_alpha=config.lora_alpha or ALPHA_PER_RANK * config.lora_rank,
        lora_dropout=0.0,  # the policy must not differ between sampling and learning
        target_modules=ALL_LINEAR if names == [ALL_LINEAR] else names,
    )


def _refuse_targets(model: Any, names: list[str], wanted: str) -> None:
    modules = [f".{name}" for name, _ in model.named_modules()]
    unknown = [name for name in names if not any(m.endswith(f".{name}") for m in modules)]
    if unknown:
        raise ConfigError(
            f"train.lora_target = {wanted!r}: the model has no module {unknown[0]!r}. Name some of "
            f"its linear layers, separated by commas, or take {ALL_LINEAR!r}"
        )
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    if head is None or head.weight is not embedding.weight:
        return
    tied = [n.rpartition(".")[2] for n, m in model.named_modules() if m in (head, embedding)]
    shared = [name for name in names if name.rpartition(".")[2] in tied]
    if shared:
        raise ConfigError(
            f"train.lora_target = {wanted!r}: {' and '.join(tied)} of this model share one tensor, "
            f"so an adapter of one of them would change the other when it is merged. Leave "
            f"{shared[0]!r} out"
        )


def whole_model(model: Any) -> Any:
    """The model with its adapters merged into its weights; without adapters the model itself."""
    merge = getattr(model, "merge_and_unload", None)
    # Merge in float32: in half precision, rounding would lose a small change.
    return model if merge is None else model.float().merge_and_unload()


def report_to(config: TrainConfig) -> str:
    """TRL's name of the tracker. TensorBoard gets our own callback, because its folder must stay.

    Raises:
        ConfigError: The tracker is not installed.
    """
    if config.tracker != "none":
        require(config.tracker, "trackers", f"train.tracker = {config.tracker!r}")
    return "none" if config.tracker == "tensorboard" else config.tracker


def tracker_callbacks(config: TrainConfig, folder: Path) -> list[Any]:
    """Further callbacks of a tracker; only the main process calls this."""
    if config.tracker != "tensorboard":
        return []
    from torch.utils.tensorboard import SummaryWriter

    return [TensorBoardCallback(SummaryWriter(log_dir=str(folder / "tensorboard")))]
