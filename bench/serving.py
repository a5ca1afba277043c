"""Tokens per second from a server through our client, against vLLM's own load generator.

    python bench/serving.py [--rounds 5] [--questions 256] [--concurrency 32]

vLLM serves the embedded model in float32 on this machine (`vllm_server`; it is installed where it
is missing). Its own load generator (`vllm.benchmarks.serve`) and our sampler ask the same prompts
at the same concurrency, one response each. They take turns. The figure is the median of the ratios
within a round, with the lowest and the highest. `greedy` is temperature 0; `sampled` is
temperature 1, where our requests have a seed each and the generator's have none. Transformers'
`generate` answers the same prompts in this process, in batches of the same size. Then the canary's
mean difference is measured for copies of the model that are not the one served.
"""

import argparse
import json
import statistics
import subprocess
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from pivottrace.config import ModelConfig, PoolConfig, ServerConfig
from pivottrace.models.canary import release_canary
from pivottrace.models.generate import TransformersSampler
from pivottrace.models.load import load_model
from pivottrace.models.places import place_of
from pivottrace.models.rendering import render_prompt
from pivottrace.models.sampler import Sampling
from pivottrace.models.served import ServedSampler
from pivottrace.world.problems import generate
from vllm_server import VERSION, VllmServer, free_port, install, running

HERE = ModelConfig(device="cpu", dtype="float32")
MOST_TOKENS = 256
# vLLM's generator takes seconds to be imported, so one process takes the arguments of every round.
GENERATOR = """
import argparse, json, sys
from vllm.benchmarks.serve import add_cli_args, main
from vllm.utils.argparse_utils import FlexibleArgumentParser
parser = FlexibleArgumentParser()
add_cli_args(parser)
for line in sys.stdin:
    found = main(parser.parse_args(json.loads(line)))
    keys = ("completed", "failed", "total_input_tokens", "total_output_tokens", "duration")
    print("RESULT " + json.dumps({key: found[key] for key in keys}), flush=True)
"""


class Generator:
    """vLLM's load generator in a process of its own."""

    def __init__(self, server: VllmServer, prompts: Path, number: int, concurrency: int) -> None:
        self._arguments = [
            *("--backend", "openai", "--base-url", server.url.removesuffix("/v1")),
            *("--endpoint", "/v1/completions", "--model", "embedded"),
            *("--tokenizer", str(server.model), "--dataset-name", "custom"),
            *("--dataset-path", str(prompts), "--custom-output-len", str(MOST_TOKENS)),
            *("--num-prompts", str(number), "--max-concurrency", str(concurrency)),
            *("--skip-chat-template", "--disable-shuffle", "--disable-tqdm", "--num-warmups", "0"),
        ]
        self._process = subprocess.Popen(
            [str(server.python), "-c", GENERATOR],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def __call__(self, temperature: float) -> dict[str, Any]:
        """One pass over the prompts: counts of tokens, and its seconds."""
        arguments = [*self._arguments, "--temperature", str(temperature)]
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(arguments) + "\n")
        self._process.stdin.flush()
        for line in self._process.stdout:
            if line.startswith("RESULT "):
                found: dict[str, Any] = json.loads(line.removeprefix("RESULT "))
                return found
        raise RuntimeError("vLLM's load generator ended without a result")

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def sampling(temperature: float, seed: int, batch_size: int) -> Sampling:
    return Sampling(
        num_samples=1,
        temperature=temperature or None,
        max_new_tokens=MOST_TOKENS,
        batch_size=batch_size,
        seed=seed,
    )


def timed(sampler: Any, prompts: list[list[int]], settings: Sampling) -> tuple[float, float]:
    """Tokens, each response with its end token, and seconds."""
    started = time.perf_counter()
    found = sampler.sample(prompts, settings)
    seconds = time.perf_counter() - started
    return sum(min(len(tokens) + 1, MOST_TOKENS) for (tokens,) in found), seconds


def throughput(
    server: VllmServer, prompts: list[list[int]], tokenizer: Any, rounds: int, concurrency: int
) -> None:
    """Print the table of tokens per second."""
    model, _ = load_model(HERE)
    local = TransformersSampler(model, tokenizer)
    settings = ServerConfig(url=server.url, concurrency=concurrency)
    served = ServedSampler(settings, HERE, model, tokenizer)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "prompts.jsonl"
        texts = (tokenizer.decode(prompt) for prompt in prompts)
        file.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in texts))
        generator = Generator(server, file, len(prompts), concurrency)
        print(
            "| | generator | our client | client / generator "
            "| transformers | client / transformers |"
        )
        print("|---|---|---|---|---|---|")
        for name, temperature in (("greedy", 0.0), ("sampled", 1.0)):
            rates: dict[str, list[float]] = {"generator": [], "client": [], "transformers": []}
            for each in range(rounds + 1):  # the first round warms up
                theirs = generator(temperature)
                assert theirs["completed"] == len(prompts), theirs
                assert theirs["total_input_tokens"] == sum(map(len, prompts)), theirs
                rates["generator"].append(theirs["total_output_tokens"] / theirs["duration"])
                settings_ = sampling(temperature, each, concurrency)
                for key, sampler in (("client", served), ("transformers", local)):
                    tokens, seconds = timed(sampler, prompts, settings_)
                    rates[key].append(tokens / seconds)
            print(_row(name, {key: values[1:] for key, values in rates.items()}), flush=True)
        generator.close()


def _row(name: str, rates: dict[str, list[float]]) -> str:
    def ratio(key: str) -> str:
        found = [a / b for a, b in zip(rates["client"], rates[key], strict=True)]
        return f"{statistics.median(found):.2f} ({min(found):.2f} to {max(found):.2f})"

    mean = {key: f"{statistics.median(values):,.0f}" for key, values in rates.items()}
    return (
        f"| {name} | {mean['generator']} | {mean['client']} | {ratio('generator')} | "
        f"{mean['transformers']} | {ratio('transformers')} |"
    )


def differences(server: VllmServer, prompts: list[list[int]]) -> None:
    """Print the canary's mean difference for copies of the model that differ."""
    print(f"| served in {server.dtype}, compared with | tokens | mean difference, nats |")
    print("|---|---|---|")
    for name in ("float32", "bfloat16", "8-bit weights", "4-bit weights", "noise of 1 %", "10 %"):
        config = HERE.model_copy(update={"dtype": "bfloat16" if name == "bfloat16" else "float32"})
        model, tokenizer = load_model(config)
        _change(model, name)
        settings = ServerConfig(url=server.url, tolerance=1e9)
        sampler = ServedSampler(settings, config, model, tokenizer)
        client, served = sampler._client, sampler._served
        greedy = sampling(0.0, 0, 32)
        canary = release_canary(client, served, prompts, greedy, model, config)
        found = canary.compare(client, served)
        print(f"| {name} | {found['num_tokens']} | {found['mean_difference']:.6f} |", flush=True)


@torch.no_grad()
def _change(model: Any, name: str) -> None:
    """Change the matrices of a model: rounded by row, or with noise relative to their spread."""
    bits = {"8-bit weights": 8, "4-bit weights": 4}.get(name)
    noise = {"noise of 1 %": 0.01, "10 %": 0.1}.get(name, 0.0)
    torch.manual_seed(0)
    for weight in (w for w in model.parameters() if w.ndim == 2):
        if bits is not None:
            step = weight.abs().amax(dim=1, keepdim=True) / (2 ** (bits - 1) - 1)
            weight.copy_((weight / step).round() * step)
        if noise:
            weight += noise * weight.std() * torch.randn_like(weight)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--questions", type=int, default=256)
    parser.add_argument("--concurrency", type=int, default=32)
    parser.add_argument("--log", type=Path, default=Path("runs/vllm-server.log"))
    arguments = parser.parse_args()
    arguments.log.parent.mkdir(parents=True, exist_ok=True)
    _, tokenizer = load_model(HERE)
    asked = generate("pool", arguments.questions, 0)
    messages = ([{"role": "user", "content": problem.question}] for problem in asked)
    prompts = [render_prompt(tokenizer, each, PoolConfig()) for each in messages]
    print(
        f"vLLM {VERSION}, torch {torch.__version__}, transformers {version('transformers')}, "
        f"httpx2 {version('httpx2')}; {len(prompts)} prompts, at most {MOST_TOKENS} tokens each, "
        f"concurrency {arguments.concurrency}, {arguments.rounds} rounds\n"
    )
    model, python = Path(place_of(HERE)), install()
    # With a cache of prefixes, whoever asks second would find the prompts read already.
    options = ("--no-enable-prefix-caching",)
    for dtype in ("float32", "bfloat16"):
        server = VllmServer(python, model, arguments.log, free_port(), dtype, options)
        with running(server):
            if dtype == "float32":
                throughput(server, prompts, tokenizer, arguments.rounds, arguments.concurrency)
                print()
            differences(server, prompts)
            print()


if __name__ == "__main__":
    main()
