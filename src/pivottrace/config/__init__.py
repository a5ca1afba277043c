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
from pivottrace.config.section import Section
from pivottrace.config.sections import (
    EMBEDDED_MODEL,
    AnswersConfig,
    CalibrateConfig,
    Config,
    EvaluateConfig,
    LabelsConfig,
    ModelConfig,
    PivotsConfig,
    PoolConfig,
    RolloutsConfig,
    RoundsConfig,
    ScoreConfig,
    ServerConfig,
    StudyConfig,
    TraceConfig,
    TriageConfig,
)
from pivottrace.config.training_sections import (
    AlarmsConfig,
    RefineConfig,
    TrainConfig,
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
    "ServerConfig",
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
