"""The requests to `/v1/completions`, and the checks of their replies.

The names follow vLLM 0.32 (`entrypoints/openai/completion/protocol.py`). Every parameter that
changes a response is sent. A server otherwise fills gaps from the model's
`generation_config.json`, and so changes what is sampled.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pivottrace.errors import ModelError
from pivottrace.models.sampler import Sampling
from pivottrace.models.server_client import UnfinishedReply

PATH = "/completions"
SEED_BITS = 52
"""A seed is below 2^52. Readers of JSON that know only float64 keep it, and a server may add the
number of the sample to it."""
UNFINISHED = {"abort", "error", "cancelled"}
"""Values of `finish_reason` of a response that its server ended, for instance when it stops."""

Prompt = Sequence[int]


@dataclass(frozen=True)
class ServedModel:
    """The facts of a model that its requests and replies need.

    Attributes:
        name: Its name at the server.
        end_tokens: Tokens that end a response, by the files of the model here.
        num_tokens: Number of tokens that the model has an embedding of.
    """

    name: str
    end_tokens: Collection[int]
    num_tokens: int


def seeds(prompts: Sequence[Prompt], seed: int) -> Iterator[int]:
    """A seed for each prompt, by the call's seed and the prompt's tokens.

    So a question has the same seed in any place of a call and in any company. The second of two
    equal prompts has another seed than the first.
    """
    times: dict[tuple[int, ...], int] = {}
    for prompt in prompts:
        key = tuple(prompt)
        times[key] = times.get(key, 0) + 1
        digest = hashlib.sha256(json.dumps([seed, times[key], list(key)]).encode()).digest()
        yield int.from_bytes(digest[:8], "big") >> (64 - SEED_BITS)


def request(model: ServedModel, prompt: Prompt, settings: Sampling, seed: int) -> dict[str, Any]:
    """The body of a request for all samples of one prompt."""
    return {
        "model": model.name,
        "prompt": list(prompt),
        "n": settings.num_samples,
        "max_tokens": settings.max_new_tokens,
        "min_tokens": 0,
        "temperature": 0.0 if settings.temperature is None else settings.temperature,
        "top_p": 1.0 if settings.temperature is None else settings.top_p,
        "top_k": -1,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "seed": seed,
        "stop": list(settings.stop),
        "stop_token_ids": sorted(model.end_tokens),
        "ignore_eos": False,
        # The text is read for stop strings only. Special tokens are left out of it, as here.
        "skip_special_tokens": True,
        "include_stop_str_in_output": False,
        "watermarking": False,
        "echo": False,
        "stream": False,
        "return_token_ids": True,
    }


def scoring_request(model: ServedModel, tokens: Prompt) -> dict[str, Any]:
    """The body of a request for the log-probabilities of given tokens."""
    settings = Sampling(num_samples=1, temperature=None, max_new_tokens=1)
    return {**request(model, tokens, settings, seed=0), "prompt_logprobs": 0}


def responses(
    reply: Any, prompt: Prompt, settings: Sampling, model: ServedModel
) -> list[list[int]]:
    """The token ids of each response in a reply, without the token that ended it.

    Raises:
        UnfinishedReply: The server ended a response before its time.
        ModelError: The reply is not what was asked for.
    """
    choices = _choices(reply, prompt, settings.num_samples, model)
    return [_response(choice, settings, model) for choice in choices]


def _choices(reply: Any, prompt: Prompt, number: int, model: ServedModel) -> list[dict[str, Any]]:
    """The choices of a reply by their index, each with token ids and for the prompt as sent."""
    choices = reply.get("choices") if isinstance(reply, dict) else None
    if not isinstance(choices, list) or not all(isinstance(c, dict) for c in choices):
        raise ModelError("the server's reply has no choices. Give the address of a server as vLLM")
    if any(choice.get("finish_reason") in UNFINISHED for choice in choices):
        raise UnfinishedReply("the server ended a response before its time")
    found = sorted(choice.get("index", -1) for choice in choices)
    if found != list(range(number)):
        raise ModelError(
            f"the server gave {len(choices)} responses to a prompt, and {number} were asked for. "
            f"It must know the parameter n of /v1/completions"
        )
    for choice in choices:
        if not isinstance(choice.get("token_ids"), list):
            raise ModelError(
                "the server gives no token ids (token_ids in its choices). Text is not enough: "
                "its tokens cannot be told from it, and tracing would read others. Use vLLM 0.10.2 "
                "or newer, or another server that knows return_token_ids"
            )
        if choice.get("prompt_token_ids") not in (None, list(prompt)):
            raise ModelError(
                f"the server read another prompt than we sent: "
                f"{len(choice['prompt_token_ids'])} tokens in place of {len(prompt)}. It must take "
                f"a prompt as token ids, and must neither cut it nor add tokens"
            )
        _refuse_unknown_tokens(choice["token_ids"], model)
    return sorted(choices, key=lambda choice: choice["index"])


def _refuse_unknown_tokens(tokens: Sequence[Any], model: ServedModel) -> None:
    unknown = next(
        (t for t in tokens if not isinstance(t, int) or not 0 <= t < model.num_tokens), None
    )
    if unknown is not None:
        raise ModelError(
            f"the server gave the token id {unknown!r}, and the model here has only "
            f"{model.num_tokens} tokens. The server has another model: serve that of model.path"
        )


def _response(choice: dict[str, Any], settings: Sampling, model: ServedModel) -> list[int]:
    tokens, finish, limit = (
        choice["token_ids"],
        choice.get("finish_reason"),
        settings.max_new_tokens,
    )
    if len(tokens) > limit:
        raise ModelError(
            f"the server gave a response of {len(tokens)} tokens, and the limit is {limit}"
        )
    if finish == "length" and len(tokens) == limit:
        return list(tokens)
    if finish == "length":
        raise ModelError(
            f"the server cut a response after {len(tokens)} tokens, and the limit is {limit}. "
            f"Start it with a larger --max-model-len, or with --generation-config vllm if the "
            f"model's generation_config.json sets max_new_tokens"
        )
    if finish != "stop":
        raise ModelError(
            f"the server ended a response for the reason {finish!r}, and only an end token, a stop "
            f"string and the limit may end one. Start it without the option that does this"
        )
    if tokens and tokens[-1] in model.end_tokens:
        return list(tokens[:-1])
    if settings.stop and isinstance(choice.get("stop_reason"), str):
        return list(tokens)
    last = tokens[-1] if tokens else "nothing"
    raise ModelError(
        f"the server ended a response with the token {last}, which does not end responses of the "
        f"model here (these end with {sorted(model.end_tokens)}). Serve the same tokenizer and "
        f"generation_config.json as in model.path; the server must keep the end token"
    )


def log_probs(reply: Any, tokens: Prompt, num_last: int, model: ServedModel) -> list[float]:
    """The log-probabilities of the last `num_last` of the tokens that were scored, in nats.

    Raises:
        UnfinishedReply: As `responses`.
        ModelError: The reply does not hold them.
    """
    (choice,) = _choices(reply, tokens, 1, model)
    scored = choice.get("prompt_logprobs")
    if not isinstance(scored, list) or len(scored) != len(tokens):
        raise ModelError(
            "the server gives no log-probabilities of a prompt (prompt_logprobs), so its model "
            "cannot be compared with the model here. Use vLLM"
        )
    at = range(len(tokens) - num_last, len(tokens))
    try:
        return [float(scored[i][str(tokens[i])]["logprob"]) for i in at]
    except (LookupError, TypeError, ValueError) as error:
        raise ModelError(
            "the server's log-probabilities of a prompt (prompt_logprobs) cannot be read"
        ) from error
