"""The interface of every sampler. It takes prompts and gives responses, both as token ids.

A new sampler touches two files. Its own module holds a class that follows `Sampler`, and a function
that opens the sampler. One line of `models.backends.BACKENDS` names that function. Nothing here
needs torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How responses are sampled.

    Attributes:
        num_samples: Responses per prompt.
        temperature: Above 0; None decodes greedily.
        top_p: Nucleus in (0, 1]; 1 keeps every token. There is no top-k and no penalty. The
            model's own generation defaults are ignored.
        max_new_tokens: Limit of a response, in tokens.
        stop: Strings that end a response.
        batch_size: Greatest number of sequences at once.
        seed: The same seed, prompts and settings give the same responses.
    """

    num_samples: int
    temperature: float | None
    top_p: float = 1.0
    max_new_tokens: int
    stop: tuple[str, ...] = ()
    batch_size: int = 64
    seed: int = 0


@dataclass(frozen=True)
class Response:
    """One response with its text.

    Attributes:
        tokens: Token ids, without the token that ended the response.
        text: The decoded tokens without special tokens. The text is cut before a stop string.
        finish: `stop` (end of sequence or stop string) or `length` (cut at the limit).
    """

    tokens: list[int]
    text: str
    finish: Literal["stop", "length"]


class Sampler(Protocol):
    """A model that responds, wherever it runs."""

    @property
    def tokenizer(self) -> Any:
        """The model's Hugging Face tokenizer, which renders prompts and reads responses."""

    @property
    def max_positions(self) -> int | None:
        """The longest sequence that the model takes, in tokens; None if it is not known."""

    def facts(self) -> dict[str, Any]:
        """Facts of the model, which a run records. It is called often, so it must be fast.

        Returns:
            `model_digest` and `tokenizer_digest`, as far as they are known. A later stage refuses
            a model with other digests. Further entries are for people to read, and may come with
            the first samples.
        """

    def sample(self, prompts: Sequence[Sequence[int]], settings: Sampling) -> list[list[list[int]]]:
        """Sample responses.

        Args:
            prompts: (N,) token ids of each prompt. No prompt is empty, and each leaves room for
                `settings.max_new_tokens`.
            settings: How to sample.

        Returns:
            (N, `settings.num_samples`) token ids of each response, without the token that ended it.
            The tokens of a stop string are kept.

        Raises:
            ModelError: The model cannot respond.
        """
