"""Generation that drops finished rows, against transformers' own."""

import copy

import pytest
import torch
from transformers import GenerationConfig, Qwen3ForCausalLM

from pivottrace.backends.compact import compacting, generate_compacting

pytestmark = pytest.mark.usefixtures("one_thread")

ENDS = [1, 5, 6, 7]


@pytest.mark.parametrize("spell", [1, 2, 3, 100])
def test_dropping_finished_rows_leaves_the_responses(start, spell):
    prompts = [[3, 8, 9], [3, 8, 10, 11, 12], [3], [3, 8, 13], [4, 9], [5, 11, 9, 14]]
    width = max(map(len, prompts))
    ids = torch.tensor([[0] * (width - len(p)) + p for p in prompts])
    mask = (ids != 0).long()
    settings = GenerationConfig(max_new_tokens=12, eos_token_id=ENDS, pad_token_id=0)
    varied = copy.deepcopy(start.config)
    varied.initializer_range, varied.tie_word_embeddings = 1.0, False
    torch.manual_seed(0)
    model = Qwen3ForCausalLM(varied).eval()
    plain = model.generate(input_ids=ids, attention_mask=mask, generation_config=settings)
    lengths = (plain[:, width:] != 0).sum(1)
    assert len(set(lengths.tolist())) > 2, "the test needs responses of several lengths"
    found = generate_compacting(model, ids, mask, settings, spell=spell)
    assert torch.equal(found, plain)
    with compacting(model):
        again = model.generate(input_ids=ids, attention_mask=mask, generation_config=settings)
    assert torch.equal(again, plain)
    assert "generate" not in vars(model)
