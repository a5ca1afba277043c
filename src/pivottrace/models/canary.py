"""The model behind a server is compared with the model here, before anything is spent.

The weights of a server cannot be read. So a few greedy responses of the server are scored twice,
by the server and by the model here, which traces. Equal weights give equal log-probabilities, up
to rounding. Other weights, a quantised copy, another number format of the cache or another scaling
of positions show as a difference.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from pivottrace.config import ModelConfig, ServerConfig
from pivottrace.errors import ModelError
from pivottrace.models import completions
from pivottrace.models.completions import ServedModel
from pivottrace.models.sampler import Sampling
from pivottrace.models.server_client import ServerClient

NUM_PROMPTS = 8
MOST_TOKENS = 64
"""Longest response that is scored: 8 of them give a mean over up to 512 tokens."""
TOLERANCES = {"float32": 0.001}
"""Greatest mean difference in nats, by `model.dtype`. On the embedded model two sides in float32
differ by less than 0.000001, and bfloat16 on one side by 0.003 (docs/results/serving.md)."""
TOLERANCE = 0.02
"""The same where either side may be in half precision. A copy in four bits differs by 0.03, and a
model that was trained for 90 steps by 0.03 to 0.06."""


@dataclass(frozen=True)
class Canary:
    """Texts to be scored by the server, with the scores of the model here.

    Attributes:
        texts: (N,) token ids of prompt and response.
        expected: (N,) log-probabilities of the tokens of each response, by the model here.
        allowed: Greatest mean difference, in nats.
        path: The model here, for messages.
    """

    texts: list[list[int]]
    expected: list[list[float]]
    allowed: float
    path: str

    def compare(self, client: ServerClient, model: ServedModel) -> dict[str, Any]:
        """Let the server score the texts, and compare.

        Returns:
            Facts to record: `num_tokens` and `mean_difference`, the mean absolute difference of
            the tokens' log-probabilities in nats, at least 0; 0 is best.

        Raises:
            ModelError: The mean is not at most what is allowed, or the server gives no scores.
        """
        numbers = [len(values) for values in self.expected]
        scores = client.post_all(
            completions.PATH,
            [completions.scoring_request(model, text) for text in self.texts],
            lambda i, reply: completions.log_probs(reply, self.texts[i], numbers[i], model),
        )
        differences = [
            abs(theirs - ours)
            for given, expected in zip(scores, self.expected, strict=True)
            for theirs, ours in zip(given, expected, strict=True)
        ]
        mean = math.fsum(differences) / max(1, len(differences))
        if not mean <= self.allowed:  # NaN is refused too
            raise ModelError(
                f"{client.url}: the server has another model than {self.path}. The "
                f"log-probabilities of {len(differences)} tokens differ by {mean:.4f} nats on "
                f"average, and at most {self.allowed:g} is allowed. Other weights, a quantised "
                f"copy, another scaling of positions or other token ids show like this. Serve "
                f"the model of model.path as it is; if the difference is meant, set "
                f"rollouts.server.tolerance."
            )
        return {"num_tokens": len(differences), "mean_difference": round(mean, 6)}


def release_canary(
    client: ServerClient,
    served: ServedModel,
    prompts: Sequence[Sequence[int]],
    settings: Sampling,
    model: Any,
    config: ModelConfig,
) -> Canary:
    """Take greedy responses of the server and score them with the model here.

    Args:
        client: The server.
        served: The model at the server.
        prompts: (N,) prompts that are to be asked. Eight of them are taken, from the shortest to
            the longest, because some differences show in long texts only.
        settings: Sampling of the prompts, for the limit and the stop strings.
        model: The model here.
        config: The settings of the model here.

    Raises:
        ConfigError: The server refuses the request.
        ModelError: The server stays away, or its reply is not what was asked for.
    """
    chosen = spread(prompts, NUM_PROMPTS)
    # A server that scores a text adds one token, so the text must leave room for it.
    longest = min(MOST_TOKENS, settings.max_new_tokens - 1)
    greedy = replace(settings, num_samples=1, temperature=None, max_new_tokens=max(1, longest))
    found = client.post_all(
        completions.PATH,
        [completions.request(served, prompt, greedy, seed=0) for prompt in chosen],
        lambda i, reply: completions.responses(reply, chosen[i], greedy, served)[0],
    )
    texts, expected = [], []
    for prompt, response in zip(chosen, found, strict=True):
        kept = response[:longest]
        text = [*prompt, *kept]
        if len(text) > 1:  # the first token of a text has no score
            texts.append(text)
            # If the response is empty, the last token of the prompt is scored.
            expected.append(_log_probs(model, text, len(kept) or 1))
    return Canary(texts, expected, tolerance(client.server, config), config.path)


def spread(prompts: Sequence[Sequence[int]], number: int) -> list[list[int]]:
    """At most `number` of the prompts, from the shortest to the longest in even steps."""
    ordered = sorted(map(list, prompts), key=len)
    last = len(ordered) - 1
    places = sorted({round(last * i / max(1, number - 1)) for i in range(number)})
    return [ordered[place] for place in places]


def tolerance(server: ServerConfig, model: ModelConfig) -> float:
    """The greatest mean difference that is allowed, in nats."""
    return server.tolerance or TOLERANCES.get(model.dtype, TOLERANCE)


@torch.inference_mode()
def _log_probs(model: Any, text: Sequence[int], num_last: int) -> list[float]:
    """Log-probabilities of the last tokens of a text, in nats."""
    ids = torch.tensor([list(text)], device=model.device)  # (1, T)
    logits = model(ids, use_cache=False).logits[0, -num_last - 1 : -1]  # (num_last, V)
    scores = logits.float().log_softmax(dim=-1)
    found: list[float] = scores.gather(-1, ids[0, -num_last:, None])[:, 0].tolist()
    return found
