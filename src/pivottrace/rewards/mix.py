"""The mix: the route of a row decides its reward, in one function under TRL's reward contract.

TRL repeats every dataset row G times, and gives the reward function each column as a list. A
majority vote is right only if that list holds whole groups, each with its completions next to each
other. `check_group_layout` refuses a batch layout without whole groups, and the reward function
checks the ids that it is given.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from pivottrace.errors import ConfigError, DataError
from pivottrace.rewards.batch_metrics import batch_metrics
from pivottrace.rewards.groups import Group, Rule
from pivottrace.rewards.majority import majority
from pivottrace.rewards.verified import Check, verified_rewards
from pivottrace.rewards.weak import Grouping, Prompt, WeakGroup, WeakResult, WeakReward

Completion = str | list[dict[str, str]]
LogMetric = Callable[[str, float], None]
Observe = Callable[[int, Sequence[Group]], None]
Directions = Callable[[Sequence[tuple[Prompt, Sequence[int]]]], npt.NDArray[np.float32]]
"""A function of N (prompt, completion token ids) that returns (N, d) directions in hidden space."""


class MixedReward(Protocol):
    """A reward function under TRL's contract, over the columns of `TRAINING_ROWS`."""

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
        """(N,) rewards of N = questions x G completions. Each group stands together."""
        ...


def mixed_reward(
    *,
    extract: Callable[[str], str | None],
    check: Check,
    group: Grouping,
    num_generations: int,
    weak: WeakReward | None = None,
    rules: Sequence[Rule] = (),
    observe: Observe | None = None,
    directions: Directions | None = None,
) -> MixedReward:
    """Make the reward function: `annotate` rows are verified, `weak` rows get the weak reward.

    The reward function logs the values of `batch_metrics.batch_metrics` by TRL's `log_metric`.

    Args:
        extract: Reads the answer in a completion's text.
        check: Decides by a label whether answers are right.
        group: Puts the answers of one question into classes.
        num_generations: G.
        weak: Rewards the weak groups of a batch; by default the group's own live majority.
        rules: The run's rules, whose `label` an annotate row is verified by, one after another.
        observe: Called once per batch with the step and its groups, after their rewards are known;
            by default each rule's own `observe`.
        directions: Fills `Group.hidden`. Give it only if a rule reads `hidden`.

    Returns:
        A function that gives every completion a float. It raises DataError if a group is not whole
        (its ids differ), or if a route is neither of the two. It also does so if an `annotate` row
        has no label, or a `weak` row has one. And it does so if the weak reward returns another
        number of rewards than a group has completions.
    """
    weak = weak or majority(group)

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
        columns.update(question_id=question_id, route=route, label=label)
        starts = group_starts(question_id, num_generations)
        spans = [slice(start, start + num_generations) for start in starts]
        step = getattr(columns.get("trainer_state"), "global_step", 0)
        weak_results = _weak_results(weak, step, answers, columns, spans)
        rewards: list[float] = []
        relabelled: set[int] = set()
        for span in spans:
            if span.start in weak_results:
                rewards += weak_results[span.start].rewards
            else:
                truth = bought = _label(columns, span.start)
                for rule in rules:
                    truth = rule.label(question_id[span.start], truth)
                if truth != bought:
                    relabelled.add(span.start)
                rewards += verified_rewards(answers[span], truth, check)
        watched = bool(rules) or observe is not None
        grouping = group if watched else None
        abstained = {
            start
            for start, result in weak_results.items()
            if result.vote is not None and result.vote.winner is None
        }
        groups = _groups(
            answers, rewards, relabelled, abstained, columns, spans, grouping, directions
        )
        if observe is not None:
            observe(step, groups)
        else:
            for rule in rules:
                rule.observe(step, groups)
        if log_metric is not None:
            for name, value in batch_metrics(groups, list(weak_results.values())).items():
                log_metric(name, value)
        return rewards

    return mix


def _weak_results(
    weak: WeakReward,
    step: int,
    answers: Sequence[str | None],
    columns: dict[str, Any],
    spans: Sequence[slice],
) -> dict[int, WeakResult]:
    """The results of the weak groups, by the index of the first row. Every route is checked."""
    groups: dict[int, WeakGroup] = {}
    for span in spans:
        route, question_id = columns["route"][span.start], columns["question_id"][span.start]
        if route == "weak":
            _refuse_truth(columns["label"][span.start], question_id)
            groups[span.start] = WeakGroup(
                question_id,
                answers[span],
                prompt=_at(columns, "prompts", span.start) or "",
                completion_ids=columns.get("completion_ids", ())[span],
                pseudo_label=_at(columns, "pseudo_label", span.start),
                rewrite=_at(columns, "rewrite", span.start),
            )
        elif route != "annotate":
            raise DataError(
                f"training row {question_id!r}: route is {route!r}; only annotate and weak rows "
                f"are trained on"
            )
    # The live model is asked once for all weak groups. Without weak groups it is not asked.
    results = weak(step, list(groups.values())) if groups else []
    for group, result in zip(groups.values(), results, strict=True):
        _refuse_other_number(result, group)
    return dict(zip(groups, results, strict=True))


def _groups(
    answers: Sequence[str | None],
    rewards: Sequence[float],
    relabelled: set[int],
    abstained: set[int],
    columns: dict[str, Any],
    spans: Sequence[slice],
    group: Grouping | None,
    directions: Directions | None,
) -> list[Group]:
    """The groups for the rules. Without `group` no rule looks, so answers are not compared."""
    ids = columns.get("completion_ids", ())
    hidden = None  # or (N, d)
    if directions is not None:
        hidden = directions(list(zip(columns["prompts"], ids, strict=True)))
    return [
        Group(
            question_id=columns["question_id"][span.start],
            route=columns["route"][span.start],
            answers=tuple(answers[span]),
            classes=tuple(group(answers[span])) if group else (),
            rewards=tuple(rewards[span]),
            num_tokens=tuple(len(tokens) for tokens in ids[span]),
            relabelled=span.start in relabelled,
            abstained=span.start in abstained,
            hidden=None if hidden is None else hidden[span],
        )
        for span in spans
    ]


def _at(columns: dict[str, Any], name: str, index: int) -> Any:
    """A cell of a column; None if the batch does not have the column."""
    column = columns.get(name)
    return None if column is None else column[index]


def completion_text(completion: Completion) -> str:
    """The text of a completion, plain or conversational (TRL's list of one assistant message)."""
    if isinstance(completion, str):
        return completion
    return "".join(message["content"] for message in completion)


def group_starts(question_ids: Sequence[str], num_generations: int) -> range:
    """The start of each group, after a check that every group holds one question only.

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
                f"({', '.join(sorted(ids))}). The {num_generations} completions of a group must be "
                f"next to each other, so leave the trainer's own sampler in place"
            )
    return starts


def check_group_layout(
    per_device_train_batch_size: int, steps_per_generation: int, num_generations: int
) -> None:
    """Refuse a layout in which one process could hold a part of a group.

    TRL only requires whole groups over all processes together. A vote needs whole groups in each
    process.

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


def _label(columns: dict[str, Any], start: int) -> str:
    label: str | None = columns["label"][start]
    if label is None:
        raise DataError(
            f"training row {columns['question_id'][start]!r}: route is annotate but there is no "
            f"label. Import its label, or route it again"
        )
    return label


def _refuse_other_number(result: WeakResult, group: WeakGroup) -> None:
    # Rewards are joined over groups: a missing reward would shift all later groups.
    if len(result.rewards) != len(group.answers):
        raise DataError(
            f"training row {group.question_id!r}: weak.reward gave {len(result.rewards)} rewards "
            f"for {len(group.answers)} completions; it must return one number per completion"
        )


def _refuse_truth(label: str | None, question_id: str) -> None:
    if label is not None:
        raise DataError(
            f"training row {question_id!r}: a weak row carries a label. Leave the label null, so "
            f"that no hidden truth is in the training process"
        )
