"""The arms and seeds that an experiment lacks, and the order in which they are run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pivottrace.errors import ConfigError
from pivottrace.experiments.definition import BASE, Experiment
from pivottrace.experiments.forking import STAGES, shared_stages
from pivottrace.experiments.results import is_clustered, refuse_other_settings, stored_facts
from pivottrace.run.progress import in_words


@dataclass(frozen=True)
class Job:
    """An arm or the base, and a seed."""

    name: str
    seed: int


def missing_jobs(
    experiment: Experiment, arms: Sequence[str] | None, seeds: Sequence[int] | None
) -> list[Job]:
    """Return the missing jobs in order; the base of a seed comes before the previous seed's arms.

    Raises:
        ConfigError: An arm or seed is unknown, or a result was made with other settings.
    """
    chosen = [experiment.arm(name) for name in arms] if arms else list(experiment.arms)
    unknown = set(seeds or ()) - set(experiment.seeds)
    if unknown:
        raise ConfigError(
            f"{experiment.path}: seed {min(unknown)} is not among {list(experiment.seeds)}"
        )
    by_seed = {
        seed: [
            Job(arm.name, seed)
            for arm in chosen
            if seed in arm.seeds and not is_finished(experiment, arm.name, seed)
        ]
        for seed in experiment.seeds
        if not seeds or seed in seeds
    }
    order = [
        seed
        for seed, lacking in by_seed.items()
        if lacking
        # The base is needed too if all arms are finished, because they are of no use without it.
        or (any(seed in arm.seeds for arm in chosen) and not is_finished(experiment, BASE, seed))
    ]
    jobs: list[Job] = []
    for index, seed in enumerate(order):
        for ahead in order[index : index + 2]:
            base = Job(BASE, ahead)
            if base not in jobs and not _base_is_there(experiment, ahead):
                jobs.append(base)
        jobs += by_seed[seed]
    return jobs


def is_finished(experiment: Experiment, name: str, seed: int) -> bool:
    """Return whether an arm or the base has its results, on all further held-out questions too.

    Raises the errors of `missing_jobs`.
    """
    views = (experiment, *map(experiment.elsewhere, experiment.also_evaluate))
    return all(has_result(view, name, seed) for view in views)


def has_result(experiment: Experiment, name: str, seed: int) -> bool:
    """Return whether an arm or the base has its result here. Raises like `missing_jobs`."""
    facts = stored_facts(experiment, name, seed)
    if facts is None:
        return False
    refuse_other_settings(experiment, name, seed, facts)
    return name != BASE or is_clustered(experiment, facts)


def _base_is_there(experiment: Experiment, seed: int) -> bool:
    """Return whether the base has its result and its run directory, which copied results lack."""
    manifest = experiment.run_path(BASE, seed) / "manifest.json"
    return is_finished(experiment, BASE, seed) and manifest.is_file()


def sharing(experiment: Experiment, jobs: Sequence[Job]) -> Iterator[str]:
    """Yield a line for each arm that does not take over all stages of the base."""
    for name in dict.fromkeys(job.name for job in jobs if job.name != BASE):
        seed = experiment.seeds[0]
        config = experiment.config(experiment.arm(name), seed)
        shared = shared_stages(experiment.base_config(seed), config)
        whole = (*STAGES, "evaluate_before")
        own = ", ".join(in_words(stage) for stage in whole if stage not in shared)
        if own:
            yield f"{name}: not all of the base's settings, so it makes {own} itself"
