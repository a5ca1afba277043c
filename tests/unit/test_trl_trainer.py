"""The trainer: against plain TRL, and against gradients and prompts worked out by hand."""

import copy

import pyarrow as pa
import pytest
import torch
from safetensors import SafetensorError
from training_run import (
    CONFIG,
    GROUP,
    REWARD,
    TEMPLATE,
    WORDS,
    build_tokenizer,
    config,
    metrics,
    same,
    train,
    training_rows,
)
from transformers import Qwen3ForCausalLM
from trl import GRPOTrainer

from pivottrace.config import ModelConfig, PoolConfig
from pivottrace.errors import DataError, ModelError, OutOfDiskError
from pivottrace.ingest import format_prompt
from pivottrace.models.load import check_weights, load_model
from pivottrace.models.rendering import render_prompt
from pivottrace.schemas import TRAINING_ROWS
from pivottrace.training.trl import quiet_libraries, save_model, train_grpo, training_dataset
from pivottrace.training.trl_config import grpo_arguments
from pivottrace.training.trl_trainer import WeightedGRPOTrainer, cut_at_stop, sort_and_trim

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize(
    "cfg",
    [CONFIG, config(loss_type="bnpo", micro_batch_size=4)],
    ids=["default", "bnpo"],  # bnpo's loss depends on which rows share a micro-batch
)
def test_weight_one_everywhere_is_plain_trl(start, tokenizer, tmp_path, cfg):
    weighted = train(start, tokenizer, tmp_path / "ours", cfg=cfg)
    arguments = grpo_arguments(cfg, tmp_path / "plain", start, 3, {})
    model = copy.deepcopy(start)
    with quiet_libraries():
        trainer = GRPOTrainer(
            model=model,
            reward_funcs=REWARD,
            args=arguments,
            train_dataset=training_dataset(tokenizer, training_rows(), cfg, 3),
            processing_class=tokenizer,
        )
        trainer.train()
    assert same(weighted, model.state_dict())
    assert not same(weighted, start.state_dict())


@pytest.mark.parametrize("micro", [None, 2])
@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0), (1.0, 0.25, 0.0), (0.0, 0.5, 0.0)])
def test_gradient_is_the_weighted_sum_by_hand(start, tokenizer, tmp_path, weights, micro):
    seen = {}

    def reward(**columns):
        seen.update(columns, rewards=[1.0, 0.0, 0.0, 0.5] * 3)
        return seen["rewards"]

    reward.__name__ = "recorded"
    rows = training_rows(weights)
    train(start, tokenizer, tmp_path, rows, reward, config(steps=1, micro_batch_size=micro))
    # By hand: -mean_i(weight_i x advantage_i x mean_t log p_it), no padding anywhere.
    model = copy.deepcopy(start)
    rewards = torch.tensor(seen["rewards"]).view(-1, GROUP)
    centred = rewards - rewards.mean(dim=1, keepdim=True)
    advantages = (centred / (rewards.std(dim=1, keepdim=True) + 1e-4)).flatten()
    weight_of = dict(zip(rows["question_id"].to_pylist(), weights, strict=True))
    loss = torch.zeros(())
    for i, tokens in enumerate(seen["completion_ids"]):
        prompt = render_prompt(tokenizer, seen["prompts"][i], PoolConfig())
        ids = torch.tensor([prompt + tokens])
        log_probs = model(ids).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
        mean = log_probs.gather(1, torch.tensor(tokens)[:, None]).mean()
        loss = loss - weight_of[seen["question_id"][i]] * advantages[i] * mean
    (loss / len(advantages)).backward()
    norm = torch.cat([p.grad.flatten() for p in model.parameters()]).norm()
    assert metrics(tmp_path)[0]["grad_norm"] == pytest.approx(norm.item(), rel=1e-4)
    assert norm > 0


def test_micro_batches_without_advantage_skip_the_backward_pass(start, tokenizer, tmp_path):
    """Of three groups one has an advantage: two of the six micro-batches need a gradient."""
    model, passes = copy.deepcopy(start), []
    model.model.norm.weight.register_hook(lambda gradient: passes.append(1))

    def reward(**columns):
        ids = columns["question_id"]
        return [float(question == ids[0] and i % 2) for i, question in enumerate(ids)]

    reward.__name__ = "one group"
    cfg = config(steps=1, micro_batch_size=2)
    train_grpo(model, tokenizer, training_rows(), reward, cfg, tmp_path)
    assert len(passes) == 2
    assert metrics(tmp_path)[0]["grad_norm"] > 0


def test_weight_zero_everywhere_changes_nothing(start, tokenizer, tmp_path):
    trained = train(start, tokenizer, tmp_path, training_rows((0.0, 0.0, 0.0)))
    assert same(trained, start.state_dict())


def test_rows_are_shared_out_by_length_and_trimmed():
    lengths, advantages = [5, 1, 3, 2, 4, 2], [0.5, 0.0, -1.0, 0.0, 2.0, 1.0]
    prompts, width, tall = [1, 3, 2, 2, 1, 1], 3, 5
    rows = [
        {
            "prompt_ids": torch.tensor([[0] * (width - p) + [7] * p]),
            "prompt_mask": torch.tensor([[0] * (width - p) + [1] * p]),
            "completion_ids": torch.tensor([[i + 10] * n + [0] * (tall - n)]),
            "completion_mask": torch.tensor([[1] * n + [0] * (tall - n)]),
            "advantages": torch.tensor([a]),
        }
        for i, (n, a, p) in enumerate(zip(lengths, advantages, prompts, strict=True))
    ]
    batches = [
        {k: torch.cat([r[k] for r in rows[i : i + 2]]) for k in rows[0]}
        | {"num_items_in_batch": torch.tensor(17)}
        for i in (0, 2, 4)
    ]
    found = sort_and_trim(batches)
    assert [b["completion_ids"][:, 0].tolist() for b in found] == [[15, 12], [14, 10], [11, 13]]
    assert [b["advantages"].tolist() for b in found] == [[1.0, -1.0], [2.0, 0.5], [0.0, 0.0]]
    assert [tuple(b["completion_ids"].shape) for b in found] == [(2, 3), (2, 5), (2, 2)]
    assert [tuple(b["prompt_ids"].shape) for b in found] == [(2, 2), (2, 1), (2, 3)]
    assert sum(b["completion_mask"].sum() for b in found) == 17
    assert all(b["num_items_in_batch"] == 17 for b in found)
    assert sort_and_trim(batches[:1]) is not None and len(sort_and_trim(batches[:1])) == 1


@pytest.mark.parametrize("micro", [1, 3, 6])
def test_micro_batches_give_the_same_step(start, tokenizer, tmp_path, micro):
    whole = train(start, tokenizer, tmp_path / "whole", cfg=config(steps=1))
    parts = train(start, tokenizer, tmp_path / "parts", cfg=config(steps=1, micro_batch_size=micro))
    # Adam's first step is the gradient's sign: where it is nearly 0, rounding decides.
    close = [torch.isclose(whole[k], parts[k], atol=1e-4).float().mean() for k in whole]
    assert torch.stack(close).mean() > 0.99
    ours, theirs = metrics(tmp_path / "whole")[0], metrics(tmp_path / "parts")[0]
    assert ours["grad_norm"] == pytest.approx(theirs["grad_norm"], rel=1e-4)


def test_reward_rises_when_it_can(start, tokenizer, tmp_path):
    rows = training_rows(routes=("annotate",) * 3)
    train(start, tokenizer, tmp_path, rows, cfg=config(steps=25))
    found = [line["reward"] for line in metrics(tmp_path)]
    assert sum(found[-5:]) / 5 > 0.9 > 0.75 > sum(found[:5]) / 5


def test_kl_term_is_logged_when_beta_is_set(start, tokenizer, tmp_path):
    start.save_pretrained(tmp_path / "start")  # TRL loads the reference from the model's folder
    model = Qwen3ForCausalLM.from_pretrained(tmp_path / "start")
    train(model, tokenizer, tmp_path / "run", cfg=config(beta=0.1))
    kl = [line["kl"] for line in metrics(tmp_path / "run")]
    assert kl[0] == pytest.approx(0, abs=1e-6) and kl[1] > 1e-5


def test_a_model_is_saved_with_all_of_its_tokenizers_files(start, tmp_path):
    tokenizer = build_tokenizer({"default": TEMPLATE, "tools": TEMPLATE})
    save_model(start, tokenizer, tmp_path / "model")
    assert list((tmp_path / "model").glob("*/*.jinja"))
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_full_disk_is_said_whoever_finds_it(start, tokenizer, tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(type(start), "save_pretrained", full)
    with pytest.raises(OutOfDiskError, match="the disk is full"):
        save_model(start, tokenizer, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_weights_that_changed_after_training_are_not_loaded(start, tokenizer, tmp_path):
    folder = tmp_path / "model"
    save_model(start, tokenizer, folder)
    settings = ModelConfig(path=str(folder))
    check_weights(settings)
    weights = folder / "model.safetensors"
    changed = bytearray(weights.read_bytes())
    changed[-1] ^= 1
    weights.write_bytes(changed)
    for look in (load_model, check_weights):
        with pytest.raises(ModelError, match=r"model.safetensors is not what training wrote"):
            look(settings)


def test_no_rows_is_an_error_here(start, tokenizer, tmp_path):
    with pytest.raises(DataError, match="no row to train on"):
        train(start, tokenizer, tmp_path, TRAINING_ROWS.empty_table())


# Prompts --------------------------------------------------------------------------------------


@pytest.mark.parametrize("template", [TEMPLATE, None])
@pytest.mark.parametrize("thinking", [True, False])
def test_prompts_are_tokenized_as_everywhere_else(start, tmp_path, template, thinking):
    tokenizer = build_tokenizer(template)
    pool = PoolConfig(
        system_prompt="a b", prompt_suffix="j i", chat_template_args={"enable_thinking": thinking}
    )
    question = [{"role": "user", "content": "c d e"}]
    prompt = format_prompt(question, pool.system_prompt, pool.prompt_suffix)
    rows = training_rows().set_column(1, TRAINING_ROWS.field("prompt"), pa.array([prompt] * 3))
    seen = {}

    class Spy(WeightedGRPOTrainer):
        def _generate_single_turn(self, prompt_ids, *args, **kwargs):
            seen["prompt_ids"] = prompt_ids
            return super()._generate_single_turn(prompt_ids, *args, **kwargs)

    arguments = grpo_arguments(config(steps=1), tmp_path, start, 0, dict(pool.chat_template_args))
    with quiet_libraries():
        Spy(
            model=copy.deepcopy(start),
            reward_funcs=REWARD,
            args=arguments,
            train_dataset=training_dataset(tokenizer, rows, config(steps=1), 0),
            processing_class=tokenizer,
        ).train()
    expected = render_prompt(tokenizer, prompt, pool)
    assert seen["prompt_ids"] == [expected] * 12
    assert expected.count(2) == (0 if template else 1)
    assert (WORDS.index("think") in expected) == (template is not None and not thinking)


def test_responses_are_cut_at_stop_strings(start, tokenizer, tmp_path):
    ids = [WORDS.index(w) for w in "abcde"]
    assert cut_at_stop(tokenizer, ids, ("c d",)) == ids[:4]
    assert cut_at_stop(tokenizer, ids, ("d", "b")) == ids[:2]
    assert cut_at_stop(tokenizer, ids, ("x",)) == ids
    seen = []

    def reward(**columns):
        seen.extend(columns["completions"])
        return REWARD(**columns)

    reward.__name__ = "recorded"
    stop = ("a", "b", "c", "d", "e")
    train(start, tokenizer, tmp_path, reward=reward, cfg=config(steps=4), stop=stop)
    words = [completion[0]["content"].split() for completion in seen]
    assert any(w and w[-1] in stop and len(w) < 5 for w in words)
    assert not [w for w in words if set(w[:-1]) & set(stop)]
