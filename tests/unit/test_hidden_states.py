"""Paths through the layers against `output_hidden_states`, one sequence at a time and unpadded."""

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from architectures import VOCABULARY, build_model

from pivottrace.attention.hidden_states import PathRecorder
from pivottrace.attention.tracing import trace_responses
from pivottrace.signals.layer_path import LayerPath

pytestmark = pytest.mark.usefixtures("one_thread")

# Responses of many tokens, few, one and none.
LENGTHS = ((5, 30), (25, 4), (12, 1), (8, 0))
# Embeddings that are scaled or added to positions, norms before and after, experts, latent heads.
FAMILIES = ("Llama", "Qwen3", "GPT2", "GPTNeoX", "Gemma2", "Olmo2", "Qwen3Moe", "DeepseekV3")
CLOSE = {"rtol": 2e-4, "atol": 2e-5}


def make_sequences() -> list[tuple[list[int], list[int]]]:
    generator = np.random.default_rng(4)
    draw = [[generator.integers(2, VOCABULARY, size).tolist() for size in p] for p in LENGTHS]
    return [(prompt, response) for prompt, response in draw]


def angle(a: np.ndarray, b: np.ndarray) -> float:
    return math.acos(np.clip(a @ b / np.linalg.norm(a) / np.linalg.norm(b), -1.0, 1.0))


@torch.no_grad()
def naive(model: Any, prompt: list[int], response: list[int]) -> LayerPath:
    output = model(torch.tensor([prompt + response]), output_hidden_states=True, use_cache=False)
    rows = slice(len(prompt) - 1, len(prompt) + len(response) - 1)
    states = [layer[0, rows].double().mean(dim=0).numpy() for layer in output.hidden_states]
    steps = [after - before for before, after in pairwise(states)]
    return LayerPath(
        np.array([np.linalg.norm(step) for step in steps]),
        np.array([angle(a, b) for a, b in pairwise(states)]),
        np.array([angle(a, b) for a, b in pairwise(steps)]),
        float(np.linalg.norm(states[-1] - states[0])),
        angle(states[0], states[-1]),
    )


def assert_close(found: LayerPath | None, expected: LayerPath) -> None:
    assert found is not None
    for name, values in vars(expected).items():
        np.testing.assert_allclose(getattr(found, name), values, **CLOSE, err_msg=name)


@pytest.mark.parametrize("layout", ["left", "right", "packed"])
@pytest.mark.parametrize("family", FAMILIES)
def test_paths_equal_those_of_all_hidden_states(family: str, layout: str) -> None:
    model = build_model(family)
    sequences = make_sequences()
    traced = trace_responses(model, sequences, layout=layout)
    for signals, (prompt, response) in zip(traced[:-1], sequences[:-1], strict=True):
        expected = naive(model, prompt, response)
        assert len(expected.step_lengths) == 3 and len(expected.turn_angles) == 2
        assert_close(signals.layer_path, expected)
    empty = traced[-1].layer_path
    assert empty is not None and empty.step_lengths.shape == (3,)
    assert all(np.isnan(values).all() for values in vars(empty).values())


@pytest.mark.parametrize("layout", ["left", "right", "packed"])
def test_batch_size_does_not_matter_and_nothing_is_left_behind(layout: str) -> None:
    model = build_model("Llama")
    sequences = make_sequences()
    together = trace_responses(model, sequences, layout=layout)
    for index, sequence in enumerate(sequences[:-1]):
        (alone,) = trace_responses(model, [sequence], layout=layout)
        path = together[index].layer_path
        assert path is not None
        assert_close(alone.layer_path, path)
    assert not any(layer._forward_pre_hooks for layer in model.model.layers)


@pytest.mark.parametrize("layout", ["left", "right", "packed"])
def test_a_bad_sequence_has_no_path_and_spoils_no_other(layout: str) -> None:
    model = build_model("Llama")
    sequences = make_sequences()
    clean = trace_responses(model, sequences, layout=layout)
    with torch.no_grad():
        model.get_input_embeddings().weight[0] = torch.nan
    bad = (sequences[0][0], [7, 0, 9])
    *others, failed = trace_responses(model, [*sequences[:-1], bad], layout=layout)
    for ours, theirs in zip(others, clean, strict=False):
        assert theirs.layer_path is not None
        assert_close(ours.layer_path, theirs.layer_path)
    assert failed.layer_path is not None
    assert all(np.isnan(values).all() for values in vars(failed.layer_path).values())


def test_half_precision_is_averaged_in_double() -> None:
    model = build_model("Llama").to(torch.bfloat16)
    prompt, response = make_sequences()[0]
    (signals,) = trace_responses(model, [(prompt, response)])
    expected = naive(model, prompt, response)
    assert signals.layer_path is not None
    np.testing.assert_allclose(signals.layer_path.step_lengths, expected.step_lengths, rtol=0.02)


def test_layers_that_cannot_be_found_leave_no_path(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model = build_model("Llama")
    monkeypatch.setattr(
        "pivottrace.attention.hidden_states.decoder_of", lambda model: model.lm_head
    )
    (signals,) = trace_responses(model, make_sequences()[:1])
    assert signals.layer_path is None
    assert np.isfinite(signals.entropy).all()
    assert "LlamaForCausalLM: no list of 3 layers was found" in caplog.text


def test_states_of_several_streams_leave_no_path() -> None:
    recorder = PathRecorder([(0, slice(0, 2))])
    for _ in range(3):
        recorder.add(torch.randn(4, 1, 2, 8))
    assert recorder.results() == [None]


def test_angles_are_exact_near_zero() -> None:
    recorder = PathRecorder([(0, slice(0, 1))])
    for tilt in (0.0, 1e-9, 3e-9):
        recorder.add(torch.tensor([[[1.0, tilt]]], dtype=torch.float64))
    (path,) = recorder.results()
    assert path is not None
    np.testing.assert_allclose(path.step_angles, [1e-9, 2e-9], rtol=1e-6)
    np.testing.assert_allclose(path.turn_angles, [0.0], atol=1e-9)
