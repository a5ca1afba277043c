#!/usr/bin/env bash
# verl's merger leaves the adapter out of the model that it merges: the training is not in it.
#
#     bash findings/verl-merger-adapter.sh [PYTHON]
#
# `python -m verl.model_merger merge` turns an FSDP checkpoint into a Hugging Face model. After a
# training with LoRA, it is expected to write the model that was trained, or to refuse. It writes
# the weights that the training began with. The adapter goes to `lora_adapter`, a folder inside of
# the model's, where from_pretrained does not look. "Saving lora adapter to" is the only sign of it.
# Here a random Llama learns a row of tokens, and verl's own manager saves the checkpoint.
# Measured with verl 0.9.1, transformers 5.10.4 and peft 0.21.2. Status 1: it no longer holds.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${1:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0
"$folder/venv/bin/pip" install --quiet accelerate==1.15.0 codetiming==1.4.0 datasets==5.2.0 \
    omegaconf==2.3.1 peft==0.21.2 pillow==13.0.0 ray==2.60.0 tensordict==0.10.0 \
    transformers==5.10.4
"$folder/venv/bin/pip" install --quiet --no-deps verl==0.9.1
export CUDA_VISIBLE_DEVICES="" HF_HUB_OFFLINE=1 TQDM_DISABLE=1 VERL_LOGGING_LEVEL=WARNING
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import subprocess
import sys
from importlib.metadata import version

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from tokenizers import Tokenizer, models
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast
from verl.utils.checkpoint.fsdp_checkpoint_manager import FSDPCheckpointManager

START, ACTOR, MERGED = (f"{sys.argv[1]}/{name}" for name in ("start", "actor", "merged"))
torch.manual_seed(0)
TOKENS = torch.randint(2, 32, (1, 16))


def read(path):
    return AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)


def logits(model):
    with torch.no_grad():
        return model.eval()(TOKENS).logits


words = Tokenizer(models.WordLevel({str(i): i for i in range(32)}, unk_token="0"))
tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="1", pad_token="1")
sizes = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4}
config = LlamaConfig(vocab_size=32, num_hidden_layers=2, **sizes)
AutoModelForCausalLM.from_config(config).save_pretrained(START)
settings = LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=8, target_modules="all-linear")
model = get_peft_model(read(START), settings)
store = torch.distributed.HashStore()
torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
fully_shard(model, mesh=init_device_mesh("cpu", (1,), mesh_dim_names=("fsdp",)))
optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.01)
for _ in range(100):
    model(input_ids=TOKENS, labels=TOKENS).loss.backward()
    optimizer.step()
    optimizer.zero_grad()
trained = logits(model)
FSDPCheckpointManager(model, optimizer, processing_class=tokenizer).save_checkpoint(ACTOR)

command = f"-m verl.model_merger merge --backend fsdp --local_dir {ACTOR} --target_dir {MERGED}"
said = subprocess.check_output([sys.executable, *command.split()], text=True)
start, merged = read(START).bfloat16().float().state_dict(), read(MERGED).state_dict()
same = sum(torch.equal(weight, start[name]) for name, weight in merged.items())
adapted = PeftModel.from_pretrained(read(MERGED), f"{MERGED}/lora_adapter")
gaps = [(logits(m) - trained).abs().max().item() for m in (read(START), read(MERGED), adapted)]
torch.distributed.destroy_process_group()
print(f"verl {version('verl')}; the last lines of its merger:", *said.splitlines()[-3:], sep="\n  ")
print("largest difference from the logits of the trained model:")
print(f"  the start {gaps[0]:.3f}, the merged model {gaps[1]:.3f}, with its adapter {gaps[2]:.3f}")
print(f"weights that are those of the start, in bfloat16: {same} of {len(merged)}")
print("expected: the merged model differs by bfloat16's rounding; real: as much as the start")
sys.exit(not (same == len(start) == len(merged) and gaps[1] > 0.3 and gaps[2] < 0.03))
PYTHON
