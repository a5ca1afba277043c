"""The mix: a row's route decides its reward, in one function under TRL's reward contract.

TRL repeats every dataset row G times in a row and hands the reward function each column as a list.
A majority vote is right only if a whole group is in that list, next to each other:
`check_group_layout` refuses a batch layout where it is not, and the reward function looks at the
ids that it is given.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Any, Protocol

from pivottrace.errors import ConfigError, DataError
from pivottrace.rewards.majority import majority_rewards
from pivottrace.rewards.verified import Check, verified_rewards

Completion = str | list[dict[str, str]]
LogMetric = Callable[[str, float], None]


class MixedReward(Protocol):
    """TRL's contract of a reward function, over the columns of `TRAINING_ROWS`."""

    def __call__(
        self,
        *,
        completions: Sequence[Completion],
        question_id: Sequence[str],
        route: Sequence[str],
        label: Sequence[str | None],
        log_metric: LogMetric | None = None,
        **columns: Any,
    ) -> list[float]:
        """(N,) rewards of N = questions x G completions, groups next to each other."""
        ...


def mixed_reward(
    *,
    extract: Callable[[str], str | None],
    check: Check,
    equal: Callable[[str, str], bool],
    num_generations: int,
) -> MixedReward:
    """Make the reward function: `annotate` rows are verified, `weak` rows vote.

    It logs, through TRL's `log_metric`, means over the rows (or groups) of a batch:
    `reward/annotate` and `reward/weak` in [0, 1]; `vote_share`, the winning class's share of its
    group; `vote_abstained`, the share of weak groups without a winner; `answered`, the share of
    completions with an answer. A route that is not in a batch logs nothing.

    Args:
        extract: Reads the answer off a completion.
        check: Decides whether answers are right by a label.
        equal: Decides whether two answers are the same.
        num_generations: G.

    Returns:
        A function that gives every completion a float; it raises DataError where a group is not
        whole (the ids in it differ), where a route is neither of the two, where an `annotate` row
        has no label, and where a `weak` row has one.
    """

    def mix(
        *,
        completions: Sequence[Completion],
        question_id: Sequence[str],
        route: Sequence[str],
        label: Sequence[str | None],
        log_metric: LogMetric | None = None,
        **columns: Any,
    ) -> list[float]:
        answers = [extract(completion_text(completion)) for completion in completions]
        rewards: list[float] = []
        metrics: dict[str, list[float]] = defaultdict(list)
        for start in group_starts(question_id, num_generations):
            group = answers[start : start + num_generations]
            if route[start] == "annotate":
                group_rewards = verified_rewards(group, _label(label, start, question_id), check)
            elif route[start] == "weak":
                _refuse_truth(label[start], question_id[start])
                group_rewards, vote = majority_rewards(group, equal)
                metrics["vote_share"].append(vote.share)
                metrics["vote_abstained"].append(float(vote.winner is None))
            else:
                raise DataError(
                    f"training row {question_id[start]!r}: route is {route[start]!r}; only "
                    f"annotate and weak rows are trained on"
                )
            rewards += group_rewards
            metrics[f"reward/{route[start]}"] += group_rewards
        metrics["answered"] = [float(answer is not None) for answer in answers]
        if log_metric is not None:
            for name, values in metrics.items():
                log_metric(name, fmean(values))
        return rewards

    return mix


def completion_text(completion: Completion) -> str:
    """The text of a completion, plain or conversational (TRL's list of one assistant message)."""
    if isinstance(completion, str):
        return completion
    return "".join(message["content"] for message in completion)


def group_starts(question_ids: Sequence[str], num_generations: int) -> range:
    """Where each group begins, once every group is known to hold one question only.

    Raises:
        DataError: The batch is not made of whole groups.
    """
    if len(question_ids) % num_generations:
        raise DataError(
            f"{len(question_ids)} completions are not whole groups of {num_generations}: make "
            f"per_device_train_batch_size x steps_per_generation a multiple of num_generations"
        )
    starts = range(0, len(question_ids), num_generations)
    for start in starts:
        ids = set(question_ids[start : start + num_generations])
        if len(ids) > 1:
            raise DataError(
                f"completions {start} to {start + num_generations - 1} belong to several questions "
                f"({', '.join(sorted(ids))}): a group's {num_generations} completions must be next "
                f"to each other, so leave the trainer's own sampler in place"
            )
    return starts


def check_group_layout(
    per_device_train_batch_size: int, steps_per_generation: int, num_generations: int
) -> None:
    """Refuse a layout in which one process could hold a part of a group.

    TRL asks for whole groups over all processes together only; a vote needs them on each.

    Raises:
        ConfigError: The completions that one process generates at once are not whole groups.
    """
    local = per_device_train_batch_size * steps_per_generation
    if local % num_generations:
        raise ConfigError(
            f"each process generates {local} completions at once (per_device_train_batch_size "
            f"{per_device_train_batch_size} x steps_per_generation {steps_per_generation}), which "
            f"is not a multiple of train.num_generations = {num_generations}, so votes would see "
            f"parts of groups. Make train.questions_per_step a multiple of the number of processes."
        )


def _label(labels: Sequence[str | None], start: int, question_id: Sequence[str]) -> str:
    label = labels[start]
    if label is None:
        raise DataError(
            f"training row {question_id[start]!r}: route is annotate but there is no label; "
            f"import its label, or route it again"
        )
    return label


def _refuse_truth(label: str | None, question_id: str) -> None:
    if label is not None:
        raise DataError(
            f"training row {question_id!r}: a weak row carries a label; leave it null, so that no "
            f"hidden truth is in the training process"
        )
