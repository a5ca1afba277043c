"""The sections of training: its steps, refined rows, alarms and weak rewards."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from pivottrace.config.named_parts import REWARD_HELP, loads
from pivottrace.config.section import Section
from pivottrace.rewards import reward_named


class TrainConfig(Section):
    """GRPO on both routes at once."""

    enabled: bool = True
    """With false, the run ends with the route files."""
    backend: Literal["trl", "verl"] = "trl"
    """The trainer: `trl` here, or `verl` in an environment of its own (docs/integrations.md)."""
    verl_python: str | None = None
    """With `verl`: the Python of an environment that has it, such as ~/verl/bin/python."""
    verl_arguments: list[str] = Field(default_factory=list)
    """With `verl`: further arguments of its trainer, such as
    "actor_rollout_ref.rollout.gpu_memory_utilization=0.4"."""
    steps: int = Field(200, ge=1)
    """Optimizer steps, over all rounds."""
    questions_per_step: int = Field(8, ge=1)
    """Questions per optimizer step."""
    num_generations: int = Field(8, ge=2)
    """Responses per question in a step: GRPO compares them with each other."""
    order: Literal["shuffled", "learnable"] = "shuffled"
    """The questions of each step. `shuffled` takes all rows in turn. `learnable` takes rows more
    often while some of their responses are rewarded and others are not. It is no part of the
    triage, and works with full supervision too."""
    order_decay: float = Field(0.8, ge=0, le=1)
    """With `learnable`: the part of a row's earlier rewards that still counts after a pass over the
    rows; 1 never forgets."""
    order_cap: float = Field(2.0, ge=1)
    """With `learnable`: a row comes at most once more than this many times as often as the row that
    came least. With 1 every row comes once in a pass."""
    learning_rate: float = Field(1e-6, gt=0)
    """Highest learning rate of AdamW."""
    temperature: float = Field(1.0, gt=0)
    """Temperature of the sampled responses."""
    max_new_tokens: int | None = Field(None, ge=1)
    """Longest response, in tokens. The default is `rollouts.max_new_tokens`."""
    beta: float = Field(0.0, ge=0)
    """Weight of the KL term, which holds the model near its start."""
    loss_type: Literal["grpo", "dapo", "bnpo", "dr_grpo"] = "grpo"
    """How token losses are averaged. `grpo` averages over a response's tokens, then over
    responses."""
    warmup_steps: int = Field(5, ge=0)
    """Steps over which the learning rate rises to its value."""
    schedule: Literal["constant", "linear"] = "constant"
    """The learning rate after the warm-up: it stays, or falls to 0 at the last step."""
    max_grad_norm: float = Field(1.0, gt=0)
    """Gradients longer than this are scaled down to it."""
    micro_batch_size: int | None = Field(None, ge=1)
    """Maximum number of responses per forward pass. The default is a whole step, on the CPU at most
    16, and fewer for a large model (SmolLM2-135M: 4). A smaller number saves memory."""
    gradient_checkpointing: bool = False
    """Checkpointing saves memory and costs time. It is for models that do not fit otherwise."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Number format of the training's matrix products; trained weights are always float32. `auto`
    is bfloat16 on a GPU if the model comes in half precision."""
    lora_rank: int | None = Field(None, ge=1)
    """Train low-rank adapters of this rank instead of all weights. The saved model is whole, with
    the adapters merged. Adapters need the extra `lora`."""
    lora_alpha: int | None = Field(None, ge=1)
    """Adapters are scaled by lora_alpha / lora_rank. The default is twice the rank."""
    lora_target: str = "all-linear"
    """Modules that get an adapter: all linear ones except the output layer, or a list of names such
    as "q_proj, v_proj"."""
    tracker: Literal["none", "tensorboard", "trackio", "wandb"] = "none"
    """A further place for the metrics of `metrics.jsonl`. A tracker needs the extra `trackers`."""
    save_steps: int = Field(50, ge=1)
    """Steps between two checkpoints."""
    evaluate_steps: int = Field(0, ge=0)
    """Steps between two points of the learning curve on held-out questions; 0 draws none."""
    evaluate_limit: int | None = Field(None, ge=1)
    """Questions of each held-out set per point of the curve. The evaluations before and after
    training take all."""


class RefineConfig(Section):
    """A rule that watches training: it weighs weak rows or mends labels (docs/refinement.md)."""

    rule: Literal["none", "trapo", "geomin", "label_refinement"] = "none"
    """`trapo` and `geomin` decide which weak rows count. `label_refinement` replaces labels
    that may be wrong."""
    trapo_warm_up: int = Field(8, ge=2)
    """Passes before a weak question is judged. Its weight is 0 until then (the authors use 8)."""
    trapo_threshold: float = Field(0.4, ge=-1, le=1)
    """A weak question counts from this similarity to reliable trajectories on (the authors use
    0.4)."""
    trapo_top_share: float = Field(0.1, ge=0, le=1)
    """This share of weak questions, the most similar ones, counts below the threshold too (the
    authors use 0.1)."""
    trapo_similarity: Literal["correlation", "cosine"] = "correlation"
    """`correlation` follows the authors' code, `cosine` the paper's equation. A threshold of 0.4 is
    too low for the cosine."""
    trapo_grow: bool = True
    """Weak questions that count become reliable trajectories for the others, as the authors do."""
    geomin_decay: float = Field(0.9, ge=0, lt=1)
    """The part of the right and wrong directions that stays at each step (ours)."""
    geomin_warm_up: int = Field(32, ge=1)
    """Labelled completions, right and wrong ones each, before any weak row counts (ours)."""
    geomin_memory: int = Field(512, ge=2)
    """The mixture is fitted to this many of the latest affinities (ours)."""
    label_warm_up: int = Field(6, ge=2)
    """Passes over a question before its label may be replaced (the authors use the sixth)."""
    label_slope: float = Field(0.05, ge=0, le=1)
    """A label is replaced if the majority's share rises by this per pass (the authors use 0.05)."""


class AlarmsConfig(Section):
    """How training watches for collapse, and reacts when votes on labelled questions fail."""

    enabled: bool = True
    """Watch training."""
    action: Literal["report", "pause", "stop"] = "pause"
    """The response when votes on labelled questions fail: `report` only reports it, `pause` leaves
    weak rows out until the votes recover, `stop` ends training. The other alarms only report."""
    window: int = Field(64, ge=8)
    """Groups in a moving window. Nothing is judged before the window is full."""
    vote_floor: float | None = Field(None, gt=0, lt=1)
    """Votes fail below this share of right votes. The default is the first window's share minus
    `vote_fall`."""
    vote_fall: float = Field(0.1, gt=0, lt=1)
    """Fall below the first window's share of right votes that counts as failing."""
    alpha: float = Field(0.01, gt=0, lt=0.5)
    """Chance of a false alarm per look, if the votes are exactly at the floor."""
    diversity_ratio: float = Field(0.5, ge=0, lt=1)
    """Report if the share of different answers falls below this times its start; 0 never does."""
    length_ratio: float = Field(2.0, ge=0)
    """Report if responses get this many times longer or shorter than at the start; 0 never does."""
    entropy_ratio: float = Field(0.1, ge=0, lt=1)
    """Report if the entropy of tokens falls below this times its start; 0 never does."""


class WeakConfig(Section):
    """The reward of weak rows; docs/training.md says which reward serves which purpose."""

    reward: str = Field("majority", description=REWARD_HELP)
    vote_size: int | None = Field(None, ge=1)
    """Number of answers that vote. The default is `train.num_generations`. `majority` samples the
    answers beyond that number in addition, and does not train on them. `co_rewarding_…` samples all
    of them, from the rewritten question or from the slow teacher."""
    vote_margin: float = Field(0.0, ge=0, le=1)
    """Abstain if the winner leads the next answer by less than this share of the votes."""
    rewrite_column: str | None = None
    """Column of the questions' source that has the question in other words. By default the model
    rewrites each question before training, by `rewrite_prompt`."""
    rewrite_prompt: str = (
        "Rewrite this question in other words, so that its answer stays the same. Write the new "
        "question only, and do not answer it.\n\n{question}"
    )
    """The request to the model; {question} stands for the question."""
    train_rewrites: bool = True
    """Train on rewritten questions too. The vote on the original judges them."""
    teacher_decay: float = Field(0.99, ge=0, lt=1)
    """The part of its weights that the slow teacher keeps in the first step."""
    teacher_decay_end: float = Field(0.99999, ge=0, le=1)
    """The part that it keeps in the last step, with a half cosine in between."""

    _known = field_validator("reward")(loads(reward_named))
