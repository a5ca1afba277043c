"""The slow teacher of Co-rewarding: a moving average of the weights that are trained."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from pivottrace.errors import ModelError

FILE = "slow_teacher.safetensors"


class SlowTeacher:
    """Follows a model in training: `w <- decay w + (1 - decay) w_model`, once per step.

    It starts with the model's weights at the first call of `follow`. It holds only the weights that
    are trained, in their own dtype. With adapters, these are the adapters. The decay goes from its
    first value to its last along half a cosine, as in the authors' code:

        1 - decay(t) = a_1 + (a_0 - a_1) (1 + cos(pi t / T)) / 2

    The authors' code has a_0 = 0.01 and a_1 = 1e-5 (arXiv 2508.00410).

    Args:
        model: The model that is trained, in place.
        decay: Decay in the first step, in [0, 1).
        decay_end: Decay in the last step.
        num_steps: T, the number of steps.
    """

    def __init__(
        self, model: Any, *, decay: float = 0.99, decay_end: float = 0.99999, num_steps: int = 1
    ) -> None:
        self._model = model
        self._decay, self._decay_end, self._num_steps = decay, decay_end, num_steps
        self._weights: dict[str, torch.Tensor] = {}
        self._last_step = -1

    def decay_at(self, step: int) -> float:
        """The decay of a step, which counts from 0."""
        first, last = 1.0 - self._decay, 1.0 - self._decay_end
        share = min(step / self._num_steps, 1.0)
        return 1.0 - (last + (first - last) * (1.0 + math.cos(math.pi * share)) / 2.0)

    def follow(self, step: int) -> None:
        """Take a step towards the model's weights, unless the same step was taken before."""
        if step <= self._last_step:
            return
        self._last_step = step
        decay, weights = self.decay_at(step), self._held()
        with torch.no_grad():
            for name, parameter in self._trained():
                weights[name].lerp_(parameter, 1.0 - decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Put the teacher's weights into the model inside the block, without copying any."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def save(self, folder: Path) -> None:
        """Write the weights and the step into `folder`, as safetensors."""
        save_file(self._held(), folder / FILE, metadata={"step": str(self._last_step)})

    def load(self, folder: Path) -> None:
        """Read the weights and the step that `save` wrote.

        Raises:
            ModelError: There is no such file, or it belongs to another model.
        """
        path = folder / FILE
        if not path.is_file():
            raise ModelError(f"{path} is missing: delete the checkpoints, and train again")
        with safe_open(path, framework="pt") as file:
            names, metadata = set(file.keys()), file.metadata()
            if names != {name for name, _ in self._trained()}:
                raise ModelError(f"{path} is of another model: delete it, and train again")
            self._weights = {
                name: file.get_tensor(name).to(parameter.device)
                for name, parameter in self._trained()
            }
        self._last_step = int(metadata["step"])

    def _trained(self) -> list[tuple[str, torch.nn.Parameter]]:
        return [(n, p) for n, p in self._model.named_parameters() if p.requires_grad]

    def _held(self) -> dict[str, torch.Tensor]:
        """The teacher's weights. The first call copies them from the model."""
        if not self._weights:
            self._weights = {name: p.detach().clone() for name, p in self._trained()}
        return self._weights

    def _swap(self) -> None:
        weights = self._held()
        for name, parameter in self._trained():
            parameter.data, weights[name] = weights[name], parameter.data
