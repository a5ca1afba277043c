"""Log-probabilities of completions: against the model's own logits, row by row."""

import copy

import pytest
import torch
from training_run import GROUP, REWARD, config, training_rows
from trl import GRPOTrainer
from trl.trainer.utils import add_fused_lm_head

from pivottrace.training.trl import quiet_libraries, training_dataset
from pivottrace.training.trl_config import grpo_arguments
from pivottrace.training.trl_log_probs import completion_log_probs
from pivottrace.training.trl_trainer import WeightedGRPOTrainer

pytestmark = pytest.mark.usefixtures("one_thread")

PROMPTS = [[2, 9, 10], [2, 11], [2, 9, 12, 13, 14], [2, 15]]
COMPLETIONS = [[16, 17, 1], [12], [], [9, 9, 10, 11, 12]]


def padded(prompts, completions):
    """(B, P + T) ids and their mask, as TRL pads them."""
    width, height = max(map(len, prompts)), max(map(len, completions))
    rows = [
        [0] * (width - len(p)) + p + c + [0] * (height - len(c))
        for p, c in zip(prompts, completions, strict=True)
    ]
    masks = [
        [0] * (width - len(p)) + [1] * len(p + c) + [0] * (height - len(c))
        for p, c in zip(prompts, completions, strict=True)
    ]
    return torch.tensor(rows), torch.tensor(masks)


@pytest.fixture
def scored(start):
    """A function that scores all rows, some at a time, and the model that it asks."""
    model = copy.deepcopy(start)
    add_fused_lm_head(model, outputs=("log_probs", "entropy"))
    ids, mask = padded(PROMPTS, COMPLETIONS)

    def score(batch_size):
        return completion_log_probs(model, model.base_model, ids, mask, 5, batch_size)

    return score, model


@pytest.mark.parametrize("batch_size", [1, 2, 3, 4])
def test_each_token_has_the_log_probability_that_it_has_alone(scored, start, batch_size):
    log_probs, entropies = scored[0](batch_size)
    assert log_probs.shape == entropies.shape == (4, 5)
    for row, (prompt, completion) in enumerate(zip(PROMPTS, COMPLETIONS, strict=True)):
        logits = start(torch.tensor([prompt + completion])).logits[0, len(prompt) - 1 : -1]
        alone = logits.log_softmax(-1)
        tokens = torch.tensor(completion, dtype=torch.long)
        count = len(completion)
        torch.testing.assert_close(log_probs[row, :count], alone.gather(1, tokens[:, None])[:, 0])
        entropy = torch.special.entr(alone.exp()).sum(-1)
        torch.testing.assert_close(entropies[row, :count], entropy)
        assert not log_probs[row, count:].any() and not entropies[row, count:].any()


def test_gradients_do_not_depend_on_the_batch(scored):
    score, model = scored
    found = []
    for batch_size in (1, 4):
        model.zero_grad()
        score(batch_size)[0].sum().backward()
        found.append({name: weight.grad.clone() for name, weight in model.named_parameters()})
    assert any(gradient.any() for gradient in found[0].values())
    for name, gradient in found[0].items():
        torch.testing.assert_close(gradient, found[1][name], atol=1e-5, rtol=1e-4)


def test_the_decoder_is_left_as_it_was(scored, start):
    score, model = scored
    score(2)
    assert not model.base_model._forward_hooks
    ids = torch.tensor([[2, 9, 10]])
    assert torch.equal(model(ids).logits, start(ids).logits)


def test_the_trainer_scores_as_trl_does(start, tokenizer, tmp_path):
    cfg = config(steps=1, micro_batch_size=2)
    with quiet_libraries():
        trainer = WeightedGRPOTrainer(
            model=copy.deepcopy(start),
            reward_funcs=REWARD,
            args=grpo_arguments(cfg, tmp_path, start, 0, {}),
            train_dataset=training_dataset(tokenizer, training_rows(), cfg, 0),
            processing_class=tokenizer,
        )
    ids, mask = padded(PROMPTS * GROUP, COMPLETIONS * GROUP)
    arguments = (trainer.model, ids, mask, 5, 3, True)
    with torch.no_grad():
        ours = trainer._get_per_token_logps_and_entropies(*arguments)
        theirs = GRPOTrainer._get_per_token_logps_and_entropies(trainer, *arguments)
    is_completion = mask[:, -5:].bool()
    for found, expected in zip(ours[:2], theirs[:2], strict=True):
        torch.testing.assert_close(found[is_completion], expected[is_completion])
    assert ours[2] is None and theirs[2] is None
