"""Counts of answers: questions with equal counts share a pattern, and nothing is lost by it."""

import answer_pools
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pivottrace.errors import DataError
from pivottrace.routing.answer_counts import answer_counts, from_patterns


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.integers(0, 40))
def test_each_question_gets_its_own_counts_back(seed: int, size: int) -> None:
    class_counts, greedy, samples = answer_pools.some_lists(np.random.default_rng(seed), size)
    counts = answer_counts(class_counts, greedy, samples)
    keys = set(zip(map(tuple, class_counts), greedy, samples, strict=True))
    assert counts.sizes.shape[0] == len(keys)
    for i in range(size):
        sizes, place, number = answer_pools.one_of(counts, i)
        unsampled = [0] if greedy[i] == len(class_counts[i]) else []
        assert (sizes, place, number) == (class_counts[i] + unsampled, greedy[i], samples[i])
        p = counts.pattern[i]
        agreeing = sizes[place] if place >= 0 else 0
        assert counts.agreeing[p] == agreeing
        assert counts.is_unanimous[p] == (0 < number == agreeing)
        assert counts.has_winner[p] == bool(
            class_counts[i] and class_counts[i].count(class_counts[i][0]) == 1
        )
        assert counts.is_greedy[p].sum() == (place >= 0)
        assert counts.is_class[p].sum() == len(sizes)
    chosen = np.random.default_rng(seed).permutation(size)[: size // 2]
    some = counts.rows(chosen)
    assert [answer_pools.one_of(some, j) for j in range(chosen.size)] == [
        answer_pools.one_of(counts, i) for i in chosen
    ]


def test_impossible_counts_are_refused() -> None:
    for sizes, greedy, samples, message in (
        ((1, 3), 0, 4, r"class_counts \[1, 3\] of 4 samples"),
        ((3, 2), 0, 4, "add up to at most the samples"),
        ((4, 0), 0, 4, "sizes above 0"),
        ((3, 1), 3, 4, "greedy_class 3 is impossible with 2 classes"),
        ((3, 1), -2, 4, "greedy_class -2"),
    ):
        with pytest.raises(DataError, match=message):
            from_patterns([0], [(sizes, greedy, samples)])
    with pytest.raises(ValueError, match="longer"):
        answer_counts([[4]], [0, 0], [4])
