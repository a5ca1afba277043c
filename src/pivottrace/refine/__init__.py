"""Rules that watch training and have a say in it, one file each: refinement, and alarms."""

from __future__ import annotations

import math
from collections.abc import Callable

from pivottrace.config import AlarmsConfig, RefineConfig
from pivottrace.errors import ConfigError
from pivottrace.refine.alarms import CollapseAlarms
from pivottrace.refine.geomin import GeoMin
from pivottrace.refine.label_refinement import LabelRefinement
from pivottrace.refine.trapo import TraPO
from pivottrace.rewards.groups import Rule


def make_rule(settings: RefineConfig, equal: Callable[[str, str], bool]) -> Rule | None:
    """The rule that the settings ask for; None for `none`.

    Args:
        settings: The section.
        equal: Whether two answers are the same.
    """
    if settings.rule == "trapo":
        return TraPO(
            warm_up=settings.trapo_warm_up,
            threshold=settings.trapo_threshold,
            top_share=settings.trapo_top_share,
            similarity=settings.trapo_similarity,
            grow=settings.trapo_grow,
        )
    if settings.rule == "geomin":
        return GeoMin(
            decay=settings.geomin_decay,
            warm_up=settings.geomin_warm_up,
            memory=settings.geomin_memory,
        )
    if settings.rule == "label_refinement":
        return LabelRefinement(
            warm_up=settings.label_warm_up, slope=settings.label_slope, equal=equal
        )
    return None


def make_alarms(settings: AlarmsConfig) -> CollapseAlarms | None:
    """The alarms as the settings have them; None where they are off."""
    if not settings.enabled:
        return None
    return CollapseAlarms(**settings.model_dump(exclude={"enabled"}))


def needs_hidden(settings: RefineConfig) -> bool:
    """Whether `Group.hidden` has to be filled."""
    return settings.rule == "geomin"


def refuse_idle_rule(settings: RefineConfig, counts: dict[str, int], passes: float) -> None:
    """Refuse, before training, a rule that could never do anything in it.

    Args:
        settings: The section.
        counts: Training rows by route, `annotate` and `weak`.
        passes: Times that each row is seen in all.

    Raises:
        ConfigError: The rule learns from labelled rows and there is none, or its warm-up outlasts
            the training; the message says which setting to change.
    """
    if settings.rule == "none":
        return
    if not counts.get("annotate"):
        raise ConfigError(
            f"refine.rule = {settings.rule} learns from annotate rows, and there is none to train "
            f"on: get labels with a budget (labels.budget), or set refine.rule = none"
        )
    # A weak question is judged at its last pass of the warm-up; a label is replaced for the next.
    warm_ups = {
        "trapo": ("trapo_warm_up", settings.trapo_warm_up, 0),
        "label_refinement": ("label_warm_up", settings.label_warm_up, 1),
    }
    name, warm_up, more = warm_ups.get(settings.rule, ("", 0, 0))
    if warm_up + more > math.ceil(passes):  # some rows are seen once more than others
        raise ConfigError(
            f"refine.{name} = {warm_up}, but this training sees each row only {passes:.1f} times, "
            f"so the rule {settings.rule} would do nothing"
            + (" and no weak row would train" if settings.rule == "trapo" else "")
            + f". Raise train.steps or train.questions_per_step, or lower refine.{name}."
        )
