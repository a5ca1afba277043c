"""Traced signals against eager attention's own matrices, one sequence at a time and unpadded."""

import math

import numpy as np
import pytest
import torch
import transformers

from pivottrace.attention.token_signals import TokenSignals
from pivottrace.attention.tracing import profile_heads, trace_responses
from pivottrace.errors import ConfigError, DataError, ModelError

pytestmark = pytest.mark.usefixtures("one_thread")

VOCABULARY = 61
WINDOW = 10
SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "max_position_embeddings": 128,
    "initializer_range": 0.25,
}
ARCHITECTURES = {
    "llama": ("Llama", {"num_attention_heads": 4, "num_key_value_heads": 2}),
    "qwen3": ("Qwen3", {"num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 16}),
    "qwen2": ("Qwen2", {"num_attention_heads": 4, "num_key_value_heads": 1}),
    # Absolute positions: padding that shifts them shows.
    "gpt2": ("GPT2", {"num_attention_heads": 4}),
    # The two below go through the chunked path: a window shorter than the sequences, soft-capping.
    "mistral": (
        "Mistral",
        {"num_attention_heads": 4, "num_key_value_heads": 2, "sliding_window": 14},
    ),
    "gemma2": (
        "Gemma2",
        {
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 8,
            "sliding_window": 14,
            "attn_logit_softcapping": 3.0,
            "final_logit_softcapping": 5.0,
            "query_pre_attn_scalar": 4,
        },
    ),
    # Not asked of this path by name: learned sinks, values narrower than keys.
    "gpt_oss": (
        "GptOss",
        {
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 8,
            "sliding_window": 14,
            "num_local_experts": 4,
            "num_experts_per_tok": 2,
        },
    ),
    "deepseek_v3": (
        "DeepseekV3",
        {
            "num_attention_heads": 4,
            "num_key_value_heads": 4,
            "q_lora_rank": 16,
            "kv_lora_rank": 8,
            "qk_nope_head_dim": 8,
            "qk_rope_head_dim": 8,
            "v_head_dim": 8,
            "n_routed_experts": 4,
            "num_experts_per_tok": 2,
            "n_group": 1,
            "topk_group": 1,
            "moe_intermediate_size": 16,
        },
    ),
}
FIELDS = (
    "far_mass",
    "far_mass_all",
    "waad",
    "entropy",
    "log_prob",
    "self_certainty",
    "question_mass",
    "head_far_mass",
)
# Prompts from one token up, shorter and longer than the window; responses of none, one and many.
LENGTHS = ((1, 30), (3, 7), (25, 40), (12, 1), (8, 0), (1, 1), (40, 12))


def build_model(name: str, **overrides: object) -> transformers.PreTrainedModel:
    family, shape = ARCHITECTURES[name]
    config = getattr(transformers, f"{family}Config")(**(SHAPE | shape | overrides))
    torch.manual_seed(7)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    if name == "gpt_oss":
        for layer in model.model.layers:
            torch.nn.init.normal_(layer.self_attn.sinks)
    return model


@pytest.fixture(scope="module")
def llama() -> transformers.PreTrainedModel:
    return build_model("llama")


def make_sequences(lengths: tuple[tuple[int, int], ...] = LENGTHS) -> list:
    generator = np.random.default_rng(3)
    return [
        tuple(generator.integers(1, VOCABULARY, size=size).tolist() for size in pair)
        for pair in lengths
    ]


@torch.no_grad()
def reference(model: transformers.PreTrainedModel, prompt: list, response: list) -> dict:
    """Read the definitions off the whole matrix of eager attention, with loops."""
    model.set_attn_implementation("eager")
    ids = torch.tensor([prompt + response])
    output = model(ids, output_attentions=True, use_cache=False)
    matrices = torch.stack(output.attentions)[:, 0].double().numpy()  # (L, H, T, T)
    log_probs = output.logits[0].double().log_softmax(-1).numpy()
    model.set_attn_implementation("sdpa" if model._supports_sdpa else "eager")

    rows = range(len(prompt) - 1, len(prompt) + len(response) - 1)
    far = np.zeros((*matrices.shape[:2], len(response)))
    waad, question = np.zeros_like(far), np.zeros_like(far)
    for index, t in enumerate(rows):
        for s in range(t + 1):
            if t - s >= WINDOW and s != 0:
                far[:, :, index] += matrices[:, :, t, s]
            waad[:, :, index] += min(t - s, WINDOW) * matrices[:, :, t, s]
            if 0 < s < len(prompt):
                question[:, :, index] += matrices[:, :, t, s]
    tops = [np.sort(output.logits[0, t].numpy())[-2:] for t in rows]
    return {
        "far": far,
        "waad": waad,
        "question": question,
        "self_certainty": np.array([-math.log(VOCABULARY) - log_probs[t].mean() for t in rows]),
        "entropy": np.array([-(np.exp(log_probs[t]) * log_probs[t]).sum() for t in rows]),
        "log_prob": np.array([log_probs[t, y] for t, y in zip(rows, response, strict=True)]),
        "margin": min((float(top[1] - top[0]) for top in tops), default=math.inf),
    }


def assert_matches(traced: TokenSignals, expected: dict, tolerance: float = 1e-5) -> None:
    close = {"rtol": 0, "atol": tolerance}
    np.testing.assert_allclose(traced.far_mass_all, expected["far"].mean((0, 1)), **close)
    np.testing.assert_allclose(traced.waad, expected["waad"].mean((0, 1)), rtol=0, atol=3e-5)
    np.testing.assert_allclose(traced.entropy, expected["entropy"], rtol=0, atol=3e-5)
    np.testing.assert_allclose(traced.log_prob, expected["log_prob"], rtol=0, atol=3e-5)
    np.testing.assert_allclose(
        traced.self_certainty, expected["self_certainty"], rtol=1e-5, atol=3e-5
    )
    np.testing.assert_allclose(traced.question_mass, expected["question"].mean((0, 1)), **close)
    assert traced.top2_margin == pytest.approx(expected["margin"], abs=3e-5)
    if len(traced.far_mass):
        np.testing.assert_allclose(traced.head_far_mass, expected["far"].mean(-1), **close)


@pytest.mark.parametrize("layout", ["left", "right", "packed"])
@pytest.mark.parametrize("name", list(ARCHITECTURES))
def test_padded_batch_equals_eager_matrices(name: str, layout: str) -> None:
    model = build_model(name)
    sequences = make_sequences()
    if (name, layout) == ("gpt_oss", "packed"):  # makes its mask without position_ids
        with pytest.raises(ModelError, match="does not keep packed sequences apart"):
            trace_responses(model, sequences, layout=layout)
        return
    traced = trace_responses(model, sequences, layout=layout)
    assert [len(signals.far_mass) for signals in traced] == [n for _, n in LENGTHS]
    for signals, (prompt, response) in zip(traced, sequences, strict=True):
        assert_matches(signals, reference(model, prompt, response))
    # The comparison means something only where heads differ and look far back.
    far = np.stack([traced[2].head_far_mass, traced[6].head_far_mass])
    assert far.max() > 0.2
    assert far.std() > 0.02


@pytest.mark.parametrize("layout", ["left", "right", "packed"])
def test_batch_size_does_not_matter(llama: transformers.PreTrainedModel, layout: str) -> None:
    sequences = make_sequences()
    together = trace_responses(llama, sequences, layout=layout)
    for index, sequence in enumerate(sequences):
        (alone,) = trace_responses(llama, [sequence], layout=layout)
        for field in FIELDS:
            ours, theirs = getattr(alone, field), getattr(together[index], field)
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=5e-6, err_msg=field)
        assert alone.top2_margin == pytest.approx(together[index].top2_margin, abs=1e-5)


def test_chosen_heads_and_number_of_sinks(llama: transformers.PreTrainedModel) -> None:
    prompt, response = make_sequences()[2]
    heads = {0: [1], 2: [0, 3]}
    (one_sink,) = trace_responses(llama, [(prompt, response)], heads=heads)
    far = reference(llama, prompt, response)["far"]
    expected = (far[0, 1] + far[2, 0] + far[2, 3]) / 3
    np.testing.assert_allclose(one_sink.far_mass, expected, rtol=0, atol=1e-5)
    (no_sink,) = trace_responses(llama, [(prompt, response)], num_sinks=0)
    (three,) = trace_responses(llama, [(prompt, response)], num_sinks=3)
    (many,) = trace_responses(llama, [(prompt, response)], num_sinks=500)
    assert (no_sink.far_mass_all > one_sink.far_mass_all).all()
    assert (one_sink.far_mass_all > three.far_mass_all).all()
    np.testing.assert_allclose(many.far_mass_all, 0.0, atol=1e-6)


def test_window_longer_than_the_sequence_leaves_no_far_mass(
    llama: transformers.PreTrainedModel,
) -> None:
    (signals,) = trace_responses(llama, [([5, 6, 7], [8, 9])], window=64, waad_window=64)
    np.testing.assert_allclose(signals.far_mass, 0.0, atol=1e-6)
    assert (signals.waad > 0).all()
    assert (signals.waad < 4).all()


@pytest.mark.parametrize("layout", ["left", "right", "packed"])
@pytest.mark.parametrize("name", ["llama", "mistral"])
def test_one_bad_sequence_spoils_no_other(name: str, layout: str) -> None:
    model = build_model(name)
    sequences = make_sequences()
    clean = trace_responses(model, sequences, layout=layout)
    with torch.no_grad():  # token 0 is padding too: even there it must do no harm
        model.get_input_embeddings().weight[0] = torch.nan
    bad = (sequences[2][0], [*sequences[2][1][:-2], 0, 5])
    traced = trace_responses(model, [*sequences, bad], layout=layout)
    for ours, theirs in zip(traced, clean, strict=False):
        np.testing.assert_allclose(ours.far_mass, theirs.far_mass, rtol=0, atol=5e-6)
        np.testing.assert_allclose(ours.entropy, theirs.entropy, rtol=0, atol=3e-5)
    failed = traced[-1]
    for field in FIELDS:
        array = getattr(failed, field)
        assert array.shape == ((len(bad[1]),) if field != "head_far_mass" else (3, 4))
        assert np.isnan(array).all()
    assert math.isnan(failed.top2_margin)


def test_infinite_logits_fail_and_impossible_tokens_do_not(
    llama: transformers.PreTrainedModel,
) -> None:
    model = build_model("llama")
    head = model.lm_head
    model.lm_head = torch.nn.Linear(head.in_features, head.out_features)
    model.lm_head.weight = head.weight
    with torch.no_grad():
        model.lm_head.bias.zero_()
        model.lm_head.bias[60] = -torch.inf
    (signals,) = trace_responses(model, [([5, 6, 7], [8, 9])])
    assert np.isfinite(signals.entropy).all()
    (impossible,) = trace_responses(model, [([5, 6, 7], [8, 60])])
    assert np.isnan(impossible.log_prob).all()
    with torch.no_grad():
        model.lm_head.bias[60] = torch.inf
    (infinite,) = trace_responses(model, [([5, 6, 7], [8, 9])])
    assert np.isnan(infinite.entropy).all()


def test_empty_responses_and_empty_batches(llama: transformers.PreTrainedModel) -> None:
    assert trace_responses(llama, []) == []
    (signals,) = trace_responses(llama, [([5, 6, 7], [])])
    assert signals.far_mass.shape == signals.entropy.shape == (0,)
    assert signals.far_mass.dtype == np.float32
    assert signals.head_far_mass.shape == (3, 4)
    assert math.isinf(signals.top2_margin)


def test_rows_of_the_head_are_taken_in_chunks(
    llama: transformers.PreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    sequences = make_sequences()
    whole = trace_responses(llama, sequences)
    monkeypatch.setattr("pivottrace.attention.next_token.MAX_CHUNK_LOGITS", 7 * VOCABULARY)
    largest = []
    hook = llama.lm_head.register_forward_hook(lambda *args: largest.append(args[2].shape[-2]))
    chunked = trace_responses(llama, sequences)
    hook.remove()
    assert max(largest) == 7
    assert sum(largest) == sum(n for _, n in LENGTHS)
    for ours, theirs in zip(chunked, whole, strict=True):
        np.testing.assert_allclose(ours.log_prob, theirs.log_prob, rtol=0, atol=1e-5)
        np.testing.assert_allclose(ours.self_certainty, theirs.self_certainty, rtol=0, atol=1e-5)
    assert "forward" not in vars(llama.model)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"sequences": [([], [3])]}, DataError, "sequence 0 has an empty prompt"),
        ({"sequences": [([1], [2]), ([1] * 100, [2] * 29)]}, ModelError, "sequence 1 has 129 tok"),
        ({"sequences": [([1], [VOCABULARY])]}, DataError, "the model embeds 0 to 60"),
        ({"pad_token_id": -1, "sequences": [([1], [2]), ([1, 2], [2])]}, DataError, "from -1"),
        ({"window": 0}, ConfigError, "window=0"),
        ({"num_sinks": -1}, ConfigError, "sinks=-1"),
        ({"layout": "middle"}, ConfigError, "'middle'"),
        ({"heads": {}}, ConfigError, "no head is chosen"),
        ({"heads": {1: [4]}}, ConfigError, "heads of layer 1"),
        ({"heads": {3: [0]}}, ConfigError, r"layers \[3\]"),
    ],
)
def test_impossible_requests_are_refused(
    llama: transformers.PreTrainedModel, arguments: dict, error: type, words: str
) -> None:
    with pytest.raises(error, match=words):
        trace_responses(llama, **({"sequences": [([1, 2], [3])]} | arguments))
    assert llama.config._attn_implementation == "sdpa"


def test_mode_and_implementation_are_put_back() -> None:
    model = build_model("llama", attention_dropout=0.5).train()
    model.set_attn_implementation("eager")
    trace_responses(model, [([1, 2], [3])])
    assert model.training
    assert model.config._attn_implementation == "eager"


def test_profile_takes_the_heads_that_look_furthest() -> None:
    means = np.arange(20, dtype=float).reshape(4, 5) / 20
    traces = np.stack([means - 0.01, means + 0.01, np.full((4, 5), np.nan)])
    assert profile_heads(traces, 90) == {3: [3, 4]}
    assert profile_heads(traces, 100) == {3: [4]}
    assert profile_heads(traces, 0) == {layer: [0, 1, 2, 3, 4] for layer in range(4)}
    traces[:, 3, 4] = np.nan  # a layer with fewer heads
    assert profile_heads(traces, 100) == {3: [3]}


def test_profile_refuses_what_has_no_answer() -> None:
    with pytest.raises(ConfigError, match=r"percentile 101\.0"):
        profile_heads(np.zeros((1, 2, 2)), 101.0)
    with pytest.raises(DataError, match="none of 2 reference traces"):
        profile_heads(np.full((2, 2, 2), np.nan), 95)
    with pytest.raises(DataError, match="shape"):
        profile_heads(np.zeros((2, 2)), 95)
