"""The start of a round: its model, its seeds, and its share of the steps and of the budget."""

from __future__ import annotations

from pivottrace.config import ModelConfig, TrainConfig
from pivottrace.routing.shares import label_cap, round_steps
from pivottrace.run.directory import RunDir
from pivottrace.run.part_work import part_seed


def all_rounds(run: RunDir) -> list[RunDir]:
    """The run in each of its rounds, in order. If an alarm ended a training, its round is the last.

    Without training there is only the first round.
    """
    num = run.config.rounds.num if run.config.train.enabled else 1
    rounds = [run.in_round(index) for index in range(num)]
    ended = (i for i, r in enumerate(rounds) if r.stage_facts("train").get("stopped"))
    return rounds[: next(ended, num) + 1]


def current_round(run: RunDir) -> RunDir:
    """The current round: the first round without a finished training, else the last round."""
    rounds = all_rounds(run)
    return next((r for r in rounds if not r.is_done("train")), rounds[-1])


def latest_round(run: RunDir, stage: str) -> RunDir:
    """The last round in which a stage has finished, else the first round."""
    return next((r for r in reversed(all_rounds(run)) if r.is_done(stage)), run.in_round(0))


def last_trained(run: RunDir) -> RunDir | None:
    """The last round that has trained a model; None before any has."""
    trained = (r for r in reversed(all_rounds(run)) if r.stage_facts("train").get("trained"))
    return next(trained, None)


def is_last_round(run: RunDir) -> bool:
    """Whether no round comes after this one."""
    return run.round_index + 1 >= len(all_rounds(run))


def start_model(run: RunDir) -> ModelConfig:
    """The model that makes a round's rollouts and that its training starts from.

    In the first round it is the run's own model, later the last trained model. With `num` rounds,
    the start model of `run.in_round(num)` is the final model of the run.
    """
    for index in reversed(range(run.round_index)):
        earlier = run.in_round(index)
        if earlier.stage_facts("train").get("trained"):
            path = str(earlier.round_path / "train" / "model")
            return run.config.model.model_copy(update={"path": path, "revision": None})
    return run.config.model


def round_seed(run: RunDir) -> int:
    """Seed of a round's sampling and order of rows. The first round takes the run's own seed."""
    if run.round_index == 0:
        return run.config.seed
    return part_seed(run.config.seed, "round", run.round_index)


def train_settings(run: RunDir) -> TrainConfig:
    """The training's settings for a round: its share of the steps, and the limit of responses.

    Raises as `round_steps`.
    """
    steps = round_steps(run.config.train.steps, run.config.rounds.num)[run.round_index]
    own = {"steps": steps, "max_new_tokens": run.config.longest_in_training}
    return run.config.train.model_copy(update=own)


def steps_before(run: RunDir) -> int:
    """Training steps of the rounds before this one. Raises as `round_steps`."""
    return sum(round_steps(run.config.train.steps, run.config.rounds.num)[: run.round_index])


def labels_by_then(run: RunDir, allowed: int, num_probes: int) -> int:
    """Labels of `allowed` that may be bought by the end of this round. Raises as `label_cap`."""
    if run.config.rounds.spend == "at_once" or is_last_round(run):
        return allowed
    return label_cap(allowed, num_probes, run.round_index, run.config.rounds.num)


def name_for_trackers(run: RunDir) -> str:
    """The name of this training in a tracker, which shows the trainings of many runs.

    The folder `train` has the same name in every run, so we take the name of the run.
    """
    name = run.path.resolve().name
    return f"{name}-round-{run.round_index}" if run.config.rounds.num > 1 else name
