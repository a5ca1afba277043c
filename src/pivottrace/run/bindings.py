"""The settings that each stage reads. They cannot change once the stage has output."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from pivottrace.config import Config
from pivottrace.label_sources import label_source

_MODEL = ("model.path", "model.revision", "model.dtype")
_PROMPT = ("pool.system_prompt", "pool.prompt_suffix", "pool.chat_template_args")
_EVALUATION = (
    "seed",
    *_MODEL,
    *_PROMPT,
    "answers",
    "evaluate",
    "rollouts.backend",
    "rollouts.max_new_tokens",
    "rollouts.stop",
    "rollouts.batch_size",
    "rollouts.part_size",
)
# pool lacks `answers.verifier`: it decides only which repeated questions agree, and the user may
# correct the name of a verifier after the pool was read, before anything else uses it.
# calibrate lacks `labels.partial`: the user may switch it on while the run waits for labels.
# triage has `labels.budget`: calibration keeps the number of probes drawn (`probes_wanted`).
# triage lacks `train.steps` and `train.questions_per_step`, which limit its weak rows: the user may
# change them before training, and the questions are then routed again (`redo.take_new_steps`).
# calibrate has the settings of the ranking: scoring writes every estimator in any case.
# train lacks the settings of the learning curve: the curve changes nothing in the model.
STAGE_SETTINGS: dict[str, tuple[str, ...]] = {
    "pool": (
        "pool.questions",
        "pool.evaluation",
        "pool.split",
        "pool.map",
        "pool.template",
        "pool.unused",
        "pool.on_duplicate",
        "pool.limit",
        "pool.only_answered",
        "pool.evaluation_limit",
        "pool.on_overlap",
        "labels.source",
        "answers.pattern",
    ),
    "greedy": (
        "seed",
        *_MODEL,
        *_PROMPT,
        "answers.pattern",
        "answers.formats",
        "rollouts.backend",
        "rollouts.max_new_tokens",
        "rollouts.stop",
        "rollouts.batch_size",
        "rollouts.part_size",
    ),
    "trace": (
        "seed",
        *_MODEL,
        "trace",
        "pivots.window",
        "pivots.reference_size",
        "rollouts.part_size",
    ),
    "score": ("seed", "pivots.percentile", "pivots.amplitude", "pivots.window"),
    "sample": ("seed", *_MODEL, *_PROMPT, "answers", "rollouts"),
    "truth": ("seed", *_MODEL, *_PROMPT, "answers", "rollouts", "study.truth_samples"),
    "calibrate": (
        "seed",
        "answers",
        "score.estimator",
        "pivots.reading",
        "pivots.statistic",
        "labels.source",
        "calibrate",
    ),
    "triage": (
        "labels.budget",
        "triage",
        "rounds.num",
        "rounds.spend",
    ),
    "label": ("labels",),
    "train": (
        "seed",
        *_MODEL,
        *_PROMPT,
        "answers",
        "rollouts.stop",
        "labels.partial",
        "train",
        "weak",
        "refine",
        "alarms",
        "rounds.num",
        "rounds.train_probes",
    ),
    "evaluate_before": _EVALUATION,
    "evaluate_after": _EVALUATION,
}
# Settings that change the speed, never the result. A server may move, because its model is compared
# with the model here each time that it is opened (`models.canary`).
FREE_SETTINGS = {
    "trace.batch_size",
    "model.device",
    "rollouts.server",
    "train.tracker",
    "train.save_steps",
    "train.verl_python",
}


def settings_of(stage: str, config: Config) -> dict[str, Any]:
    """The settings that a stage reads, by dotted key."""
    values = config.model_dump(mode="json")
    return {key: _at(values, key) for key in STAGE_SETTINGS[stage]}


class Changed(NamedTuple):
    """A setting that differs from the records of stages. As a text, it is a line for a message."""

    key: str
    was: Any
    now: Any
    stages: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.key}: was {self.was!r}, now {self.now!r} (used by {', '.join(self.stages)})"


def changed_settings(used: Mapping[str, Mapping[str, Any]], config: Config) -> list[Changed]:
    """The settings that differ from the record of a stage.

    Two rules serve records of older versions. A recorded setting that the stage no longer reads may
    change. A setting that the record lacks had the value that is its default now.

    Args:
        used: The result of `settings_of` for each stage, when it began.
        config: The present configuration.
    """
    values = config.model_dump(mode="json")
    changed: dict[str, Changed] = {}
    first = Config().model_dump(mode="json")
    for stage, settings in used.items():
        now = settings_of(stage, config)
        unknown = [key for key in now if not _is_within(key, settings)]
        for key, was in {**{key: _at(first, key) for key in unknown}, **settings}.items():
            whole = {**_at(first, key), **was} if isinstance(was, dict) else was
            for name, old, new in _differences(key, whole, now.get(key, _at(values, key))):
                if _is_within(name, now):
                    before = changed.setdefault(f"{name} {old!r}", Changed(name, old, new, ()))
                    changed[f"{name} {old!r}"] = before._replace(stages=(*before.stages, stage))
    return list(changed.values())


def _is_within(key: str, keys: Iterable[str]) -> bool:
    """Whether a key is among the keys, or in a section that is among them."""
    return any(key == other or key.startswith(f"{other}.") for other in keys)


def _at(values: Any, key: str) -> Any:
    for part in key.split("."):
        values = values[part]
    return values


def _differences(key: str, was: Any, now: Any) -> Iterator[tuple[str, Any, Any]]:
    if key in FREE_SETTINGS or was == now:
        return
    if key == "labels.source" and _makes_the_same_pool(was, now):
        # People may take over from a column, and it from them: a label keeps where it came from.
        return
    if isinstance(was, dict) and isinstance(now, dict):
        for name in sorted(was.keys() | now.keys()):
            yield from _differences(f"{key}.{name}", was.get(name), now.get(name))
    else:
        yield key, was, now


def _makes_the_same_pool(was: str | None, now: str | None) -> bool:
    """Whether two label sources both leave the pool its answers, or both withhold them."""
    withheld = [name is not None and label_source(name).withholds_answers for name in (was, now)]
    return withheld[0] == withheld[1]
