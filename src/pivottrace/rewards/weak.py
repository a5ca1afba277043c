"""Weak rewards: their record, the groups that they judge, and their access to the live model.

The file of a reward holds a pure function of one group, the function that asks the live model, and
the record. The live model is asked once for a whole batch. It gives further answers, or statistics
of the tokens.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from pivottrace.rewards.token_statistics import TokenStatistics
from pivottrace.verifier.answers import Vote

Prompt = str | list[dict[str, str]]


@dataclass(frozen=True)
class WeakGroup:
    """One question's completions, which are rewarded without a label.

    Attributes:
        question_id: Id of the question.
        answers: (G,) extracted answers; None for a completion without an answer.
        prompt: The prompt in TRL's form: chat messages, or plain text for a model without a chat
            template.
        completion_ids: (G,) token ids of each completion.
        pseudo_label: The stored vote; None if the row has no stored vote.
        rewrite: The rewritten question, as it is put to the model; None if the row has no rewrite.
    """

    question_id: str
    answers: Sequence[str | None]
    prompt: Prompt = ""
    completion_ids: Sequence[Sequence[int]] = ()
    pseudo_label: str | None = None
    rewrite: Prompt | None = None


@dataclass(frozen=True)
class WeakResult:
    """A group's rewards, with the vote and the number of further samples behind them.

    Attributes:
        rewards: (G,) rewards, higher is better.
        vote: The vote that decided the rewards; None if no vote was taken.
        extra_rollouts: Number of completions sampled in addition, which are not trained on.
        extra_tokens: Number of tokens of these completions.
    """

    rewards: list[float]
    vote: Vote | None = None
    extra_rollouts: int = 0
    extra_tokens: int = 0


@dataclass(frozen=True)
class Sampled:
    """Further answers to one question, and the number of tokens of their completions.

    An answer is None for a completion without an answer.
    """

    answers: list[str | None]
    num_tokens: int = 0


WeakReward = Callable[[int, Sequence[WeakGroup]], list[WeakResult]]
"""A function of the step and of the groups of a batch that returns one result per group."""
Equal = Callable[[str, str], bool]
"""Whether an answer is right by a truth, in this order."""
Grouping = Callable[[Sequence[str | None]], list[int]]
"""A function of the (N,) answers of one question that returns their (N,) classes, -1 for none."""
Ask = Callable[[int, Sequence[tuple[str, Prompt]]], list[Sampled]]
"""A function of the step and of (question_id, prompt) of Q questions that returns Q `Sampled`.

The same step and questions give the same answers."""
ReadTokens = Callable[[Sequence[tuple[Prompt, Sequence[int]]]], list[TokenStatistics]]
"""A function of N (prompt, completion) pairs that returns N statistics, by the current model."""
AskMany = Callable[[int, Sequence[tuple[str, Prompt]], int], list[Sampled]]
"""Like `Ask`, with the number of answers per question as a further argument."""


@dataclass(frozen=True)
class Tools:
    """The parts of a training that a weak reward may use.

    Attributes:
        equal: Whether an answer is right by a truth, in this order.
        group: The classes of the answers of one question, for a vote; -1 for no answer.
        ask: Asks the current policy.
        ask_teacher: Asks the slow teacher. Only a reward that needs it may call it.
        read_tokens: Reads statistics of tokens, by the current policy.
        num_generations: G, the completions per question that are trained on.
        num_votes: Number of answers that vote: `weak.vote_size`, or G.
        least_margin: Lead that a winner needs, as a share of the votes, in [0, 1].
    """

    equal: Equal
    group: Grouping
    ask: AskMany
    ask_teacher: AskMany
    read_tokens: ReadTokens
    num_generations: int
    num_votes: int
    least_margin: float


@dataclass(frozen=True)
class Reward:
    """A reward of weak rows.

    Attributes:
        name: The name in settings.
        title: A few words on the reward, for people.
        needs: The input beyond a group's own answers: nothing (`answers`), the stored vote
            (`pseudo_label`), the question in other words (`rewrite`), a slow teacher (`teacher`),
            or the model's distributions (`tokens`).
        votes: The answers that vote during training: no answers (`none`), the group's own answers
            and perhaps others (`group`), or only other answers (`others`).
        make: Builds the reward for one training.
    """

    name: str
    title: str
    needs: Literal["answers", "pseudo_label", "rewrite", "teacher", "tokens"]
    votes: Literal["none", "group", "others"]
    make: Callable[[Tools], WeakReward]
