#!/usr/bin/env bash
# A function as transformers' `custom_generate` takes the tokenizer and the streamer out of `generate`.
#
#     bash findings/transformers-custom-generate.sh [PYTHON]
#
# `model.generate` takes a function as `custom_generate`: a decoding loop of one's own, in the place
# of the built-in one. A loop that only calls the built-in one is expected to change nothing. But
# `generate` forgets its own arguments `tokenizer`, `streamer` and `synced_gpus` then. With stop
# strings it says that no tokenizer was passed, though one was. A streamer is told the prompt and
# the end, and no new token in between. `synced_gpus = True`, which keeps the processes of sharded
# weights together, does not reach the loop.
# Measured with transformers 5.23.0, torch 2.13.0. Status 1: it no longer holds.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${1:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0
"$folder/venv/bin/pip" install --quiet transformers==5.23.0
"$folder/venv/bin/python" - <<'PYTHON'
import sys

import torch
import transformers
from tokenizers import Tokenizer, decoders, models
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

words = {"<pad>": 0, "</s>": 1, **{letter: place for place, letter in enumerate("abcdefgh", 2)}}
backend = Tokenizer(models.BPE(vocab=words, merges=[]))
backend.decoder = decoders.Fuse()
tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>", eos_token="</s>")
torch.manual_seed(0)
sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
model = LlamaForCausalLM(
    LlamaConfig(
        vocab_size=len(words), num_attention_heads=2, eos_token_id=1, pad_token_id=0, **sizes
    )
).eval()


class Heard:
    """A streamer that counts the tokens which it is given."""

    def __init__(self):
        self.tokens = 0

    def put(self, tokens):
        self.tokens += tokens.numel()

    def end(self):
        pass


reached = []


def built_in(model, *arguments, **more):
    reached.append(more.get("synced_gpus"))
    return model._sample(*arguments, **more)


def tokens_heard(**more):
    heard = Heard()
    model.generate(
        torch.tensor([[2, 3]]), max_new_tokens=6, min_new_tokens=6, streamer=heard, **more
    )
    return heard.tokens


def with_stop_strings(**more):
    try:
        model.generate(
            torch.tensor([[2, 3]]),
            max_new_tokens=6,
            stop_strings=["hh"],
            tokenizer=tokenizer,
            **more,
        )
    except ValueError as error:
        return "refused: " + str(error).split(", but ")[1].split(".")[0]
    return "generated"


print(f"transformers {transformers.__version__}")
found = {}
for name, more in (("built-in loop", {}), ("as a function", {"custom_generate": built_in})):
    found[name] = tokens_heard(**more), with_stop_strings(**more)
    print(
        f"{name}: the streamer got {found[name][0]} tokens; with stop strings and tokenizer "
        f"{found[name][1]}"
    )
model.generate(torch.tensor([[2, 3]]), max_new_tokens=2, synced_gpus=True, custom_generate=built_in)
print(f"synced_gpus=True reaches the function as {reached[-1]}")
print("expected: twice the same, and True; real: without tokenizer, streamer and synced_gpus")
sys.exit(
    reached[-1] is not None
    or found["built-in loop"] != (8, "generated")
    or found["as a function"][0] >= 8
    or "tokenizer" not in found["as a function"][1]
)
PYTHON
