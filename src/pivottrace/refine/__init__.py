"""Rules that watch training and can change it, one file each: refinement and alarms."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from pivottrace.config import AlarmsConfig, RefineConfig
from pivottrace.errors import ConfigError
from pivottrace.refine.alarms import CollapseAlarms
from pivottrace.refine.geomin import GeoMin
from pivottrace.refine.label_refinement import LabelRefinement
from pivottrace.refine.trapo import TraPO
from pivottrace.rewards.groups import Rule


def make_rule(settings: RefineConfig, equal: Callable[[str, str], bool]) -> Rule | None:
    """Return the rule that the settings name; None for `none`.

    Args:
        settings: The section `[refine]`.
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
    """Return the alarms with these settings; None if they are off."""
    if not settings.enabled:
        return None
    return CollapseAlarms(**settings.model_dump(exclude={"enabled"}))


def needs_hidden(settings: RefineConfig) -> bool:
    """Return whether the rule needs `Group.hidden`."""
    return settings.rule == "geomin"


def lacks_weak_rows(settings: RefineConfig, counts: Mapping[str, int]) -> bool:
    """Whether the rule weighs weak rows and there are none. It harms nothing, so it may stand.

    Args:
        settings: The section `[refine]`.
        counts: Number of training rows by route.
    """
    return settings.rule in ("trapo", "geomin") and not counts.get("weak")


def refuse_idle_rule(settings: RefineConfig, counts: Mapping[str, int], passes: float) -> None:
    """Refuse a rule that would spoil training, or that its settings keep from any effect.

    Args:
        settings: The section `[refine]`.
        counts: Number of training rows by route, `annotate` and `weak`.
        passes: Number of times that each row is seen in the whole training.

    Raises:
        ConfigError: The rule learns from labelled rows and there are no such rows, or its warm-up
            is longer than the training. The message names the setting to change.
    """
    if settings.rule == "none":
        return
    if not counts.get("annotate"):
        raise ConfigError(
            f"refine.rule = {settings.rule} learns from annotate rows, and there are none to "
            f"train on: get labels with a budget (labels.budget), or set refine.rule = none"
        )
    # TraPO judges a weak question at the last pass of its warm-up. Label refinement replaces a
    # label for the pass after it.
    warm_ups = {
        "trapo": ("trapo_warm_up", settings.trapo_warm_up, 0),
        "label_refinement": ("label_warm_up", settings.label_warm_up, 1),
    }
    if lacks_weak_rows(settings, counts):
        return  # no setting of the rule matters
    name, warm_up, more = warm_ups.get(settings.rule, ("", 0, 0))
    if warm_up + more > math.ceil(passes):  # some rows are seen once more than others
        raise ConfigError(
            f"refine.{name} = {warm_up}, but this training sees each row only {passes:.1f} times, "
            f"so the rule {settings.rule} would do nothing"
            + (" and no weak row would train" if settings.rule == "trapo" else "")
            + f". Raise train.steps or train.questions_per_step, or lower refine.{name}."
        )
