"""The samplers by name, and the function that opens a sampler.

A sampler outside the package needs no line here, because `rollouts.backend` also takes
`package.module:function`. The type `Opener` describes such a function.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from pivottrace.config import Config, ModelConfig, RolloutsConfig
from pivottrace.errors import ConfigError
from pivottrace.models.sampler import Sampler
from pivottrace.plugins import load_part, refuse_unknown

SERVER = "openai"
# The function that opens each sampler, by its name in `rollouts.backend`. A module is imported when
# its sampler is opened, because most are heavy.
BACKENDS = {
    "transformers": "pivottrace.models.generate:open_transformers",
    SERVER: "pivottrace.models.served:open_served",
}

Opener = Callable[[ModelConfig, RolloutsConfig], Sampler]


def sampler_opener(backend: str) -> Opener:
    """The function that opens a sampler.

    Args:
        backend: The value of `rollouts.backend`.

    Raises:
        ConfigError: There is no such sampler, or the reference names no function.
    """
    if backend not in BACKENDS:
        refuse_unknown(backend, BACKENDS, "sampler", "rollouts.backend")
    opener: Opener = load_part(BACKENDS.get(backend, backend), "rollouts.backend")
    if not callable(opener):
        raise ConfigError(
            f"rollouts.backend = {backend!r}: it is a {type(opener).__name__}, not a function. "
            f"Name the function that opens the sampler."
        )
    return opener


def open_sampler(model: ModelConfig, rollouts: RolloutsConfig) -> Sampler:
    """Open the sampler of `rollouts.backend` for one model.

    Raises:
        ConfigError: There is no such sampler.
        ModelError: The model cannot be loaded, or the server cannot be used.
    """
    return sampler_opener(rollouts.backend)(model, rollouts)


def sampler_for(model: ModelConfig, config: Config) -> Sampler:
    """Open the sampler for a model of a run: its own model, or a trained one.

    A server has the weights of `[model]` only. So a trained model is sampled here, by transformers.

    Raises:
        ConfigError: As `open_sampler`.
        ModelError: As `open_sampler`.
    """
    rollouts = config.rollouts
    if rollouts.backend == SERVER and model != config.model:
        print(
            f"note: {rollouts.server.url} serves {config.model.path}, so the trained model is "
            f"sampled here, by transformers",
            file=sys.stderr,
            flush=True,
        )
        rollouts = rollouts.model_copy(update={"backend": "transformers"})
    return open_sampler(model, rollouts)
