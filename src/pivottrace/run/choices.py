"""What a configuration chooses, in the terms of what it is chosen from."""

from __future__ import annotations

from pivottrace.config import Config
from pivottrace.errors import ConfigError
from pivottrace.estimators import ESTIMATORS
from pivottrace.routing.routes import TriageOptions


def driving_estimator(config: Config) -> str:
    """The estimator that ranks the pool. Raises ConfigError where there is no such one."""
    name = config.score.estimator
    if name in ("pivots", "combination"):  # a combination needs probes, drawn along the pivots
        return f"{config.pivots.reading}_{config.pivots.statistic}"
    if name not in ESTIMATORS:
        raise ConfigError(
            f"score.estimator = {name!r} is not one of: pivots, combination, "
            f"{', '.join(ESTIMATORS)}"
        )
    return name


def triage_options(config: Config) -> TriageOptions:
    """The triage's thresholds."""
    settings = config.triage
    fixed = (settings.annotate_fraction, settings.discard_fraction)
    return TriageOptions(
        mastered_floor=settings.mastered_floor,
        hopeless_ceiling=settings.hopeless_ceiling,
        vote_floor=settings.vote_floor,
        vote_alpha=settings.vote_alpha,
        hopeless=settings.hopeless,
        fractions=fixed if settings.mode == "fixed" else None,
    )
