"""The choices of a configuration, in the terms of the parts that they name."""

from __future__ import annotations

from pivottrace.config import Config
from pivottrace.config.named_parts import RANKINGS
from pivottrace.errors import ConfigError
from pivottrace.estimators import ESTIMATORS, Estimator, load_estimator
from pivottrace.routing.routes import TriageOptions
from pivottrace.schemas import scores_schema, votes_schema

# Votes are added only while training would see each row so many times. Chosen on development seeds
# (docs/results/practice.md): labelled rows alone, seen 3.5 times, did better than rows seen once
# with votes beside them.
VISITS = 4

# Names that no estimator of a user may have: the other columns of its table, and the rankings.
TAKEN = {*RANKINGS, *scores_schema(()).names, *votes_schema(()).names}


def estimators_of(config: Config) -> dict[str, Estimator]:
    """The estimators of a run by name: the package's estimators, and the user's own estimator.

    Raises:
        ConfigError: The user's estimator cannot be loaded, or its name is taken.
    """
    own = _own_estimator(config)
    return ESTIMATORS if own is None else ESTIMATORS | {own.name: own}


def table_of(estimator: Estimator) -> str:
    """The table with an estimator's column: `votes` if the estimator needs samples."""
    return "votes" if estimator.shares_rollouts else "scores"


def estimators_in(table: str, config: Config) -> dict[str, Estimator]:
    """The estimators of a run that are columns of the table `scores` or `votes`, by name."""
    return {name: e for name, e in estimators_of(config).items() if table_of(e) == table}


def driving_estimator(config: Config) -> str:
    """The name of the estimator that ranks the pool.

    Raises:
        ConfigError: The user's estimator cannot be loaded, or its name is taken.
    """
    if config.score.estimator in RANKINGS:  # the probes of a combination lie along the pivots
        return pivot_estimator(config)
    own = _own_estimator(config)
    return config.score.estimator if own is None else own.name


def pivot_estimator(config: Config) -> str:
    """The name of the run's pivot estimator, by the reading and the statistic of `[pivots]`."""
    return f"{config.pivots.reading}_{config.pivots.statistic}"


def own_reference(config: Config) -> str | None:
    """The user's estimator as `package.module:name`; None if the run has none."""
    return config.score.estimator if ":" in config.score.estimator else None


def _own_estimator(config: Config) -> Estimator | None:
    reference = own_reference(config)
    if reference is None:
        return None
    own = load_estimator(reference, "score.estimator")
    if own.name in TAKEN:
        raise ConfigError(
            f"score.estimator = {reference!r}: {own.name!r} is the name of another column or of a "
            f"ranking. Give your estimator another name."
        )
    return own


def triage_options(config: Config) -> TriageOptions:
    """The triage's thresholds."""
    settings = config.triage
    fixed = (settings.annotate_fraction, settings.discard_fraction)
    return TriageOptions(
        least_gain=settings.least_gain,
        least_label_gain=settings.least_label_gain,
        most_rows=most_rows(config),
        vote_floor=settings.vote_floor,
        vote_alpha=settings.vote_alpha,
        hopeless=settings.hopeless,
        fractions=fixed if settings.mode == "fixed" else None,
    )


def most_rows(config: Config) -> int:
    """The number of rows from which on no further vote is trained on."""
    places = config.train.steps * config.train.questions_per_step
    return config.triage.most_rows or max(1, places // VISITS)
