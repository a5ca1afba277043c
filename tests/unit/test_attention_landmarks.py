"""What the kernels on a GPU are told of a batch, against the batch itself, pair by pair."""

import pytest
import torch

from pivottrace.attention.reading import find_landmarks

# Left padding and one sequence; three packed ones, right padding; a row of padding alone.
RUNS = torch.tensor([[0, 0, 1, 1, 1, 1, 1, 1], [1, 1, 1, 2, 2, 3, 3, 0], [0] * 8])
PROMPTS = torch.tensor([[3, 0, 0], [2, 1, 0], [5, 5, 5]])  # the third packed one has no question
WIDTH, SINKS = 3, 2


@pytest.mark.parametrize("first", [0, 3])
def test_each_query_picks_the_real_keys_of_its_window_and_its_sinks(first: int) -> None:
    picks = find_landmarks(RUNS, SINKS).picks(first, 8 - first, WIDTH)
    for row, runs in enumerate(RUNS.tolist()):
        for query in range(first, 8):
            own = [key for key in range(8) if runs[key] == runs[query] > 0]
            window = [key if key in own else -1 for key in (query, query - 1, query - 2)]
            sinks = [key if key <= query else -1 for key in (*own[:SINKS], 9, 9)[:SINKS]]
            assert picks[row, :, query - first].tolist() == [*window, *sinks], (row, query)


@pytest.mark.parametrize("first", [0, 3])
def test_each_query_is_told_where_its_question_lies(first: int) -> None:
    landmarks = find_landmarks(RUNS, 0, PROMPTS)
    spans = landmarks.spans(first, 8 - first)
    for row, runs in enumerate(RUNS.tolist()):
        for query in range(first, 8):
            keys = [key for key in range(8) if runs[key] == runs[query] > 0]
            asked = keys[: PROMPTS[row, runs[query] - 1]] if keys else []
            told = (runs[query], asked[0], asked[-1] + 1) if asked else (runs[query] or -1, 8, 0)
            assert spans[:, row, query - first].tolist() == list(told), (row, query)
            seen = [key for key in range(8) if landmarks.asked[row, key] == runs[query] > 0]
            assert seen == asked
