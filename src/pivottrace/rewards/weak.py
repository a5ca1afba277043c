"""Weak rewards: their record, the groups that they judge, and the live model as they may ask it.

A reward is a pure function of one group, in the file of its name. Beside it, the file has the
function that meets the live model, and the record. The live model answers for a whole batch at
once: with further answers, or with statistics of the tokens.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from pivottrace.rewards.token_statistics import TokenStatistics
from pivottrace.verifier.answers import Vote

Prompt = str | list[dict[str, str]]


@dataclass(frozen=True)
class WeakGroup:
    """One question's completions, to be rewarded without a label.

    Attributes:
        question_id: The question's.
        answers: (G,) extracted; None where a completion gave none.
        prompt: As TRL has it: chat messages, or plain text for a model without a chat template.
        completion_ids: (G,) token ids of each completion.
        pseudo_label: The stored vote, where the rows carry one.
        rewrite: The same question in other words, as it is put to the model.
    """

    question_id: str
    answers: Sequence[str | None]
    prompt: Prompt = ""
    completion_ids: Sequence[Sequence[int]] = ()
    pseudo_label: str | None = None
    rewrite: Prompt | None = None


@dataclass(frozen=True)
class WeakResult:
    """A group's rewards (G,), the vote behind them, if any, and the samples taken for it.

    Attributes:
        rewards: (G,).
        vote: None without a vote.
        extra_rollouts: Completions sampled in addition, which are not trained on.
        extra_tokens: Their tokens.
    """

    rewards: list[float]
    vote: Vote | None = None
    extra_rollouts: int = 0
    extra_tokens: int = 0


@dataclass(frozen=True)
class Sampled:
    """Further answers to one question (None where a completion gave none), and their tokens."""

    answers: list[str | None]
    num_tokens: int = 0


WeakReward = Callable[[int, Sequence[WeakGroup]], list[WeakResult]]
"""(step, groups of a batch) to one result per group."""
Equal = Callable[[str, str], bool]
Ask = Callable[[int, Sequence[tuple[str, Prompt]]], list[Sampled]]
"""(step, (question_id, prompt) of Q questions) to Q samples; the same again for the same step."""
ReadTokens = Callable[[Sequence[tuple[Prompt, Sequence[int]]]], list[TokenStatistics]]
"""N (prompt, completion) pairs to N statistics, by the model as it is."""
AskMany = Callable[[int, Sequence[tuple[str, Prompt]], int], list[Sampled]]
"""As `Ask`, with the number of answers per question."""


@dataclass(frozen=True)
class Tools:
    """The parts of a training that a weak reward may use.

    Attributes:
        equal: Whether two answers are the same.
        ask: Asks the policy as it is now.
        ask_teacher: Asks the slow teacher. Only a reward that needs it may call it.
        read_tokens: Reads statistics of tokens, by the policy as it is now.
        num_generations: G, the completions per question that are trained on.
        num_votes: Answers that vote: `weak.vote_size`, or G.
        least_margin: Lead that a winner needs, as a share of the votes, in [0, 1].
    """

    equal: Equal
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
            and perhaps more (`group`), or only other answers (`others`).
        make: Builds the reward for one training.
    """

    name: str
    title: str
    needs: Literal["answers", "pseudo_label", "rewrite", "teacher", "tokens"]
    votes: Literal["none", "group", "others"]
    make: Callable[[Tools], WeakReward]
