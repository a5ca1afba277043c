"""The live model, as rewards ask it: further answers, statistics, directions.

Everything here looks at the model as it is at that moment, in eval mode and without gradients, and
leaves its mode and the training's random numbers as they were. Prompts come in TRL's form and are
tokenised as training does. One process holds the whole model: sharded weights are not supported.

Axes: N completions, T tokens, d the model's hidden size.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from pivottrace.attention.batch import Batch, decoder_inputs, make_batch, response_rows
from pivottrace.attention.next_token import decoder_of, signals_from_hidden
from pivottrace.config import PoolConfig
from pivottrace.models.asking import Asked, ask
from pivottrace.models.batches import in_batches
from pivottrace.models.generate import TransformersSampler
from pivottrace.models.rendering import render_prompt
from pivottrace.models.sampler import Sampling
from pivottrace.models.teacher import SlowTeacher
from pivottrace.rewards.token_statistics import TokenStatistics
from pivottrace.rewards.weak import Prompt, Sampled

Completions = Sequence[tuple[Prompt, Sequence[int]]]


class Policy:
    """The live model, as rewards ask it.

    Args:
        model: The causal language model that is being trained, in place.
        tokenizer: Its tokenizer, padding on the left.
        extract: Reads the answer off a completion.
        pool: How prompts are rendered.
        temperature: Temperature of further samples, as in training.
        max_new_tokens: Limit of a further sample.
        stop: Strings that end one.
        batch_size: Sequences at once.
        seed: Of further samples, together with the step and the questions asked.
        teacher: A moving average of the model, which `ask_teacher` asks; None without one.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        extract: Callable[[str], str | None],
        pool: PoolConfig | None = None,
        temperature: float = 1.0,
        max_new_tokens: int = 1024,
        stop: Sequence[str] = (),
        batch_size: int = 256,
        seed: int = 0,
        teacher: SlowTeacher | None = None,
    ) -> None:
        self.model, self.tokenizer, self.teacher = model, tokenizer, teacher
        self._extract, self._pool = extract, pool or PoolConfig()
        self._temperature, self._max_new_tokens = temperature, max_new_tokens
        self._stop, self._batch_size, self._seed = tuple(stop), batch_size, seed

    # Further answers --------------------------------------------------------------------------

    def ask(self, step: int, questions: Sequence[tuple[str, Prompt]], count: int) -> list[Sampled]:
        """Sample `count` answers to each (question_id, prompt).

        Seeded by (seed, step, question ids), so that a resumed run gets the same. A prompt that
        is empty or leaves no room for a response is not asked, and has no answers.
        """
        settings = Sampling(
            num_samples=count,
            temperature=self._temperature,
            max_new_tokens=self._max_new_tokens,
            stop=self._stop,
            batch_size=self._batch_size,
            seed=sampling_seed(self._seed, step, [name for name, _ in questions]),
        )
        sampler = TransformersSampler(self.model, self.tokenizer)
        prompts = [render_prompt(self.tokenizer, prompt, self._pool) for _, prompt in questions]
        with undisturbed(self.model):
            return [self._read(asked) for asked in ask(sampler, prompts, settings)]

    def _read(self, asked: Asked) -> Sampled:
        """The answers of a prompt's responses, and how many tokens those have together."""
        answers = [self._extract(response.text) for response in asked.responses]
        return Sampled(answers, sum(len(response.tokens) for response in asked.responses))

    def ask_teacher(
        self, step: int, questions: Sequence[tuple[str, Prompt]], count: int
    ) -> list[Sampled]:
        """As `ask`, but the slow teacher answers."""
        if self.teacher is None:
            raise ValueError("this policy was made without a teacher")
        with self.teacher.in_place():
            return self.ask(step, questions, count)

    # Completions that are there -----------------------------------------------------------------

    def token_statistics(self, completions: Completions) -> list[TokenStatistics]:
        """Statistics of the tokens of N (prompt, token ids) by the model, at temperature 1.

        One forward of the decoder a batch; logits are made and reduced a chunk at a time.
        """

        def read(batch: Batch, output: Any) -> list[TokenStatistics]:
            signals = signals_from_hidden(self.model, output, *response_rows(batch))
            sizes = [len(response) for response in batch.responses]
            columns = [
                torch.split(column.double().cpu(), sizes)
                for column in (signals.entropy, signals.log_prob, signals.self_certainty)
            ]
            return [
                TokenStatistics(*(part.numpy() for part in parts))
                for parts in zip(*columns, strict=True)
            ]

        return self._forward(completions, read)

    def directions(self, completions: Completions) -> npt.NDArray[np.float32]:
        """(N, d) unit vectors along the mean final hidden state of each completion.

        The states produced its tokens and come after the decoder's last norm. An empty completion
        has 0.
        """

        def read(batch: Batch, output: Any) -> list[npt.NDArray[np.float32]]:
            states = output.last_hidden_state.float()
            sums = torch.stack([states[row, span].sum(dim=0) for row, span in batch.places])
            return list(torch.nn.functional.normalize(sums, dim=-1).cpu().numpy())

        return np.stack(self._forward(completions, read))

    def _forward(self, completions: Completions, read: Callable[[Batch, Any], list[Any]]) -> Any:
        """Run the decoder over completions of like length together, and `read` each batch."""
        pairs = [
            (render_prompt(self.tokenizer, prompt, self._pool), list(ids))
            for prompt, ids in completions
        ]
        order = sorted(range(len(pairs)), key=lambda i: sum(map(len, pairs[i])))

        def work(start: int, indices: Sequence[int]) -> list[Any]:
            sequences = [pairs[i] for i in indices]
            batch = make_batch(self.model, sequences, "right", self.tokenizer.pad_token_id)
            return read(batch, decoder_of(self.model)(**decoder_inputs(self.model, batch)))

        results: list[Any] = [None] * len(pairs)
        with torch.no_grad(), undisturbed(self.model):
            for index, result in zip(order, in_batches(order, self._batch_size, work), strict=True):
                results[index] = result
        return results


@contextmanager
def undisturbed(model: Any) -> Iterator[None]:
    """Put a model into eval mode inside the block, and leave torch's random numbers as they are.

    (With gradient checkpointing a model in training mode generates without a cache.)
    """
    was_training = model.training
    devices = [model.device] if model.device.type == "cuda" else []
    model.eval()
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        model.train(was_training)


def sampling_seed(seed: int, step: int, question_ids: Sequence[str]) -> int:
    """A seed for further samples: the same for the same step and questions, in [0, 2^31)."""
    text = repr((seed, step, list(question_ids)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1
