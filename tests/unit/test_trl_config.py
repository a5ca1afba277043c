"""What TRL is told: the order of the questions and the layout of a batch."""

from types import SimpleNamespace

import pytest

from pivottrace.config import TrainConfig
from pivottrace.errors import ConfigError
from pivottrace.training.trl_config import batch_layout, cpu_rows, training_order


def test_order_is_whole_passes_and_seeded():
    order = training_order(5, num_steps=7, questions_per_step=3, seed=1)
    assert len(order) == 21
    for start_of_pass in range(0, 20, 5):
        assert sorted(order[start_of_pass : start_of_pass + 5]) == list(range(5))
    assert order == training_order(5, 7, 3, seed=1) != training_order(5, 7, 3, seed=2)
    # More steps go on in the same order.
    assert training_order(5, 9, 3, seed=1)[:21] == order
    assert sorted(training_order(2, 1, 6, seed=0)) == [0, 0, 0, 1, 1, 1]


def test_batch_layout_keeps_groups_whole():
    settings = TrainConfig(questions_per_step=6, num_generations=4)
    assert batch_layout(settings) == (24, 1)
    assert batch_layout(settings, num_processes=3) == (8, 1)
    assert batch_layout(settings, most_rows=16) == (12, 2)
    assert batch_layout(settings.model_copy(update={"micro_batch_size": 2})) == (2, 12)
    with pytest.raises(ConfigError, match=r"5 does not divide the 24 rollouts.*1, 2, 3, 4, 6"):
        batch_layout(settings.model_copy(update={"micro_batch_size": 5}))
    with pytest.raises(ConfigError, match="cannot be shared evenly by 5 processes"):
        batch_layout(settings, num_processes=5)
    with pytest.raises(ConfigError, match=r"6 completions at once.*not a multiple"):
        batch_layout(settings, num_processes=4)  # TRL itself would accept this one


@pytest.mark.parametrize(
    ("layers", "hidden", "rows"),
    [(4, 128, 16), (30, 576, 4), (24, 896, 3), (80, 8192, 1)],
)
def test_the_larger_the_model_the_fewer_rows_of_a_pass_on_a_cpu(layers, hidden, rows):
    shape = SimpleNamespace(num_hidden_layers=layers, hidden_size=hidden)
    config = SimpleNamespace(get_text_config=lambda: shape)
    assert cpu_rows(SimpleNamespace(config=config)) == rows
