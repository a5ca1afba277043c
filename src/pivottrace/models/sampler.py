"""The seam to every generator: prompts as token ids go in, responses as token ids come out.

A new sampler touches two files: a module of its own, with a class that follows `Sampler` and a
function that opens it, and one line of `models.backends.BACKENDS`. Nothing here needs torch.
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
        top_p: Nucleus in (0, 1]; 1 keeps every token. There is no top-k and no penalty, and the
            model's own generation defaults are not taken over.
        max_new_tokens: Limit of a response, in tokens.
        stop: Strings that end a response.
        batch_size: Sequences at once, at most.
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
    """One response, read.

    Attributes:
        tokens: Token ids, without the token that ended the response.
        text: The tokens decoded, special tokens left out, cut before a stop string.
        finish: `stop` (end of sequence or stop string) or `length` (cut at the limit).
    """

    tokens: list[int]
    text: str
    finish: Literal["stop", "length"]


class Sampler(Protocol):
    """A model that responds, wherever it runs."""

    @property
    def tokenizer(self) -> Any:
        """The model's Hugging Face tokenizer: prompts are rendered and responses read by it."""

    @property
    def max_positions(self) -> int | None:
        """The longest sequence that the model takes, in tokens; None where nothing says."""

    def facts(self) -> dict[str, Any]:
        """The facts of the model that a run records.

        Returns:
            `model_digest` and `tokenizer_digest`, as far as they are known: a later stage that
            finds others refuses the model. Anything else is for people to read.
        """

    def sample(self, prompts: Sequence[Sequence[int]], settings: Sampling) -> list[list[list[int]]]:
        """Sample responses.

        Args:
            prompts: (N,) token ids of each. No prompt is empty, and each leaves room for
                `settings.max_new_tokens`.
            settings: How.

        Returns:
            (N, `settings.num_samples`) token ids of each response, without the token that ended it.
            A stop string stays in.

        Raises:
            ModelError: The model cannot respond.
        """
