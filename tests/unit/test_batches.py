"""Batches shrink where memory runs out."""

import logging

import pytest
from training_run import NO_MEMORY

from pivottrace.errors import ModelError
from pivottrace.models.batches import in_batches


@pytest.mark.parametrize("error", NO_MEMORY, ids=["cuda", "cpu"])
def test_batches_shrink_once_and_stay_small(error, caplog):
    asked = []

    def work(start, batch):
        asked.append((start, len(batch)))
        if len(batch) > 3:
            raise error
        return [10 * row for row in batch]

    with caplog.at_level(logging.WARNING):
        assert in_batches(range(8), 7, work) == [10 * row for row in range(8)]
    assert asked == [(0, 7), (0, 3), (3, 3), (6, 2)]
    assert "going on with 3 sequences" in caplog.text


@pytest.mark.parametrize("error", NO_MEMORY, ids=["cuda", "cpu"])
def test_one_row_that_does_not_fit_is_an_error_with_its_cure(error):
    def work(start, batch):
        raise error

    with pytest.raises(ModelError, match=r"one sequence at a time: use a smaller model"):
        in_batches(range(5), 4, work)


def test_other_errors_are_not_taken_for_a_lack_of_memory():
    def work(start, batch):
        raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        in_batches(range(5), 4, work)
