"""What training keeps on disk: a run that was killed goes on, and nothing half-written counts."""

import copy

import pytest
import torch
from training_run import REWARD, config, metrics, same, train, training_rows

from pivottrace.errors import ConfigError, ModelError
from pivottrace.training.trl import train_grpo
from pivottrace.training.trl_checkpoints import is_whole, latest_checkpoint
from pivottrace.training.trl_state import append_line, cut_lines_after

pytestmark = pytest.mark.usefixtures("one_thread")


class Killed(BaseException):
    """Stands in for SIGKILL: nothing of ours catches it."""


def killer(at):
    def on_log(step, logs):
        if step == at:
            raise Killed

    return on_log


def tear(path):
    with path.open("a") as file:
        file.write('{"step": 6, "rew')


def points(model):
    return {"accuracy": round(sum(p.double().sum().item() for p in model.parameters()), 9)}


@pytest.mark.parametrize("torn", [False, True])
def test_a_killed_run_goes_on_and_ends_with_the_same_weights(start, tokenizer, tmp_path, torn):
    cfg = config(steps=7, save_steps=2, evaluate_steps=2)
    whole = train(start, tokenizer, tmp_path / "whole", cfg=cfg, evaluate=points)
    killed = tmp_path / "killed"
    with pytest.raises(Killed):
        train(start, tokenizer, killed, cfg=cfg, evaluate=points, on_log=killer(5))
    steps = [line["step"] for line in metrics(killed)]
    assert steps == [1, 2, 3, 4, 5] and not (killed / "model").exists()
    if torn:
        newest = killed / "checkpoints" / "checkpoint-4" / "optimizer.pt"
        newest.write_bytes(newest.read_bytes()[:-1])
        tear(killed / "metrics.jsonl")
    resumed, taken = [], {}
    taken = train(
        start,
        tokenizer,
        killed,
        cfg=cfg,
        evaluate=points,
        on_log=lambda step, logs: resumed.append(step),
    )
    assert resumed == ([3, 4, 5, 6, 7] if torn else [5, 6, 7])
    assert same(taken, whole)
    assert metrics(killed) == metrics(tmp_path / "whole")
    assert [line["step"] for line in metrics(killed)] == [1, 2, 3, 4, 5, 6, 7]
    curve = metrics(killed, "learning_curve.jsonl")
    assert curve == metrics(tmp_path / "whole", "learning_curve.jsonl")
    assert [point["step"] for point in curve] == [0, 2, 4, 6, 7]
    assert not (killed / "checkpoints").exists()


def test_watching_changes_nothing_and_sees_the_model_in_eval_mode(start, tokenizer, tmp_path):
    modes = []

    def evaluate(model):
        modes.append(model.training)
        torch.manual_seed(123)
        torch.rand(5)
        return {"accuracy": 0.5}

    cfg = config(steps=3)
    unwatched = train(start, tokenizer, tmp_path / "a", cfg=cfg)
    watched_cfg = config(steps=3, evaluate_steps=1)
    watched = train(start, tokenizer, tmp_path / "b", cfg=watched_cfg, evaluate=evaluate)
    assert same(unwatched, watched)
    assert modes == [False] * 4
    assert not (tmp_path / "a" / "learning_curve.jsonl").exists()


def test_a_changed_setting_is_refused_on_resume(start, tokenizer, tmp_path):
    cfg = config(steps=4, save_steps=1)
    with pytest.raises(Killed):
        train(start, tokenizer, tmp_path, cfg=cfg, on_log=killer(3))
    other = cfg.model_copy(update={"learning_rate": 0.5})
    with pytest.raises(ConfigError, match=r"learning_rate: was 0.01, now 0.5"):
        train(start, tokenizer, tmp_path, cfg=other)
    with pytest.raises(ConfigError, match=r"rows: was"):
        train(start, tokenizer, tmp_path, training_rows((1.0, 0.5, 1.0)), cfg=cfg)
    train(start, tokenizer, tmp_path, cfg=cfg.model_copy(update={"save_steps": 3}))


def test_what_left_no_checkpoint_begins_anew_with_other_settings(start, tokenizer, tmp_path):
    cfg = config(steps=3, save_steps=3, evaluate_steps=1)
    with pytest.raises(Killed):
        train(start, tokenizer, tmp_path, cfg=cfg, evaluate=points, on_log=killer(2))
    cfg = cfg.model_copy(update={"learning_rate": 0.005})
    train(start, tokenizer, tmp_path, cfg=cfg, evaluate=points)
    assert [line["step"] for line in metrics(tmp_path)] == [1, 2, 3]
    curve = metrics(tmp_path, "learning_curve.jsonl")
    assert [point["step"] for point in curve] == [0, 1, 2, 3]


def test_a_finished_model_is_not_trained_again(start, tokenizer, tmp_path):
    train(start, tokenizer, tmp_path)
    before = (tmp_path / "metrics.jsonl").read_bytes()
    train(start, tokenizer, tmp_path)
    assert (tmp_path / "metrics.jsonl").read_bytes() == before


def test_a_checkpoint_without_its_marker_is_passed_over(tmp_path):
    for step in (2, 10):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        (folder / "a.bin").write_bytes(b"12345")
        (folder / "whole.json").write_text('{"a.bin": 5}')
    assert latest_checkpoint(tmp_path) == (tmp_path / "checkpoint-10", 10)
    (tmp_path / "checkpoint-10" / "whole.json").write_text('{"a.b')
    assert not is_whole(tmp_path / "checkpoint-10")
    assert latest_checkpoint(tmp_path) == (tmp_path / "checkpoint-2", 2)
    assert not (tmp_path / "checkpoint-10").exists()
    (tmp_path / "checkpoint-2" / "a.bin").unlink()
    assert latest_checkpoint(tmp_path) == (None, 0)


def test_lines_are_appended_whole_and_cut(tmp_path):
    path = tmp_path / "m.jsonl"
    cut_lines_after(path, 3)
    assert not path.exists()
    for step in range(1, 5):
        append_line(path, {"step": step, "kl": float("nan") if step == 2 else 0.5})
    tear(path)
    cut_lines_after(path, 3)
    assert metrics(tmp_path, "m.jsonl") == [
        {"step": 1, "kl": 0.5},
        {"step": 2, "kl": None},
        {"step": 3, "kl": 0.5},
    ]


def test_a_broken_step_stops_training_and_says_so(start, tokenizer, tmp_path):
    broken = copy.deepcopy(start)
    broken.model.norm.weight.register_hook(lambda gradient: gradient * float("nan"))
    with pytest.raises(ModelError, match=r"training step 1: grad_norm is nan.*learning_rate"):
        train_grpo(broken, tokenizer, training_rows(), REWARD, config(save_steps=1), tmp_path)
    assert not list((tmp_path / "checkpoints").iterdir())  # nothing to go on from
