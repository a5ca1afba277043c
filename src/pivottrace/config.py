"""One typed configuration tree, read from TOML, written back resolved.

Flags override the file, the file overrides its preset. The resolved file re-runs the run.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pivottrace.errors import ConfigError

EMBEDDED_MODEL = "embedded"


class Section(BaseModel):
    """A part of the tree; unknown keys are refused."""

    model_config = ConfigDict(
        extra="forbid", protected_namespaces=(), use_attribute_docstrings=True
    )


class PoolConfig(Section):
    """Where questions come from and how they are put to the model."""

    questions: str = "world:default"
    """JSONL, CSV or parquet file, `datasets` folder, Hub id, or `world:PRESET` (embedded world)."""
    evaluation: str | None = None
    """Held-out questions with answers, in the same forms; none is fine."""
    split: str | None = None
    """Split of a `datasets` folder or Hub id."""
    map: dict[str, str] = Field(default_factory=dict)
    """Which source column is which: `prompt`, `answer`, `id`."""
    limit: int | None = Field(None, ge=1)
    """Use the first so many questions."""
    evaluation_limit: int | None = Field(None, ge=1)
    system_prompt: str | None = None
    prompt_suffix: str = ""
    """Appended to the last user message, such as "Put the answer in \\boxed{}."."""
    chat_template_args: dict[str, Any] = Field(default_factory=dict)
    """Passed to the chat template, such as `enable_thinking = false`."""
    on_overlap: Literal["report", "drop", "refuse"] = "report"
    """What to do with pool questions that are also evaluation questions."""


class ModelConfig(Section):
    """The model that reasons and is trained."""

    path: str = EMBEDDED_MODEL
    """A local folder, a Hub id, or `embedded` for the tiny reasoner in the package."""
    revision: str | None = None
    device: str = "auto"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"


class AnswersConfig(Section):
    """How answers are read from a response and compared."""

    pattern: str | None = None
    """Regular expression whose first group is the answer; by default `\\boxed{}`, `####` …"""
    verifier: str = "math"
    """`math`, `exact`, `choice`, or your own `package.module:function(a, b) -> bool`."""
    timeout_s: float = Field(5.0, gt=0)


class RolloutsConfig(Section):
    """One greedy trace a question, and sampled rollouts for probes, votes and consistency."""

    num_samples: int = Field(16, ge=2)
    temperature: float = Field(1.0, gt=0)
    top_p: float = Field(1.0, gt=0, le=1)
    max_new_tokens: int = Field(1024, ge=1)
    stop: list[str] = Field(default_factory=list)
    batch_size: int = Field(256, ge=1)
    """Sequences generated at once; halved when memory runs out."""
    part_size: int = Field(128, ge=1)
    """Questions a part file; finished parts are never repeated."""


class TraceConfig(Section):
    """The attention signal."""

    window: int | None = Field(None, ge=1)
    """Tokens that count as near; by default `pivots.window`, since the paper has one Δ."""
    num_sinks: int = Field(1, ge=0)
    heads: Literal["all", "long_range", "changing"] = "changing"
    """`long_range`: the heads whose far mass is highest over the reference traces; `changing`:
    those whose far mass varies most along them."""
    head_percentile: float = Field(75.0, ge=0, lt=100)
    """Chosen heads are above this percentile of all heads."""
    batch_size: int = Field(32, ge=1)


class PivotsConfig(Section):
    """What counts as a pivot."""

    reading: Literal["onset", "peak"] = "peak"
    statistic: Literal["density", "count"] = "count"
    percentile: float = Field(95.0, gt=0, lt=100)
    """Percentile of the reference signal that an onset must reach (the paper's ζ)."""
    amplitude: float = Field(0.05, ge=0, le=1)
    """Least rise above the window before, in attention mass (the paper's ψ)."""
    window: int = Field(10, ge=1)
    """Look-back of the rise, and the distance within which pivots are one (the paper's Δ)."""
    reference_size: int = Field(512, ge=1)


class ScoreConfig(Section):
    """Which estimator ranks the pool."""

    estimator: str = "pivots"
    """`pivots` (the reading and statistic of `[pivots]`), any estimator's name, or `combination`:
    fitted on probes drawn along the pivots' ranking, and used where it is better for sure."""


class LabelsConfig(Section):
    """What may be spent on true answers."""

    budget: float = Field(0.293, ge=0)
    """At most 1: a share of the pool. Above 1: a number of labels. Probes are included."""
    source: Literal["column", "oracle", "file"] = "column"
    """`column`: the pool's own answers, read only for questions chosen; `oracle`: the embedded
    world; `file`: stop and wait for `pivottrace label import`."""
    partial: bool = False
    """Go on with the labels that are there; questions still without one are left out."""


class CalibrateConfig(Section):
    """Probe labels and the curves along the ranking."""

    num_probes: int | None = Field(None, ge=0)
    """By default max(64, 5 % of the pool), at most 256, within the budget. 0 is for
    `triage.mode = "fixed"`: without a probe there is no curve to route by."""
    draw: Literal["systematic", "strata", "adaptive"] = "systematic"
    """Along the ranking: evenly, one from each stretch, or half evenly and half where the first
    half's curve is steep or undecided (people are then asked twice)."""
    window: int | None = Field(None, ge=2)
    """Probes in a sliding window; by default set from their number."""
    level: float = Field(0.9, gt=0, lt=1)


class TriageConfig(Section):
    """How questions are routed."""

    mode: Literal["calibrated", "fixed"] = "calibrated"
    """`fixed`: the paper's fractions by rank."""
    annotate_fraction: float = Field(0.293, ge=0, le=1)
    discard_fraction: float = Field(0.421, ge=0, le=1)
    mastered_floor: float = Field(0.95, gt=0, le=1)
    """Mean correctness along the ranking from which questions are mastered."""
    hopeless_ceiling: float = Field(0.05, ge=0, lt=1)
    """Mean correctness along the ranking up to which questions are hopeless."""
    vote_floor: float = Field(0.6, gt=0, lt=1)
    """Share of right votes that the whole weak route must hold."""
    vote_alpha: float = Field(0.1, gt=0, lt=1)
    """Chance, at most, that it does not."""
    hopeless: Literal["drop", "annotate"] = "drop"


class TrainConfig(Section):
    """GRPO on both routes at once."""

    enabled: bool = True
    steps: int = Field(200, ge=1)
    questions_per_step: int = Field(8, ge=1)
    num_generations: int = Field(8, ge=2)
    learning_rate: float = Field(1e-6, gt=0)
    temperature: float = Field(1.0, gt=0)
    max_new_tokens: int = Field(1024, ge=1)
    beta: float = Field(0.0, ge=0)
    """Weight of the KL term to the starting model."""
    loss_type: Literal["grpo", "dapo", "bnpo", "dr_grpo"] = "grpo"
    """How token losses are averaged; `grpo`: over a response's tokens, then over responses."""
    warmup_steps: int = Field(5, ge=0)
    """The learning rate rises to its value over so many steps."""
    schedule: Literal["constant", "linear"] = "constant"
    """What the learning rate does then: stay, or fall to 0 at the last step."""
    max_grad_norm: float = Field(1.0, gt=0)
    micro_batch_size: int | None = Field(None, ge=1)
    """Rollouts a forward pass; by default a step's, on the CPU at most 16. Fewer save memory."""
    gradient_checkpointing: bool = False
    """Less memory, slower; for models too large otherwise."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the training's matrix products; trained weights are float32 in any case. `auto`: bfloat16
    on a GPU for a model that comes in half precision."""
    lora_rank: int | None = Field(None, ge=1)
    """Train low-rank adapters of this rank in place of all weights; what is saved is the whole
    model, adapters merged. Needs the extra `lora`."""
    lora_alpha: int | None = Field(None, ge=1)
    """Adapters are scaled by lora_alpha / lora_rank; by default twice the rank."""
    lora_target: str = "all-linear"
    """Modules that get an adapter: all linear ones but the output layer, or names as in
    "q_proj, v_proj"."""
    tracker: Literal["none", "tensorboard", "trackio", "wandb"] = "none"
    """Where metrics go besides `metrics.jsonl`. Needs the extra `trackers`."""
    save_steps: int = Field(50, ge=1)
    evaluate_steps: int = Field(0, ge=0)
    """Evaluate on held-out questions every so many steps, 0: only before and after."""
    evaluate_limit: int | None = Field(None, ge=1)
    """Held-out questions for those, the first so many; before and after always take all."""


class RefineConfig(Section):
    """A rule that watches training, and weighs weak rows or betters labels (docs/refinement.md)."""

    rule: Literal["none", "trapo", "geomin", "label_refinement"] = "none"
    """`trapo`, `geomin`: which weak rows count; `label_refinement`: labels that may be wrong."""
    trapo_warm_up: int = Field(8, ge=2)
    """Passes before a weak question is judged; it weighs 0 until then (the authors': 8)."""
    trapo_threshold: float = Field(0.4, ge=-1, le=1)
    """Similarity to reliable trajectories from which a weak question counts (the authors': 0.4)."""
    trapo_top_share: float = Field(0.1, ge=0, le=1)
    """Share of weak questions that count below it too, the most similar (the authors': 0.1)."""
    trapo_similarity: Literal["correlation", "cosine"] = "correlation"
    """`correlation`: the authors' code; `cosine`: the paper's equation, for which a threshold of
    0.4 is too low."""
    trapo_grow: bool = True
    """Weak questions that count become reliable trajectories for the others (the authors' way)."""
    geomin_decay: float = Field(0.9, ge=0, lt=1)
    """Part of the right and wrong directions that stays at each step (ours)."""
    geomin_warm_up: int = Field(32, ge=1)
    """Right, and wrong, labelled completions before any weak row counts (ours)."""
    geomin_memory: int = Field(512, ge=2)
    """Affinities that the mixture is fitted to, the last ones (ours)."""
    label_warm_up: int = Field(6, ge=2)
    """Passes over a question before its label may be replaced (the authors': from the sixth)."""
    label_slope: float = Field(0.05, ge=0, le=1)
    """Rise of the majority's share a pass that replaces a label (the authors': 0.05)."""


class AlarmsConfig(Section):
    """What training watches for collapse, and does when votes on labelled questions go wrong."""

    enabled: bool = True
    action: Literal["report", "pause", "stop"] = "pause"
    """When votes on labelled questions go wrong: say so only, leave weak rows out until they have
    recovered, or end training there. The other alarms only say so."""
    window: int = Field(64, ge=8)
    """Groups in a moving window; before it is full nothing is judged."""
    vote_floor: float | None = Field(None, gt=0, lt=1)
    """Share of right votes below which votes are wrong; by default the first window's share less
    `vote_fall`."""
    vote_fall: float = Field(0.1, gt=0, lt=1)
    alpha: float = Field(0.01, gt=0, lt=0.5)
    """Chance that votes exactly at the floor are taken to be below it, in one look."""
    diversity_ratio: float = Field(0.5, ge=0, lt=1)
    """Say so when answers differ less than this times as often as at the start; 0: never."""
    length_ratio: float = Field(2.0, ge=0)
    """Say so when responses are this many times longer or shorter than at the start; 0: never."""
    entropy_ratio: float = Field(0.1, ge=0, lt=1)
    """Say so when the entropy of tokens is below this times that at the start; 0: never."""


class WeakConfig(Section):
    """What weak rows are rewarded by; docs/training.md says which reward is for what."""

    reward: Literal[
        "majority",
        "frozen_majority",
        "token_entropy",
        "sequence_entropy",
        "self_certainty",
        "sequence_confidence",
        "co_rewarding_rewrite",
        "co_rewarding_teacher",
    ] = "majority"
    vote_size: int | None = Field(None, ge=1)
    """Answers that vote; by default `train.num_generations`. `majority`: what is beyond that is
    sampled in addition, votes and is not trained on. `co_rewarding_…`: all are sampled, from the
    rewritten question or the slow teacher."""
    vote_margin: float = Field(0.0, ge=0, le=1)
    """Abstain where the winner leads the next answer by less than this share of the votes."""
    rewrite_column: str | None = None
    """Column of the questions' source with the same question in other words, as text. By default
    the model writes it before training, by `rewrite_prompt`."""
    rewrite_prompt: str = (
        "Rewrite this question in other words, so that its answer stays the same. Write the new "
        "question only, and do not answer it.\n\n{question}"
    )
    train_rewrites: bool = True
    """Train on rewritten questions too, judged by the vote on the original."""
    teacher_decay: float = Field(0.99, ge=0, lt=1)
    """How much of its weights the slow teacher keeps in the first step …"""
    teacher_decay_end: float = Field(0.99999, ge=0, le=1)
    """… and in the last; a half cosine in between."""


class RoundsConfig(Section):
    """Trace and route again as the model learns, under the same budget and steps."""

    num: int = Field(1, ge=1)
    """Rounds; each but the first starts from the model that the one before has trained."""
    spend: Literal["evenly", "at_once"] = "evenly"
    """When labels beyond the probes are bought: an equal share a round, what is left over going to
    the next, or as many as teach in the first."""
    train_probes: Literal["last_round", "every_round"] = "last_round"
    """Probes that are trained on no longer stand for the pool, and the next round is calibrated on
    them: `last_round` waits until they have done their work."""


class EvaluateConfig(Section):
    """Held-out accuracy, avg@k as the paper reports it."""

    num_samples: int = Field(4, ge=1)
    temperature: float = Field(0.6, gt=0)
    top_p: float = Field(1.0, gt=0, le=1)
    max_new_tokens: int | None = Field(None, ge=1)
    """By default the rollouts' limit."""


class StudyConfig(Section):
    """`pivottrace study`: estimators compared on questions whose answers are all known."""

    truth_samples: int = Field(32, ge=2)
    """Further samples a question whose mean correctness is the truth; no estimator sees them."""
    resamples: int = Field(2_000, ge=1)
    """Of the bootstrap behind every interval."""


class Config(Section):
    """The whole tree."""

    output: Path = Path("runs/default")
    seed: int = 0
    preset: Literal["default", "paper"] = "default"
    """`default`: the pivots that did best on development questions (docs/results/estimators.md);
    `paper`: density of onsets over all heads with the paper's ζ = 95, ψ = 5 %, Δ = 10. A file's
    other keys override its preset; `--preset` on the command line overrides the file."""
    pool: PoolConfig = PoolConfig()
    model: ModelConfig = ModelConfig()
    answers: AnswersConfig = AnswersConfig()
    rollouts: RolloutsConfig = RolloutsConfig()
    trace: TraceConfig = TraceConfig()
    pivots: PivotsConfig = PivotsConfig()
    score: ScoreConfig = ScoreConfig()
    labels: LabelsConfig = LabelsConfig()
    calibrate: CalibrateConfig = CalibrateConfig()
    triage: TriageConfig = TriageConfig()
    train: TrainConfig = TrainConfig()
    refine: RefineConfig = RefineConfig()
    alarms: AlarmsConfig = AlarmsConfig()
    weak: WeakConfig = WeakConfig()
    rounds: RoundsConfig = RoundsConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    study: StudyConfig = StudyConfig()


_PAPER: dict[str, dict[str, Any]] = {
    "pivots": {
        "reading": "onset", "statistic": "density", "percentile": 95.0, "amplitude": 0.05,
        "window": 10,
    },
    "trace": {"heads": "all"},
}  # fmt: skip
# Every preset has the same keys, so that each undoes the others.
PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "default": {
        "pivots": {key: getattr(PivotsConfig(), key) for key in _PAPER["pivots"]},
        "trace": {key: getattr(TraceConfig(), key) for key in _PAPER["trace"]},
    },
    "paper": _PAPER,
}


def load_config(path: Path) -> Config:
    """Read a TOML file over its preset.

    Raises:
        ConfigError: the file is missing, is not TOML, or holds an unknown key or a wrong value; the
            message names the file, the key and the nearest valid one.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file. Write one with: pivottrace init {path}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None
    return parse_config(values, where=str(path))


def parse_config(values: dict[str, Any], where: str) -> Config:
    """Validate a nested dict over its preset; `where` names it in errors. Raises ConfigError."""
    merged = {**values}
    for section, defaults in _preset(values.get("preset", "default"), where).items():
        given = values.get(section, {})
        merged[section] = {**defaults, **given} if isinstance(given, dict) else given
    try:
        return Config.model_validate(merged)
    except ValidationError as error:
        raise ConfigError(explain(where, error)) from None


def apply_preset(config: Config, name: str) -> Config:
    """Put a preset's values over a configuration, as `--preset` does. Raises ConfigError."""
    sections = {
        section: getattr(config, section).model_copy(update=values)
        for section, values in _preset(name, "command line").items()
    }
    return config.model_copy(update={"preset": name, **sections})


def _preset(name: Any, where: str) -> dict[str, dict[str, Any]]:
    if name not in list(PRESETS):
        raise ConfigError(f"{where}: preset = {name!r} is not one of {', '.join(PRESETS)}")
    return PRESETS[name]


def explain(where: str, error: ValidationError) -> str:
    """One line for each thing that is wrong, naming the key and the cure."""
    return "\n".join(_explain(where, e) for e in error.errors())


def _explain(where: str, error: Any) -> str:
    key = ".".join(str(part) for part in error["loc"])
    if error["type"] != "extra_forbidden":
        return f"{where}: {key} = {error['input']!r}: {error['msg']}"
    near = difflib.get_close_matches(key, valid_keys(), n=1, cutoff=0.0)
    return f"{where}: {key} is not a setting. The nearest one is {near[0]}."


def valid_keys(section: type[Section] = Config, prefix: str = "") -> list[str]:
    """Every dotted key of the tree."""
    keys = []
    for name, field in section.model_fields.items():
        keys.append(prefix + name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            keys += valid_keys(field.annotation, f"{prefix}{name}.")
    return keys


def dump_config(config: Config) -> str:
    """The resolved tree as TOML text."""
    return tomli_w.dumps(config.model_dump(mode="json", exclude_none=True))


def inline_table(table: dict[str, Any]) -> str:
    """A table as TOML on one line."""
    pairs = []
    for key, value in table.items():
        name = tomli_w.dumps({key: 0}).removesuffix(" = 0\n")
        nested = isinstance(value, dict)
        pairs.append(f"{name} = {inline_table(value)}" if nested else tomli_w.dumps({key: value}))
    return f"{{{', '.join(pair.strip() for pair in pairs)}}}"


def template(config: Config) -> str:
    """A configuration file with every setting and its meaning.

    Commented out are unset ones, and those that the preset sets, so that another preset may be
    named in the file.
    """
    lines = [
        "# PivotTrace configuration. Run it with: pivottrace run THIS_FILE",
        "# What is behind a # is unset, or as the preset has it: take the # away to set it.",
        "",
    ]
    tops = [n for n in Config.model_fields if not isinstance(getattr(config, n), Section)]
    lines += _template_fields(config, tops, {})
    for name in Config.model_fields:
        section = getattr(config, name)
        if isinstance(section, Section):
            lines += ["", f"[{name}]", f"# {(type(section).__doc__ or '').strip()}"]
            by_preset = PRESETS[config.preset].get(name, {})
            lines += _template_fields(section, list(type(section).model_fields), by_preset)
    return "\n".join(lines) + "\n"


def _template_fields(section: Section, names: list[str], by_preset: Mapping[str, Any]) -> list[str]:
    values = section.model_dump(mode="json")
    lines = []
    for name in names:
        description = type(section).model_fields[name].description
        lines += [f"# {line.strip()}" for line in (description or "").splitlines() if line.strip()]
        value = values[name]
        if value is None:
            lines.append(f"# {name} = ")
        elif isinstance(value, dict):
            lines.append(f"{name} = {inline_table(value)}")
        else:
            hidden = "# " if by_preset.get(name) == value else ""
            lines.append(hidden + tomli_w.dumps({name: value}).strip())
    return lines
