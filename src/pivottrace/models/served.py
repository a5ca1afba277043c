"""The sampler whose model runs behind a server with the API of OpenAI and token ids, as vLLM.

Prompts are rendered and responses are read here, so the server only turns token ids into token ids.
Tracing needs the same model here. So it is loaded once, compared with the server's (`canary`), and
released before the server is asked for the rollouts.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any

import torch

from pivottrace.config import ModelConfig, RolloutsConfig, ServerConfig
from pivottrace.errors import ConfigError
from pivottrace.models import completions
from pivottrace.models.canary import Canary, release_canary
from pivottrace.models.completions import ServedModel
from pivottrace.models.digests import digests
from pivottrace.models.load import load_model, max_positions, stop_token_ids
from pivottrace.models.sampler import Sampling
from pivottrace.models.server_client import ServerClient
from pivottrace.models.weights import refuse_unknown_tokens

QUIET_S = 5.0
"""Seconds without a call after which the server may be another one. No server restarts faster."""


class ServedSampler:
    """A `Sampler` over a server.

    Args:
        server: The settings of the server.
        config: The settings of the model here.
        model: The model here. It is released after the comparison with the model of the server.
        tokenizer: Its tokenizer.

    Raises:
        ConfigError: The server refuses us, or has no model of that name.
        ModelError: The server stays away.
    """

    def __init__(
        self, server: ServerConfig, config: ModelConfig, model: Any, tokenizer: Any
    ) -> None:
        self.tokenizer = tokenizer
        self._config, self._model = config, model
        self._client = ServerClient(server)
        about = about_server(self._client)
        dtype = str(model.dtype).removeprefix("torch.")
        self._facts: dict[str, Any] = {
            **digests(model, tokenizer),
            "dtype": dtype,
            "server": about,
        }
        limits = (max_positions(model.config), about["max_model_len"])
        self.max_positions = min((limit for limit in limits if limit is not None), default=None)
        self._served = ServedModel(
            about["model"],
            frozenset(stop_token_ids(model, tokenizer)),
            model.get_input_embeddings().weight.shape[0],
        )
        self._canary: Canary | None = None
        self._last_call = 0.0

    def facts(self) -> dict[str, Any]:
        """Facts of the model here and of the server; after the comparison, `canary` too."""
        return dict(self._facts)

    def sample(self, prompts: Sequence[Sequence[int]], settings: Sampling) -> list[list[list[int]]]:
        """See `Sampler.sample`. `batch_size` has no use here.

        The first call compares the server's model with the model here. It is compared again after a
        pause between calls. If the server was away during a call, it is compared once more before
        the responses are given.

        Raises:
            ConfigError: The server refuses a request.
            ModelError: The server stays away, has another model, or gives no token ids.
        """
        if not prompts:
            return []
        if self._canary is None:
            self._canary = self._compare(prompts, settings)
        elif time.monotonic() - self._last_call > QUIET_S:
            self._canary.compare(self._client, self._served)
        outages = self._client.outages
        asked = zip(prompts, completions.seeds(prompts, settings.seed), strict=True)
        found = self._client.post_all(
            completions.PATH,
            [completions.request(self._served, p, settings, seed) for p, seed in asked],
            lambda i, reply: completions.responses(reply, prompts[i], settings, self._served),
        )
        if self._client.outages > outages:
            self._canary.compare(self._client, self._served)
        self._last_call = time.monotonic()
        return found

    def _compare(self, prompts: Sequence[Sequence[int]], settings: Sampling) -> Canary:
        refuse_unknown_tokens(self._model, self.tokenizer, prompts)
        canary = release_canary(
            self._client, self._served, prompts, settings, self._model, self._config
        )
        self._facts["canary"] = found = canary.compare(self._client, self._served)
        print(
            f"the server's model is {self._config.path}: over {found['num_tokens']} tokens their "
            f"log-probabilities differ by {found['mean_difference']:.4f} nats on average",
            file=sys.stderr,
            flush=True,
        )
        self._model = None  # a caller that still needs it has its own reference
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return canary


def open_served(model: ModelConfig, rollouts: RolloutsConfig) -> ServedSampler:
    """Open the server of `rollouts.server`, and load the model here for the comparison.

    Raises:
        ConfigError: The server refuses us, or has no model of that name.
        ModelError: The server stays away, or the model cannot be loaded.
    """
    return ServedSampler(rollouts.server, model, *load_model(model))


def about_server(client: ServerClient) -> dict[str, Any]:
    """The facts that the server gives of itself.

    Returns:
        `model`, its name at the server; `root`, where the server has it from; `max_model_len`, the
        longest sequence in tokens; `version` of the server. The last three are None if unsaid.

    Raises:
        ConfigError: The server has no model, or none of the name in the settings, or several and
            the settings name none.
        ModelError: The server stays away.
    """
    listed = client.get("/models")
    cards = listed.get("data") if isinstance(listed, dict) else None
    by_name = {card["id"]: card for card in cards or [] if isinstance(card, dict) and "id" in card}
    wanted, url = client.server.model, client.url
    names = ", ".join(map(repr, sorted(by_name))) or "no model"
    if wanted is None and len(by_name) != 1:
        raise ConfigError(
            f"{url} serves {names}. Name the model in rollouts.server.model, or serve one."
        )
    if wanted is not None and wanted not in by_name:
        raise ConfigError(
            f"rollouts.server.model = {wanted!r}: {url} serves {names}. Give one of its names."
        )
    card = by_name[wanted] if wanted is not None else next(iter(by_name.values()))
    return {
        "model": card["id"],
        "root": card.get("root"),
        "max_model_len": card.get("max_model_len"),
        "version": _version(client),
    }


def _version(client: ServerClient) -> str | None:
    """The version of the server, as vLLM gives it beside the API; None from other servers."""
    try:
        found = client.get("//version")
    except ConfigError:
        return None
    return found.get("version") if isinstance(found, dict) else None
