"""A tiny random Qwen3 and what the training tests share: to train it and read what was written."""

import copy
import json
import operator
from functools import partial

import pyarrow as pa
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from pivottrace.config import TrainConfig
from pivottrace.rewards.mix import mixed_reward
from pivottrace.schemas import TRAINING_ROWS
from pivottrace.training.trl import train_grpo
from pivottrace.verifier.answers import group_equivalent

WORDS = ["<pad>", "</s>", "<s>", "user", "system", "assistant", "think", "no", ":", *"abcdefghij"]
TEMPLATE = (
    "{% for m in messages %}{{ m['role'] + ' : ' + m['content'] + ' ' }}{% endfor %}"
    "{% if add_generation_prompt %}assistant :{% if not enable_thinking %} no think"
    "{% endif %}{% endif %}"
)
GROUP = 4
# How CUDA and the CPU say that memory ran out.
NO_MEMORY = (
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 9 bytes. Error 12"),
)


def build_tokenizer(template=TEMPLATE):
    words = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="<pad>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    # Like Llama's: a beginning-of-sequence token that a template must not get twice.
    words.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 2)]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words,
        pad_token="<pad>",
        eos_token="</s>",
        bos_token="<s>",
        padding_side="left",
    )
    tokenizer.chat_template = template
    return tokenizer


def build_model():
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=len(WORDS),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        tie_word_embeddings=True,
        max_position_embeddings=64,
        bos_token_id=2,
        eos_token_id=1,
        pad_token_id=0,
    )
    return Qwen3ForCausalLM(config)


def training_rows(weights=(1.0, 1.0, 1.0), routes=("annotate", "weak", "annotate")):
    return pa.Table.from_pylist(
        [
            {
                "question_id": f"q{i}",
                "prompt": [{"role": "user", "content": "abcdefghij"[i]}],
                "route": route,
                "weight": weight,
                "label": "even" if route == "annotate" else None,
            }
            for i, (weight, route) in enumerate(zip(weights, routes, strict=True))
        ],
        schema=TRAINING_ROWS,
    )


def parity(text):
    """A made-up answer that half of random completions get right."""
    return "even" if len(text.split()) and WORDS.index(text.split()[0]) % 2 == 0 else "odd"


REWARD = mixed_reward(
    extract=parity,
    check=lambda answers, truths: [a == t for a, t in zip(answers, truths, strict=True)],
    group=partial(group_equivalent, equal=operator.eq),
    num_generations=GROUP,
)
CONFIG = TrainConfig(
    steps=2,
    questions_per_step=3,
    num_generations=GROUP,
    learning_rate=1e-2,
    max_new_tokens=5,
    warmup_steps=0,
    save_steps=100,
    max_grad_norm=1e9,
)


def config(**changes):
    return CONFIG.model_copy(update=changes)


def train(start, tokenizer, output, rows=None, reward=REWARD, cfg=CONFIG, **more):
    rows = training_rows() if rows is None else rows
    model = copy.deepcopy(start)
    train_grpo(model, tokenizer, rows, reward, cfg, output, seed=3, **more)
    return Qwen3ForCausalLM.from_pretrained(output / "model").state_dict()


def metrics(output, name="metrics.jsonl"):
    return [json.loads(line) for line in (output / name).read_text().splitlines()]


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)
