"""Adapters, precision, accumulation and trackers of training."""

import copy

import pytest
import torch
from training_run import REWARD, config, metrics, same, train, training_rows

from pivottrace import plugins
from pivottrace.errors import ConfigError
from pivottrace.models import half_products
from pivottrace.models.teacher import SlowTeacher
from pivottrace.training.trl import train_grpo

pytestmark = pytest.mark.usefixtures("one_thread")

LORA = config(steps=5, save_steps=2, lora_rank=2)


def test_adapters_are_trained_and_a_whole_model_saved(start, tokenizer, tmp_path):
    trained = train(start, tokenizer, tmp_path, cfg=LORA)
    before = start.state_dict()
    assert trained.keys() == before.keys()
    moved = {name for name in before if not torch.equal(before[name], trained[name])}
    linear = {n for n, m in start.named_modules() if isinstance(m, torch.nn.Linear)} - {"lm_head"}
    assert moved == {f"{name}.weight" for name in linear}
    for name in moved:
        change = (trained[name] - before[name]).double()
        values = torch.linalg.svdvals(change)
        assert values[2] < 1e-3 * values[0], "a change of rank 2"
    assert not (tmp_path / "model" / "adapter_config.json").exists()


def test_adapters_resume_exactly(start, tokenizer, tmp_path):
    class Killed(BaseException):
        pass

    def on_log(step, logs):
        if step == 3:
            raise Killed

    whole = train(start, tokenizer, tmp_path / "whole", cfg=LORA)
    with pytest.raises(Killed):
        train(start, tokenizer, tmp_path / "killed", cfg=LORA, on_log=on_log)
    checkpoint = tmp_path / "killed" / "checkpoints" / "checkpoint-2"
    assert (checkpoint / "adapter_model.safetensors").is_file()
    assert same(train(start, tokenizer, tmp_path / "killed", cfg=LORA), whole)
    assert metrics(tmp_path / "killed") == metrics(tmp_path / "whole")


def test_a_slow_teacher_of_adapters_resumes_exactly(start, tokenizer, tmp_path):
    """It holds the adapters, which are there only once the trainer has put them in."""

    class Killed(BaseException):
        pass

    def on_log(step, logs):
        if step == 3:
            raise Killed

    def teach(output, **more):
        model = copy.deepcopy(start)
        teacher = SlowTeacher(model, decay=0.5, decay_end=0.5)
        rows, more = training_rows(), {"stateful": [teacher], "seed": 3, **more}
        train_grpo(model, tokenizer, rows, REWARD, LORA, output, **more)
        teacher.save(tmp_path)
        return (tmp_path / "slow_teacher.safetensors").read_bytes()

    whole = teach(tmp_path / "whole")
    with pytest.raises(Killed):
        teach(tmp_path / "killed", on_log=on_log)
    assert teach(tmp_path / "killed") == whole


def test_adapters_on_chosen_modules_with_a_kl_term(start, tokenizer, tmp_path):
    cfg = config(lora_rank=2, lora_alpha=1, lora_target="q_proj, v_proj", beta=0.1)
    trained = train(start, tokenizer, tmp_path, cfg=cfg)
    moved = {n for n, w in start.state_dict().items() if not torch.equal(w, trained[n])}
    assert {name.split(".")[-2] for name in moved} == {"q_proj", "v_proj"}
    kl = [line["kl"] for line in metrics(tmp_path)]
    assert kl[0] == pytest.approx(0, abs=1e-6) and kl[1] > 0


def test_modules_that_the_model_has_not_are_refused(start, tokenizer, tmp_path):
    cfg = config(lora_rank=2, lora_target="q_proj, query")
    with pytest.raises(
        ConfigError, match=r"lora_target = 'q_proj, query': the model has no module 'query'"
    ):
        train(start, tokenizer, tmp_path, cfg=cfg)


def test_a_module_that_shares_its_tensor_is_refused(start, tokenizer, tmp_path):
    assert start.config.tie_word_embeddings
    cfg = config(lora_rank=2, lora_target="q_proj, lm_head")
    with pytest.raises(ConfigError, match=r"embed_tokens and lm_head .*share one.*'lm_head' out"):
        train(start, tokenizer, tmp_path, cfg=cfg)


def test_a_half_precision_model_keeps_its_frozen_weights(start, tokenizer, tmp_path):
    half = copy.deepcopy(start).to(torch.bfloat16)
    trained = train(half, tokenizer, tmp_path, cfg=LORA)
    assert {weight.dtype for weight in trained.values()} == {torch.bfloat16}
    before = half.state_dict()
    moved = {name for name in before if not torch.equal(before[name], trained[name])}
    assert moved and not any("norm" in name or "embed" in name for name in moved)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lora_rank": 2}, r"train.lora_rank = 2 needs peft.*pip install 'pivottrace\[lora\]'"),
        ({"tracker": "wandb"}, r"train.tracker = 'wandb' needs wandb.*'pivottrace\[trackers\]'"),
        ({"tracker": "tensorboard"}, r"'tensorboard' needs tensorboard"),
    ],
)
def test_a_missing_extra_is_named(start, tokenizer, tmp_path, monkeypatch, changes, message):
    monkeypatch.setattr(plugins, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=message):
        train(start, tokenizer, tmp_path, cfg=config(**changes))


def test_tensorboard_gets_metrics_beside_the_model(start, tokenizer, tmp_path):
    pytest.importorskip("tensorboard")
    train(start, tokenizer, tmp_path, cfg=config(tracker="tensorboard"))
    assert list((tmp_path / "tensorboard").glob("events.out.tfevents.*"))
    assert len(metrics(tmp_path)) == 2


@pytest.mark.parametrize("fast", [None, "amx_bf16", "avx512_bf16"])
def test_bfloat16_on_the_cpu_is_allowed(start, tokenizer, tmp_path, caplog, monkeypatch, fast):
    """With a warning, unless the CPU has products of bfloat16."""
    found = {fast: True}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found, raising=False)
    monkeypatch.setattr(half_products.platform, "machine", lambda: "x86_64")
    half_products.warn_of_slow_products.cache_clear()
    half = train(start, tokenizer, tmp_path / "half", cfg=config(precision="bfloat16"))
    assert ("train.precision is bfloat16, which this CPU only emulates" in caplog.text) == (
        fast is None
    )
    full = train(start, tokenizer, tmp_path / "full")
    assert not same(half, full) and not same(half, start.state_dict())
    assert {weight.dtype for weight in half.values()} == {torch.float32}


@pytest.mark.parametrize("loss_type", ["grpo", "dapo"])
def test_accumulated_steps_give_the_same_weights(start, tokenizer, tmp_path, loss_type):
    """Four passes a step against one, in two steps; the first draws the very same completions.

    With a warm-up step of learning rate 0 the two steps' completions are the same in both.
    """
    cfg = config(loss_type=loss_type, learning_rate=1e-3, warmup_steps=1, steps=2)
    whole = train(
        start, tokenizer, tmp_path / "a", cfg=cfg.model_copy(update={"micro_batch_size": 12})
    )
    parts = train(
        start, tokenizer, tmp_path / "b", cfg=cfg.model_copy(update={"micro_batch_size": 3})
    )
    assert not same(whole, start.state_dict())
    difference = torch.cat([(whole[k] - parts[k]).abs().flatten() for k in whole])
    assert difference.max() < 1e-5
