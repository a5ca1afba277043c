"""Two processes on the CPU, as torchrun starts them: the same training as one."""

import subprocess
import sys

import pytest
import torch
import two_processes
from training_run import metrics
from transformers import Qwen3ForCausalLM

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.slow
@pytest.mark.parametrize("order", ["shuffled", "learnable"])
def test_two_processes_train_as_one(start, tokenizer, tmp_path, order):
    both, alone = tmp_path / "both", tmp_path / "alone"
    # `accelerate launch --cpu` starts a single process, whatever --num_processes says.
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        two_processes.__file__,
        str(both),
        order,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    expected = two_processes.run(alone, start, tokenizer, order)
    found = Qwen3ForCausalLM.from_pretrained(both / "model").state_dict()
    assert (both / "rule-0.json").read_text() == (alone / "rule-0.json").read_text()
    assert (both / "rule-1.json").read_text() == (alone / "rule-0.json").read_text()
    for ours, theirs in zip(metrics(both), metrics(alone), strict=True):
        assert ours["reward"] == theirs["reward"]
        assert ours["reward/weak"] == pytest.approx(theirs["reward/weak"])
        assert ours["grad_norm"] == pytest.approx(theirs["grad_norm"], rel=1e-4)
    curve = metrics(both, "learning_curve.jsonl")
    assert [point["step"] for point in curve] == [0, 1, 2]
    # Adam's step is near the gradient's sign: where that is nearly 0, rounding decides.
    close = [torch.isclose(found[k], expected[k], atol=1e-5).float().mean() for k in expected]
    assert torch.stack(close).mean() > 0.99
