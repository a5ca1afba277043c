"""Rollouts from a real vLLM server on this machine, with the embedded model in float32.

vLLM for the CPU is installed into an environment of its own (`bench/vllm_server.py`). The tests are
skipped with the reason where that fails. They take about five minutes on two busy cores.
"""

import sys
import threading
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from pivottrace.config import ModelConfig, PoolConfig, ServerConfig, parse_config
from pivottrace.errors import ModelError
from pivottrace.models.generate import open_transformers
from pivottrace.models.load import load_model
from pivottrace.models.places import place_of
from pivottrace.models.rendering import render_prompt
from pivottrace.models.sampler import Sampling
from pivottrace.models.served import ServedSampler
from pivottrace.pipeline import run_all
from pivottrace.run.directory import RunDir
from pivottrace.stages import evaluate_before
from pivottrace.world.problems import generate

sys.path.append(str(Path(__file__).parents[2] / "bench"))

from vllm_server import CannotInstall, VllmServer, free_port, install, running

pytestmark = pytest.mark.timeout(1800)

HERE = ModelConfig(device="cpu", dtype="float32")
GREEDY = Sampling(num_samples=1, temperature=None, max_new_tokens=256)
SAMPLED = Sampling(num_samples=4, temperature=1.0, max_new_tokens=128, seed=3)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    try:
        python = install()
    except CannotInstall as error:
        pytest.skip(f"vLLM cannot be installed here: {error}")
    log = tmp_path_factory.mktemp("vllm") / "server.log"
    model = Path(place_of(HERE))
    with running(VllmServer(python, model, log, free_port())) as started:
        yield started


@pytest.fixture(scope="module")
def local():
    return open_transformers(HERE, None)


@pytest.fixture(scope="module")
def prompts(local):
    asked = [[{"role": "user", "content": p.question}] for p in generate("pool", 40, 0)]
    return [render_prompt(local.tokenizer, messages, PoolConfig()) for messages in asked]


def served(server, local, **settings):
    settings = ServerConfig(url=server.url, concurrency=16, **settings)
    return ServedSampler(settings, HERE, local.model, local.tokenizer)


def test_greedy_responses_are_those_of_transformers_token_by_token(server, local, prompts):
    sampler = served(server, local)
    found, expected = sampler.sample(prompts, GREEDY), local.sample(prompts, GREEDY)
    same = sum(a == b for a, b in zip(found, expected, strict=True))
    assert same == len(prompts) == 40
    facts = sampler.facts()
    assert facts["canary"]["mean_difference"] < 1e-4
    assert facts["server"]["max_model_len"] == sampler.max_positions == 1024
    assert facts["server"]["version"]


def test_samples_repeat_alone_and_in_company(server, local, prompts):
    sampler = served(server, local)
    found = sampler.sample(prompts, SAMPLED)
    assert sampler.sample(prompts[5:9], SAMPLED) == found[5:9]
    assert {len({tuple(tokens) for tokens in of_prompt}) for of_prompt in found} <= {2, 3, 4}


def test_a_stop_string_ends_a_response_as_here(server, local, prompts):
    settings = Sampling(num_samples=1, temperature=None, max_new_tokens=128, stop=(" =",))
    found = served(server, local).sample(prompts[:8], settings)
    assert found == local.sample(prompts[:8], settings)


def test_a_wrong_model_behind_the_server_is_refused(server, local, prompts):
    model, tokenizer = load_model(HERE)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.01 * weight.std() * torch.randn_like(weight)
    sampler = ServedSampler(ServerConfig(url=server.url), HERE, model, tokenizer)
    with pytest.raises(ModelError, match=r"the server has another model than embedded"):
        sampler.sample(prompts, SAMPLED)


def settings_of(output, **rollouts):
    common = {"num_samples": 8, "max_new_tokens": 128, "part_size": 16}
    values = {
        "output": str(output),
        "pool": {
            "questions": "world:default?num=64&seed=3",
            "evaluation": "world:default?num=16&seed=4&split=evaluation",
        },
        "model": {"device": "cpu", "dtype": "float32"},
        "labels": {"source": "oracle", "budget": 0.5},
        "rollouts": common | rollouts,
        "train": {"enabled": False},
    }
    return parse_config(values, "test")


def rows_of(run, kind, columns):
    parts = sorted((run.round_path / f"rollouts_{kind}").glob("part-*.parquet"))
    return [row for part in parts for row in pq.read_table(part, columns=columns).to_pylist()]


def test_a_server_that_is_killed_and_started_again_loses_and_repeats_nothing(
    server, tmp_path, capfd
):
    """The server is killed while the samples of the pool are made, and started again."""
    here = RunDir.create(settings_of(tmp_path / "here"))
    run_all(here, until="sample")
    own = {"url": server.url, "concurrency": 8, "wait_s": 600}
    run = RunDir.create(settings_of(tmp_path / "run", backend="openai", server=own))
    run_all(run, until="greedy")
    killed = []

    def disturb():
        folder = run.round_path / "rollouts_first"
        while not any(folder.glob("part-*.parquet")):
            time.sleep(0.02)
        server.kill()
        killed.append(len(list(folder.glob("part-*.parquet"))))
        time.sleep(3)
        server.start()

    thread = threading.Thread(target=disturb)
    thread.start()
    run_all(run, until="sample")
    thread.join()
    server.wait()
    said = capfd.readouterr().err
    assert 1 <= killed[0] < 4
    assert "waiting for http://127.0.0.1" in said
    assert "answers again" in said
    greedy = ["question_id", "prompt_tokens", "tokens", "answer", "finish"]
    assert rows_of(run, "greedy", greedy) == rows_of(here, "greedy", greedy)
    rows = rows_of(run, "sampled", ["question_id", "sample"])
    samples: dict[str, list[int]] = {}
    for row in rows:
        samples.setdefault(row["question_id"], []).append(row["sample"])
    assert [*samples] == [row["question_id"] for row in rows_of(here, "greedy", ["question_id"])]
    assert {tuple(found) for found in samples.values()} <= {tuple(range(4)), tuple(range(8))}
    evaluate_before.run(run)
    assert run.stage_facts("evaluate_before")["figures"]["k"] == 4
