"""One token per row, drawn by its probability."""

import pytest
import torch

from pivottrace.models.drawing import draw

NEVER = -torch.inf


@pytest.mark.parametrize("size", [5, 50_000])
def test_tokens_come_as_often_as_their_probabilities_say(size):
    """Shares in 20,000 rows of the last four tokens and of all others; other scores are far off."""
    torch.manual_seed(0)
    scores = torch.full((size,), -4.0 - torch.tensor(float(size)).log())
    scores[-4:] = torch.tensor([0.0, 1.0, -1.0, 2.0])
    expected = scores.softmax(-1)
    tokens = torch.cat([draw(scores.expand(500, size)) for _ in range(40)])
    for token in range(size - 4, size):
        share = (tokens == token).float().mean()
        assert (share - expected[token]).abs() < 5 * (0.25 / 20_000) ** 0.5
    rest = (tokens < size - 4).float().mean()
    assert (rest - expected[:-4].sum()).abs() < 5 * (0.25 / 20_000) ** 0.5


@pytest.mark.parametrize("number", [0.0, 0.5, 1 - 2**-24])
@pytest.mark.parametrize("size", [4, 50_000])
def test_a_token_that_cannot_come_is_never_drawn(monkeypatch, number, size):
    monkeypatch.setattr(torch, "rand_like", lambda like: torch.full_like(like, number))
    torch.manual_seed(0)
    scores = torch.randn(64, size)
    cannot = torch.rand(64, size) < 0.5
    cannot[:, :2] = cannot[:, -2:] = torch.tensor([True, False])
    cannot[::2, -2:] = cannot[::2, -2:].flip(1)
    cannot[::3, :2] = cannot[::3, :2].flip(1)
    tokens = draw(scores.masked_fill(cannot, NEVER))
    assert not cannot.gather(1, tokens[:, None]).any()


def test_a_row_without_numbers_has_a_token_of_the_vocabulary_and_harms_no_other():
    scores = torch.zeros(3, 7)
    scores[1] = torch.nan
    scores[2, :6] = NEVER
    tokens = draw(scores)
    assert 0 <= int(tokens[1]) < 7
    assert int(tokens[2]) == 6
