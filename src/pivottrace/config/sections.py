"""The configuration tree, and its sections but training's. Texts below fields are their help."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from pivottrace.config.named_parts import (
    ESTIMATOR_HELP,
    FORMATS_HELP,
    SOURCE_HELP,
    loads,
    ranking_of,
)
from pivottrace.config.section import Section
from pivottrace.config.server_address import server_address, variable_name
from pivottrace.config.training_sections import AlarmsConfig, RefineConfig, TrainConfig, WeakConfig
from pivottrace.label_sources import label_source
from pivottrace.verifier.formats import DEFAULT_FORMATS, format_named

EMBEDDED_MODEL = "embedded"


class PoolConfig(Section):
    """The questions: their source, and the prompt that we make of them."""

    questions: str = "world:default"
    """A JSONL, JSON, CSV or parquet file, a `datasets` folder, a Hub id, `world:PRESET` (the
    embedded world), or `reasoning-gym:TASK` or a TOML file of its tasks."""
    evaluation: str | list[str] | None = None
    """Held-out questions with answers, in the same forms, or a benchmark such as `bench:math500`.
    One source or several; `?k=32` behind a source sets its samples per question. Optional."""
    split: str | None = None
    """Split of a `datasets` folder or Hub id."""
    map: dict[str, str] = Field(default_factory=dict)
    """The source's column for each of `prompt`, `answer`, `id` and `tolerance` (the relative
    tolerance of a row's answer)."""
    template: str | None = None
    """The question from several columns, such as "{Body} {Question}". Options are lettered, one per
    line. {name?} may be empty, and braces of the text are written twice."""
    unused: list[str] = Field(default_factory=list)
    """Columns that look like a part of the question (`options`, `context`, `table`, ...) and are
    not to be asked."""
    on_duplicate: Literal["keep_first", "drop_disagreeing", "refuse"] = "keep_first"
    """Treatment of repeated questions. `keep_first` keeps one where their answers agree, and
    refuses the others; `drop_disagreeing` leaves the others out; `refuse` refuses any."""
    limit: int | None = Field(None, ge=1)
    """Use only this many questions, from the start."""
    only_answered: bool = False
    """Use only the questions that have an answer. `pivottrace study` sets it for a half-labelled
    pool."""
    evaluation_limit: int | None = Field(None, ge=1)
    """Use only this many questions of each held-out set, from the start."""
    system_prompt: str | None = None
    """System message before every question."""
    prompt_suffix: str = ""
    """Text appended to the last user message, such as "Put the answer in \\boxed{}."."""
    chat_template_args: dict[str, Any] = Field(default_factory=dict)
    """Arguments for the chat template, such as `enable_thinking = false`."""
    on_overlap: Literal["report", "drop", "refuse"] = "report"
    """Treatment of pool questions that are also held-out questions."""

    @field_validator("evaluation")
    @classmethod
    def _one_form(cls, value: str | list[str] | None) -> str | list[str] | None:
        """A list of one source is that source, so that a run knows its settings again."""
        if isinstance(value, list) and len(value) < 2:
            return value[0] if value else None
        return value

    @property
    def evaluation_sources(self) -> tuple[str, ...]:
        """The sources of held-out questions; empty without any."""
        if self.evaluation is None:
            return ()
        return (self.evaluation,) if isinstance(self.evaluation, str) else tuple(self.evaluation)


class ModelConfig(Section):
    """The model that reasons and that we train."""

    path: str = EMBEDDED_MODEL
    """A local folder, a `.gguf` file, a Hub id, `package:NAME/PATH` for a folder or file in a
    Python package, or `embedded` for the tiny reasoner in PivotTrace."""
    revision: str | None = None
    """Revision of a Hub id: a branch, a tag or a commit."""
    device: str = "auto"
    """`auto` is CUDA if the machine has a GPU, else the CPU. It may be a torch device: cuda:1."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Number format of the weights. `auto` is float32 on the CPU. On a GPU it is the format of the
    checkpoint. A CPU that only emulates the format is slow in it, and you are warned."""


class AnswersConfig(Section):
    """How we read answers from a response, and compare them."""

    pattern: str | None = None
    """Regular expression whose first group is the answer. It replaces the formats."""
    formats: list[str] = Field(list(DEFAULT_FORMATS), min_length=1, description=FORMATS_HELP)
    verifier: str = "math"
    """`math`, `exact`, `choice`, `reasoning-gym` (each task's own scorer), or your own
    `package.module:function(a, b) -> bool`."""
    tolerance: float | None = Field(None, ge=0, lt=1)
    """Greatest relative difference of a right number from the truth. The default is 1e-6 where a
    decimal stands for 1/3 or √2, and else 0. A truth may state its own. `math` only."""
    timeout_s: float = Field(5.0, gt=0)
    """Seconds of processor time for one expression, or by the clock for one call of your function.
    A slower one counts as not equal."""

    @field_validator("formats")
    @classmethod
    def _known_formats(cls, names: list[str]) -> list[str]:
        for name in names:
            loads(format_named)(name)
        return names


class ServerConfig(Section):
    """With `rollouts.backend = "openai"`: a server that takes and gives token ids, such as vLLM."""

    url: str | None = None
    """Address of the server, such as http://127.0.0.1:8000/v1."""
    model: str | None = None
    """Name of the model at the server. By default the server's only one."""
    api_key_env: str | None = None
    """Name of the environment variable that holds the server's key. The key itself stands in no
    file."""
    concurrency: int = Field(64, ge=1)
    """Requests under way at once. A request is one question with all its samples."""
    timeout_s: float = Field(600.0, gt=0)
    """Seconds without a reply after which a request is sent again."""
    wait_s: float = Field(900.0, ge=0)
    """Seconds that a request is repeated while the server is away, starts or is too busy."""
    tolerance: float | None = Field(None, gt=0)
    """Greatest mean difference between the log-probabilities of the server's model and of the model
    here, in nats. The default is 0.001 if `model.dtype` is float32, else 0.02: half precision
    rounds."""

    @field_validator("url")
    @classmethod
    def _without_secrets(cls, url: str | None) -> str | None:
        return url if url is None else server_address(url)

    @field_validator("api_key_env")
    @classmethod
    def _names_a_variable(cls, name: str | None) -> str | None:
        return name if name is None else variable_name(name)


class RolloutsConfig(Section):
    """Per question one greedy trace, and sampled rollouts for probes, votes and consistency."""

    backend: str = "transformers"
    """The sampler: `transformers`, `openai` (a server with token ids, such as vLLM), or a function
    of your own as `package.module:function`."""
    server: ServerConfig = ServerConfig()
    num_samples: int = Field(16, ge=2)
    """The most sampled responses per question."""
    sampling: Literal["stepwise", "fixed"] = "stepwise"
    """`stepwise` samples in steps (4, 8 and 16 of 16), and stops per question where its samples and
    its trace make sure which answer leads. `fixed` takes `num_samples` of every question."""
    temperature: float = Field(1.0, gt=0)
    """Temperature of the samples; the trace is always greedy."""
    top_p: float = Field(1.0, gt=0, le=1)
    """Sample from the smallest set of tokens with this probability; 1 keeps every token."""
    max_new_tokens: int = Field(512, ge=1)
    """Longest response, in tokens. Prompt and response together must fit the model's context.
    Models that reason at length need more."""
    stop: list[str] = Field(default_factory=list)
    """Texts that end a response."""
    batch_size: int = Field(256, ge=1)
    """Responses generated at once. We halve it when memory runs out."""
    part_size: int = Field(128, ge=1)
    """Questions per part file. A finished part is never repeated."""


class TraceConfig(Section):
    """The attention signal."""

    window: int | None = Field(None, ge=1)
    """Tokens that count as near. The default is `pivots.window`, because the paper has one Δ."""
    num_sinks: int = Field(1, ge=0)
    """First tokens whose attention mass is left out, because they draw mass without meaning."""
    heads: Literal["all", "long_range", "changing"] = "changing"
    """`long_range` takes the heads with the highest far mass over the reference traces. `changing`
    takes the heads whose far mass varies most along these traces."""
    head_percentile: float = Field(75.0, ge=0, lt=100)
    """The chosen heads lie above this percentile of all heads."""
    batch_size: int = Field(32, ge=1)
    """Traces per forward pass. It changes the speed, not the result."""


class PivotsConfig(Section):
    """The definition of a pivot."""

    reading: Literal["onset", "peak"] = "peak"
    """`onset`: the signal rises over a threshold. `peak`: it is highest in its neighbourhood."""
    statistic: Literal["density", "count"] = "count"
    """`count`: pivots of the trace. `density`: pivots per token."""
    percentile: float = Field(95.0, gt=0, lt=100)
    """Percentile of the reference signal that an onset must reach (the paper's ζ)."""
    amplitude: float = Field(0.05, ge=0, le=1)
    """Least rise above the window before, in attention mass (the paper's ψ)."""
    window: int = Field(10, ge=1)
    """Tokens before a pivot in which the rise is measured. Onsets within this distance count as
    one (the paper's Δ)."""
    reference_size: int = Field(512, ge=1)
    """Traces that the threshold and the heads are chosen on."""


class ScoreConfig(Section):
    """The estimator that ranks the pool."""

    estimator: str = Field("pivots", description=ESTIMATOR_HELP)

    _known = field_validator("estimator")(loads(ranking_of))


class LabelsConfig(Section):
    """The budget for true answers, and their source."""

    budget: float = Field(0.293, ge=0)
    """A value up to 1 is a share of the pool; a larger one is a number of labels. The budget
    includes the probes."""
    source: str | None = Field(None, description=SOURCE_HELP)
    partial: bool = False
    """Go on without the answers that are missing, once one answer to a request is in, or all rows
    came back without one. Questions without an answer are left out."""

    _known = field_validator("source")(loads(label_source))


class CalibrateConfig(Section):
    """Probe labels, and how sure they show each vote to be."""

    num_probes: int | None = Field(None, ge=0)
    """By value, the default is an eighth of the budget, from 16 to 256, and of a small budget half;
    evenly, max(64, 5 % of the pool), at most 256. Use 0 only with `triage.mode = "fixed"`: the
    calibrated mode needs probes."""
    draw: Literal["by_value", "systematic", "strata", "adaptive"] = "by_value"
    """`by_value` draws with a chance in proportion to the expected gain of a label. The others draw
    evenly, as a `triage.vote_floor` needs it: `systematic` along the ranking, `strata` one from
    each stretch. `adaptive` draws half evenly, and half where the first half's curve is steep or
    undecided; people are then asked twice."""
    window: int | None = Field(None, ge=2)
    """Probes in a sliding window of the curve that evenly drawn probes give. The default depends on
    the number of probes."""
    level: float = Field(0.9, gt=0, lt=1)
    """Confidence level of this curve's intervals."""


class TriageConfig(Section):
    """How questions are routed."""

    mode: Literal["calibrated", "fixed"] = "calibrated"
    """`calibrated` routes by the expected gains of each question's label and vote; `fixed`
    takes the paper's fractions of the ranking."""
    annotate_fraction: float = Field(0.293, ge=0, le=1)
    """With `fixed`: the share of the pool, from the most uncertain end, that people label."""
    discard_fraction: float = Field(0.421, ge=0, le=1)
    """With `fixed`: the share of the pool, from the most certain end, that is dropped."""
    least_gain: float = Field(0.045, ge=0, lt=0.25)
    """A vote is trained on if it is expected to teach more than this, in units of p(1-p), at most
    0.25; and a question is mastered or hopeless if not even its label is. Lower values train on
    more rows that teach little."""
    least_label_gain: float = Field(0.02, ge=0, lt=0.25)
    """A label is bought if it is expected to teach more than this beyond the vote. Labels that
    would teach less are left in the budget."""
    most_rows: int | None = Field(None, ge=1)
    """With `calibrated`: votes are added to the labelled rows only up to this number of rows. The
    default is a quarter of `train.steps` times `train.questions_per_step`, so that votes are added
    only while each row would be seen four times, here or by the trainer of an export."""
    vote_floor: float | None = Field(None, gt=0, lt=1)
    """A promise for the weak route: this share of its votes is right, by an exact test on evenly
    drawn probes (`calibrate.draw`). By default the expected gain of each vote decides alone."""
    vote_alpha: float = Field(0.1, gt=0, lt=1)
    """The greatest chance that the weak route misses the promised share."""
    hopeless: Literal["drop", "annotate"] = "drop"
    """`annotate` lets people label hopeless questions with labels that are left over."""


class RoundsConfig(Section):
    """Trace and route again as the model learns, under the same budget and steps."""

    num: int = Field(1, ge=1)
    """Number of rounds. Each later round starts from the model that the round before trained."""
    spend: Literal["evenly", "at_once"] = "evenly"
    """The time to buy labels beyond the probes. `evenly` gives each round an equal share, and
    passes on the rest. `at_once` buys all labels that teach in the first round."""
    train_probes: Literal["last_round", "every_round"] = "last_round"
    """A probe that we train on no longer stands for the pool, and the next round is calibrated on
    the probes. So `last_round` trains on them only in the last round."""


class EvaluateConfig(Section):
    """Held-out accuracy: avg@k, as the paper reports it."""

    num_samples: int = Field(4, ge=1)
    """Samples per held-out question: k of avg@k. `?k=` behind a source of `pool.evaluation` is for
    that set alone."""
    temperature: float = Field(0.6, gt=0)
    """Temperature of these samples."""
    top_p: float = Field(1.0, gt=0, le=1)
    """Sample from the smallest set of tokens with this probability; 1 keeps every token."""
    max_new_tokens: int | None = Field(None, ge=1)
    """Longest response, in tokens. The default is `rollouts.max_new_tokens`."""


class StudyConfig(Section):
    """`pivottrace study`: estimators compared on questions whose answers are all known."""

    truth_samples: int = Field(32, ge=2)
    """Further samples per question. Their mean correctness is the truth, and no estimator sees
    them."""
    resamples: int = Field(2_000, ge=1)
    """Resamples of the bootstrap behind every interval."""


class Config(Section):
    """The whole tree."""

    output: Path = Path("runs/default")
    """The run directory."""
    seed: int = Field(0, ge=0)
    """Seed of sampling, of draws and of training."""
    preset: Literal["default", "paper"] = "default"
    """`default` takes the pivots that did best on development questions
    (docs/results/estimators.md). `paper` takes the density of onsets over all heads, with the
    paper's ζ = 95, ψ = 5 %, Δ = 10. A file's other keys override its preset; `--preset` on the
    command line overrides the file."""
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

    @property
    def longest_in_training(self) -> int:
        """The longest response in training, in tokens."""
        return self.train.max_new_tokens or self.rollouts.max_new_tokens
