"""The learning rate over several rounds, and over one as transformers has it."""

import numpy as np
import pytest
import torch
from transformers import get_scheduler

from pivottrace.config import TrainConfig
from pivottrace.training.trl_config import SCHEDULES, learning_rate_factor


def test_the_learning_rate_falls_over_all_rounds_and_rises_in_each():
    config = TrainConfig(steps=4, warmup_steps=2, schedule="linear")
    first, second = ([learning_rate_factor(config, n, 8, t) for t in range(4)] for n in (0, 4))
    np.testing.assert_allclose(first, [0, 0.5, 1, 5 / 6])
    np.testing.assert_allclose(second, [0, 0.5 * 3 / 6, 2 / 6, 1 / 6])
    constant = config.model_copy(update={"schedule": "constant"})
    assert [learning_rate_factor(constant, 4, 8, t) for t in range(4)] == [0, 0.5, 1, 1]
    assert learning_rate_factor(constant.model_copy(update={"warmup_steps": 0}), 4, 8, 0) == 1


@pytest.mark.parametrize("schedule", ["linear", "constant"])
def test_one_round_has_the_schedule_of_transformers(schedule):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = get_scheduler(SCHEDULES[schedule], optimizer, 3, 9)
    config = TrainConfig(steps=9, warmup_steps=3, schedule=schedule)
    for step in range(9):
        ours = learning_rate_factor(config, 0, 9, step)
        assert ours == pytest.approx(theirs.get_last_lr()[0])
        optimizer.step()
        theirs.step()
