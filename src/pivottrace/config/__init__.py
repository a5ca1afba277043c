"""One typed configuration tree. Flags override the file, and the file overrides its preset.

The file that a run writes back has every value filled in, and repeats the run.
"""

from pivottrace.config.presets import (
    PRESETS,
    apply_preset,
    dump_config,
    explain,
    load_config,
    parse_config,
)
from pivottrace.config.sections import (
    EMBEDDED_MODEL,
    AlarmsConfig,
    AnswersConfig,
    CalibrateConfig,
    Config,
    EvaluateConfig,
    LabelsConfig,
    ModelConfig,
    PivotsConfig,
    PoolConfig,
    RefineConfig,
    RolloutsConfig,
    RoundsConfig,
    ScoreConfig,
    Section,
    StudyConfig,
    TraceConfig,
    TrainConfig,
    TriageConfig,
    WeakConfig,
)

__all__ = [
    "EMBEDDED_MODEL",
    "PRESETS",
    "AlarmsConfig",
    "AnswersConfig",
    "CalibrateConfig",
    "Config",
    "EvaluateConfig",
    "LabelsConfig",
    "ModelConfig",
    "PivotsConfig",
    "PoolConfig",
    "RefineConfig",
    "RolloutsConfig",
    "RoundsConfig",
    "ScoreConfig",
    "Section",
    "StudyConfig",
    "TraceConfig",
    "TrainConfig",
    "TriageConfig",
    "WeakConfig",
    "apply_preset",
    "dump_config",
    "explain",
    "load_config",
    "parse_config",
]
