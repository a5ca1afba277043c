"""The model in training, as rewards ask it for further answers, statistics and directions.

Everything here uses the weights of that moment, in eval mode and without gradients. It leaves the
mode of the model and the random numbers of the training as they were. Prompts come in TRL's form
and are tokenised as training tokenises them. One process holds the whole model, because sharded
weights are not supported.

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
from pivottrace.models.rendering import render_prompts
from pivottrace.models.sampler import Sampling
from pivottrace.models.teacher import SlowTeacher
from pivottrace.rewards.token_statistics import TokenStatistics
from pivottrace.rewards.weak import Prompt, Sampled

Completions = Sequence[tuple[Prompt, Sequence[int]]]


class Policy:
    """The model in training, as rewards ask it.

    Args:
        model: The causal language model that is being trained, in place.
        tokenizer: The tokenizer of the model, padding on the left.
        extract: Reads the answer in a completion's text.
        pool: How prompts are rendered.
        temperature: Temperature of further samples, the same as in training.
        max_new_tokens: Limit of a further sample, in tokens.
        stop: Strings that end a further sample.
        batch_size: Sequences at once.
        seed: Seeds further samples, together with the step and the ids of the questions.
        teacher: A moving average of the model, for `ask_teacher`; None if no reward asks a teacher.
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

        The samples are seeded by (seed, step, question ids), so that a resumed run gets the same
        samples. A prompt that is empty or leaves no room for a response is not asked, and gets no
        answers.
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
        asked = (prompt for _, prompt in questions)
        prompts = render_prompts(self.tokenizer, asked, self._pool)
        with undisturbed(self.model):
            return [self._read(asked) for asked in ask(sampler, prompts, settings)]

    def _read(self, asked: Asked) -> Sampled:
        """The answers in a prompt's responses, and the number of tokens of all its responses."""
        answers = [self._extract(response.text) for response in asked.responses]
        return Sampled(answers, sum(len(response.tokens) for response in asked.responses))

    def ask_teacher(
        self, step: int, questions: Sequence[tuple[str, Prompt]], count: int
    ) -> list[Sampled]:
        """Like `ask`, but the slow teacher answers."""
        if self.teacher is None:
            raise ValueError("this policy was made without a teacher")
        with self.teacher.in_place():
            return self.ask(step, questions, count)

    # Given completions ------------------------------------------------------------------------

    def token_statistics(self, completions: Completions) -> list[TokenStatistics]:
        """Statistics of the tokens of N (prompt, token ids), at temperature 1.

        Each batch takes one forward pass of the decoder. Logits are made and reduced in chunks.
        """

        def read(batch: Batch, output: Any) -> list[TokenStatistics]:
            signals = signals_from_hidden(self.model, output, *response_rows(batch))
            sizes = [len(response) for response in batch.responses]
            # Three columns (tokens of all completions,), split into a (T,) part per completion.
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

        The states are the states that produced the completion's tokens, after the decoder's last
        norm. A completion without tokens gets the zero vector.
        """

        def read(batch: Batch, output: Any) -> list[npt.NDArray[np.float32]]:
            states = output.last_hidden_state.float()  # (B, S, d)
            # (B, d); a sum points the same way as a mean.
            sums = torch.stack([states[row, span].sum(dim=0) for row, span in batch.places])
            return list(torch.nn.functional.normalize(sums, dim=-1).cpu().numpy())

        return np.stack(self._forward(completions, read))

    def _forward(self, completions: Completions, read: Callable[[Batch, Any], list[Any]]) -> Any:
        """Run the decoder over completions of similar length together, and `read` each batch."""
        given = (prompt for prompt, _ in completions)
        prompts = render_prompts(self.tokenizer, given, self._pool)
        pairs = [(prompt, list(ids)) for prompt, (_, ids) in zip(prompts, completions, strict=True)]
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

    Eval mode is needed because, with gradient checkpointing, a model in training mode generates
    without a cache.
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
    """A seed for further samples, in [0, 2^31). The same step and questions give the same seed."""
    text = repr((seed, step, list(question_ids)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1
