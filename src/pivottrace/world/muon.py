"""Muon in float32: orthogonalised momentum, for the matrices of a small model on a CPU.

Source: Keller Jordan's Muon (2024), with its coefficients. `torch.optim.Muon` does the same in
bfloat16, which takes as long as the rest of the step on a CPU without bfloat16 instructions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch

MOMENTUM, ITERATIONS = 0.95, 5
A, B, C = 3.4445, -4.7750, 2.0315


class Muon(torch.optim.Optimizer):
    """Take steps of size `lr` for a gradient of any size; for 2-D parameters only."""

    def __init__(self, matrices: Iterable[torch.nn.Parameter], lr: float):
        super().__init__(list(matrices), {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:
        """Update every matrix that has a gradient; `closure` is not supported."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state: dict[str, Any] = self.state[weight]
                average = state.setdefault("average", torch.zeros_like(weight))
                average.lerp_(weight.grad, 1 - MOMENTUM)
                update = orthogonalise(weight.grad.lerp(average, MOMENTUM))
                rows, columns = weight.shape
                weight.add_(update, alpha=-group["lr"] * max(1.0, rows / columns) ** 0.5)


def orthogonalise(matrix: torch.Tensor) -> torch.Tensor:
    """Return the nearest matrix with singular values near 1 (quintic Newton-Schulz iteration)."""
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / (x.norm() + 1e-7)
    # Each iteration moves the singular values of x, (rows <= columns), towards 1.
    for _ in range(ITERATIONS):
        gram = x @ x.T
        x = A * x + (B * gram + C * gram @ gram) @ x
    return x.T if tall else x
