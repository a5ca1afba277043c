"""Train one step, sharded by FSDP over two processes, and save it by verl's own checkpoint manager.

It runs in verl's environment. The places and the note of the step are as verl's trainer writes them
(`_save_checkpoint` of verl/trainer/ppo/v1/trainer_base.py).
"""

import json
import os
import sys
from pathlib import Path

import torch
import torch.distributed
import torch.multiprocessing
from peft import LoraConfig, get_peft_model
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, StateDictType
from transformers import AutoModelForCausalLM, AutoTokenizer
from verl.utils.checkpoint.fsdp_checkpoint_manager import FSDPCheckpointManager
from verl.utils.fsdp_utils import get_fsdp_wrap_policy

NUM_SHARDS = 2


def model_to_train(source, with_adapters):
    model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
    if not with_adapters:
        return model
    torch.manual_seed(0)
    settings = LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=8, target_modules="all-linear")
    model = get_peft_model(model, settings)
    for name, weight in model.named_parameters():
        if "lora_B" in name:  # they begin at 0, and one step would hardly move them
            torch.nn.init.normal_(weight, std=0.02)
    return model


def merged(source, weights, with_adapters):
    """The weights of the whole model, by their names in a model without adapters."""
    whole = model_to_train(source, with_adapters)
    whole.load_state_dict(weights)
    return (whole.merge_and_unload() if with_adapters else whole).state_dict()


def work(rank, source, checkpoints, step, with_adapters):
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT="29517")
    torch.distributed.init_process_group("gloo", rank=rank, world_size=NUM_SHARDS)
    tokenizer = AutoTokenizer.from_pretrained(source)
    model = model_to_train(source, with_adapters)
    model = FullyShardedDataParallel(
        model,
        device_mesh=init_device_mesh("cpu", (NUM_SHARDS,), mesh_dim_names=("fsdp",)),
        auto_wrap_policy=get_fsdp_wrap_policy(model, is_lora=with_adapters),
        device_id=torch.device("cpu"),
        use_orig_params=False,
    )
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    tokens = tokenizer("What is 1 + 1?", return_tensors="pt").input_ids
    model(input_ids=tokens, labels=tokens).loss.backward()
    optimizer.step()
    manager = FSDPCheckpointManager(
        model,
        optimizer,
        torch.optim.lr_scheduler.ConstantLR(optimizer),
        processing_class=tokenizer,
    )
    folder = checkpoints / f"global_step_{step}"
    manager.save_checkpoint(str(folder / "actor"), global_step=step)
    with FullyShardedDataParallel.state_dict_type(model, StateDictType.FULL_STATE_DICT):
        weights = model.state_dict()  # every process takes part
    if rank == 0:
        torch.save(merged(source, weights, with_adapters), checkpoints / "expected.pt")
        torch.save({}, folder / "data.pt")
        (checkpoints / "latest_checkpointed_iteration.txt").write_text(str(step))
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    source, checkpoints, step, with_adapters = sys.argv[1:]
    arguments = (source, Path(checkpoints), int(step), with_adapters == "adapters")
    torch.multiprocessing.spawn(work, arguments, nprocs=NUM_SHARDS)
    print(json.dumps({"shards": NUM_SHARDS}))
