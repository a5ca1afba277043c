"""Generation that drops finished rows, against transformers' own."""

import copy

import pytest
import torch
from transformers import (
    GenerationConfig,
    MistralConfig,
    MistralForCausalLM,
    Qwen3ForCausalLM,
    Qwen3NextConfig,
    Qwen3NextForCausalLM,
)
from transformers.cache_utils import DynamicLayer

from pivottrace.models import cache_layers, compact
from pivottrace.models.cache_layers import RoomyLayer
from pivottrace.models.compact import compacting, generate_compacting, generate_refilling
from pivottrace.models.drawing import quick_drawing

pytestmark = pytest.mark.usefixtures("one_thread")

ENDS = [1, 5, 6, 7]
PROMPTS = [[3, 8, 9], [3, 8, 10, 11, 12], [3], [3, 8, 13], [4, 9], [5, 11, 9, 14]]
WIDTH = max(map(len, PROMPTS))
IDS = torch.tensor([[0] * (WIDTH - len(p)) + p for p in PROMPTS])
MASK = (IDS != 0).long()
SIZES = {
    "vocab_size": 19,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "initializer_range": 1.0,
    "max_position_embeddings": 64,
    "bos_token_id": 2,
    "eos_token_id": 1,
    "pad_token_id": 0,
}


def settings(**more):
    return GenerationConfig(max_new_tokens=12, eos_token_id=ENDS, pad_token_id=0, **more)


def plain(model, config, **more):
    return model.generate(input_ids=IDS, attention_mask=MASK, generation_config=config, **more)


def varied_lengths(sequences):
    return len(set((sequences[:, WIDTH:] != 0).sum(1).tolist())) > 2


@pytest.fixture(scope="module")
def varied(start):
    """A Qwen3 whose random weights are large enough for responses of several lengths."""
    config = copy.deepcopy(start.config)
    config.initializer_range, config.tie_word_embeddings = 1.0, False
    torch.manual_seed(0)
    return Qwen3ForCausalLM(config).eval()


@pytest.mark.parametrize("spell", [1, 2, 3, 100])
def test_dropping_finished_rows_leaves_the_responses(varied, spell):
    expected = plain(varied, settings())
    assert varied_lengths(expected), "the test needs responses of several lengths"
    assert torch.equal(generate_compacting(varied, IDS, MASK, settings(), spell=spell), expected)
    with compacting(varied):
        again = plain(varied, settings())
    assert torch.equal(again, expected)
    assert "generate" not in vars(varied)


@pytest.mark.parametrize("room", [1, 2, 100])
def test_room_for_keys_leaves_the_responses_whenever_it_is_used_up(varied, monkeypatch, room):
    expected = plain(varied, settings())
    taken = []

    def update(layer, *states, **more):
        taken.append(layer.keys.size(-2))
        return append(layer, *states, **more)

    append = RoomyLayer.update
    monkeypatch.setattr(RoomyLayer, "update", update)
    monkeypatch.setattr(cache_layers, "ROOM", room)
    assert torch.equal(generate_compacting(varied, IDS, MASK, settings(), spell=3), expected)
    assert max(taken) == expected.size(1) - 2, "all but the first spell's tokens are put into room"


def test_a_layer_with_room_holds_what_a_plain_one_does():
    torch.manual_seed(0)
    layers = [DynamicLayer(), DynamicLayer()]
    first = torch.randn(2, 3, 1, 5, 4)
    for layer in layers:
        layer.update(*first)
    layers[0] = RoomyLayer(layers[0])
    changes = {
        9: lambda layer: layer.crop(-4),
        20: lambda layer: layer.reorder_cache(torch.tensor([2, 0, 1])),
        30: lambda layer: layer.batch_select_indices(torch.tensor([0, 2])),
    }
    kept = {}
    for step in range(70):  # more than its room
        states = torch.randn(2, layers[1].keys.size(0), 1, 1, 4)
        mine, theirs = (layer.update(*states) for layer in layers)
        assert torch.equal(torch.stack(mine), torch.stack(theirs))
        for layer in layers if step in changes else ():
            changes[step](layer)
            kept[step] = {buffer.untyped_storage().nbytes() for buffer in layers[0]._buffers}
    assert [layer.get_seq_length() for layer in layers] == [5 + 70 - 4] * 2
    # Rows that have left hold no memory: two rows of 5 + 31 - 4 vectors of 4 float32.
    assert kept[30] == {2 * 32 * 4 * 4}


def test_a_filled_row_keeps_nothing_of_the_sequence_before_it():
    """A NaN would spread, because the mask gives it a weight of 0, and 0 times NaN is NaN."""
    old, new = DynamicLayer(), DynamicLayer()
    old.update(*torch.full((2, 3, 1, 5, 4), torch.nan))
    new.update(*torch.ones(2, 1, 1, 2, 4))
    layer = RoomyLayer(old)
    layer.update(*torch.zeros(2, 3, 1, 1, 4))
    layer.fill(torch.tensor([1]), new)
    assert layer.keys[1, 0, :, 0].tolist() == [0, 0, 0, 0, 1, 1]
    layer.set_width(8)
    layer.set_width(3)
    assert layer.values[1, 0, :, 0].tolist() == [0, 1, 1]
    layer.update(*torch.full((2, 3, 1, 1, 4), 2.0))
    assert layer.values[:, 0, :, 0].tolist()[1] == [0, 1, 1, 2]
    assert layer.get_seq_length() == 4


@pytest.mark.parametrize("spell", [1, 3])
def test_rows_leave_a_sliding_window(spell):
    torch.manual_seed(0)
    model = MistralForCausalLM(MistralConfig(**SIZES, sliding_window=4)).eval()
    expected = plain(model, settings())
    assert varied_lengths(expected)
    assert expected.size(1) > 2 * 4, "the test needs responses longer than the window"
    assert torch.equal(generate_compacting(model, IDS, MASK, settings(), spell=spell), expected)


def test_a_cache_with_a_recurrent_state_is_decoded_whole():
    torch.manual_seed(0)
    hybrid = Qwen3NextConfig(
        **SIZES,
        layer_types=["linear_attention", "full_attention"],
        num_experts=2,
        num_experts_per_tok=1,
        moe_intermediate_size=16,
        shared_expert_intermediate_size=16,
        linear_num_value_heads=2,
        linear_num_key_heads=2,
        linear_key_head_dim=8,
        linear_value_head_dim=8,
    )
    model = Qwen3NextForCausalLM(hybrid).eval()
    expected = plain(model, settings())
    assert varied_lengths(expected)
    assert torch.equal(generate_compacting(model, IDS, MASK, settings(), spell=2), expected)


def test_samples_of_the_first_spell_are_the_very_same(varied, monkeypatch):
    sampled = settings(do_sample=True, top_k=0)
    torch.manual_seed(5)
    expected = plain(varied, sampled, **quick_drawing(varied))  # no two rows have one prompt
    torch.manual_seed(5)
    monkeypatch.setattr(compact, "ENOUGH", 1.0)
    found = generate_compacting(varied, IDS, MASK, sampled, spell=4)
    assert torch.equal(found[:, : WIDTH + 4], expected[:, : WIDTH + 4])
    assert varied_lengths(found)
    for row in found[:, WIDTH:].tolist():  # whole responses, and nothing after their end
        end = next((i for i, token in enumerate(row) if token in ENDS), len(row))
        assert not any(row[end + 1 :])


def test_later_spells_sample_the_distribution_of_plain_generate(varied):
    """Shares of the last token of three, over 4,000 rows of one prompt, under four rules."""
    ids = IDS[:1].repeat(4000, 1)
    config = settings(do_sample=True, temperature=0.7, top_k=6, top_p=0.9, repetition_penalty=1.5)
    config.max_new_tokens = 3
    torch.manual_seed(1)
    expected = varied.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), generation_config=config
    )
    found = generate_compacting(varied, ids, torch.ones_like(ids), config, spell=1)
    shares = [s[:, -1].bincount(minlength=19) / len(s) for s in (expected, found)]
    # Five standard errors of a difference of two shares.
    assert (shares[0] - shares[1]).abs().max() < 5 * (2 * 0.25 / 4000) ** 0.5


def tokens_read(model, ids, mask, config):
    """The responses, and the tokens of all forward passes that are wider than one token."""
    sizes = []
    hook = model.model.register_forward_pre_hook(
        lambda module, args, kwargs: sizes.append(kwargs["input_ids"].shape), with_kwargs=True
    )
    found = generate_compacting(model, ids, mask, config, spell=3)
    hook.remove()
    return found, sum(rows * width for rows, width in sizes if width > 1)


def test_the_prompt_of_several_rows_is_read_once(varied):
    ids, mask = IDS[[0, 1, 0, 0, 3, 1]], MASK[[0, 1, 0, 0, 3, 1]]
    expected = varied.generate(input_ids=ids, attention_mask=mask, generation_config=settings())
    found, tokens = tokens_read(varied, ids, mask, settings())
    assert torch.equal(found, expected)
    assert tokens == 3 * (WIDTH - 1)
    few = torch.tensor([0, 1, 0, 3])  # the further call would cost what it saves
    for rows in (torch.arange(6), few):
        assert tokens_read(varied, IDS[rows], MASK[rows], settings())[1] == IDS[rows].numel()


def test_prompts_that_enter_together_are_answered_as_alone(varied):
    prompts = [prompt for prompt in MANY for _ in range(3)]
    found = responses_to(varied, prompts, settings(), places=6, spell=2)
    assert found == one_by_one(varied, prompts, settings())


def test_shared_prompts_of_a_cache_that_cannot_lose_rows(varied, monkeypatch):
    ids, mask = IDS[[0, 0, 1, 1]], MASK[[0, 0, 1, 1]]
    expected = generate_compacting(varied, ids, mask, settings(), spell=3)
    monkeypatch.setattr(compact, "can_drop_rows", lambda cache: False)
    monkeypatch.setattr(DynamicLayer, "batch_select_indices", None)  # a call would fail
    assert torch.equal(generate_compacting(varied, ids, mask, settings(), spell=3), expected)


def test_numbers_that_are_not_finite_do_not_end_shared_prompts(varied):
    broken = copy.deepcopy(varied)
    with torch.no_grad():
        broken.lm_head.weight[3] = torch.nan
    ids, mask = IDS[[0, 0, 1, 1]], MASK[[0, 0, 1, 1]]
    found = generate_compacting(broken, ids, mask, settings(do_sample=True, top_k=0), spell=3)
    assert found.size(0) == 4


def test_a_prompt_of_one_token_is_read_by_each_of_its_rows(varied):
    ids, mask = IDS[[2, 1, 2]], MASK[[2, 1, 2]]
    expected = varied.generate(input_ids=ids, attention_mask=mask, generation_config=settings())
    found, tokens = tokens_read(varied, ids, mask, settings())
    assert torch.equal(found, expected)
    assert tokens == ids.numel()


def responses_to(model, prompts, config, **more):
    """The responses by number, up to their ends."""
    found = dict(generate_refilling(model, prompts, config, **more))
    assert sorted(found) == list(range(len(prompts)))
    return [up_to_the_end(found[number]) for number in range(len(prompts))]


def one_by_one(model, prompts, config):
    rows = [
        model.generate(torch.tensor([p]), generation_config=config)[0, len(p) :].tolist()
        for p in prompts
    ]
    return [up_to_the_end(row) for row in rows]


def up_to_the_end(row):
    return row[: next((i for i, token in enumerate(row) if token in [0, *ENDS]), len(row))]


# Prompts that grow, so that late ones are wider than the batch which they enter.
MANY = [[*p, *range(8, 8 + more)] for more in (0, 1, 9, 3, 11) for p in PROMPTS]


@pytest.mark.parametrize("places", [1, 2, 5, 100])
@pytest.mark.parametrize("spell", [1, 3, 100])
def test_waiting_prompts_take_the_places_of_ended_rows(varied, places, spell):
    expected = one_by_one(varied, MANY, settings())
    assert len(set(map(len, expected))) > 2
    assert responses_to(varied, MANY, settings(), places=places, spell=spell) == expected


def test_places_that_fall_free_are_taken_at_once(varied):
    """Decoded rows, with the empty ones, beside the tokens that there are."""
    decoded = []

    def count(module, arguments, keywords, output):
        if keywords["input_ids"].size(1) == 1:
            decoded.append(len(keywords["input_ids"]))

    expected = one_by_one(varied, MANY, settings())
    handle = varied.register_forward_hook(count, with_kwargs=True)
    try:
        responses_to(varied, MANY, settings(), places=6, spell=2)
    finally:
        handle.remove()
    assert max(decoded) == 6
    assert sum(decoded) < 1.3 * sum(map(len, expected))


@pytest.mark.parametrize(
    "rule", [{"no_repeat_ngram_size": 2}, {"repetition_penalty": 1.5}, {"min_new_tokens": 4}]
)
def test_rules_of_the_model_read_one_sequence_only(varied, monkeypatch, rule):
    """A filled row has nothing of the sequence that was there; some rules allow no spells."""
    for name, value in rule.items():
        monkeypatch.setattr(varied.generation_config, name, value)
    expected = one_by_one(varied, MANY, settings())
    assert responses_to(varied, MANY, settings(), places=4, spell=3) == expected


def test_a_batch_is_no_wider_than_a_prompt_and_its_response(varied):
    widths = []
    handle = varied.register_forward_hook(
        lambda model, arguments, keywords, output: widths.append(
            keywords["attention_mask"].size(1) if "attention_mask" in keywords else 0
        ),
        with_kwargs=True,
    )
    try:
        responses_to(varied, MANY, settings(), places=3, spell=2)
    finally:
        handle.remove()
    assert 0 < max(widths) <= max(map(len, MANY)) + 12 + 2


def test_a_sliding_window_is_filled_batch_after_batch():
    torch.manual_seed(0)
    model = MistralForCausalLM(MistralConfig(**SIZES, sliding_window=4)).eval()
    expected = one_by_one(model, MANY, settings())
    assert responses_to(model, MANY, settings(), places=4, spell=2) == expected


def test_a_cache_that_cannot_lose_rows_still_answers_every_prompt(varied, monkeypatch):
    """The model chooses another cache than its configuration promises."""
    monkeypatch.setattr(compact, "can_drop_rows", lambda cache: False)
    found = responses_to(varied, MANY, settings(), places=4, spell=2)
    assert found == one_by_one(varied, MANY, settings())


@pytest.mark.parametrize("work", ["small", "large"])
def test_little_work_is_decoded_by_one_thread(varied, monkeypatch, work):
    seen = set()

    def generate(model, **arguments):
        seen.add(torch.get_num_threads())
        return own(model, **arguments)

    own = type(varied).generate
    monkeypatch.setattr(type(varied), "generate", generate)
    rows_of_all = len(IDS) * sum(weight.numel() for weight in varied.parameters())
    limit = rows_of_all + 1 if work == "small" else 0
    monkeypatch.setattr(compact, "ONE_THREAD_BELOW", limit)
    torch.set_num_threads(2)
    try:
        generate_compacting(varied, IDS, MASK, settings(), spell=3)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    assert seen == ({1} if work == "small" else {2})
