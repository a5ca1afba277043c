"""Rollouts from a server: the same responses as here, and another model or a short one refused."""

import copy

import pyarrow as pa
import pytest
import torch
from fake_server import Dropped, FakeServer, Status, serving
from training_run import build_model

from pivottrace.commands.validate import validate
from pivottrace.config import ModelConfig, ServerConfig, parse_config
from pivottrace.errors import ConfigError, ModelError, RunDirError
from pivottrace.models import canary, server_client
from pivottrace.models.backends import sampler_for
from pivottrace.models.generate import TransformersSampler
from pivottrace.models.load import load_model
from pivottrace.models.sampler import Sampling
from pivottrace.models.served import ServedSampler
from pivottrace.report import render
from pivottrace.run.directory import RunDir
from pivottrace.schemas import QUESTIONS
from pivottrace.stages import evaluate_before, greedy, trace_signals, train

pytestmark = pytest.mark.usefixtures("one_thread")

PROMPTS = [[8, 9], [8, 10, 11], [12], [9, 9, 9, 9]]
GREEDY = Sampling(num_samples=1, temperature=None, max_new_tokens=6)
SAMPLED = Sampling(num_samples=3, temperature=1.0, max_new_tokens=6, seed=4)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr(server_client, "FIRST_PAUSE_S", 0.01)


@pytest.fixture
def fake(start, tokenizer):
    return FakeServer(copy.deepcopy(start).eval(), tokenizer)


@pytest.fixture
def served(fake, start, tokenizer):
    """Open a sampler over the server; the settings are those of `rollouts.server`."""
    with serving(fake) as url:
        yield lambda **settings: ServedSampler(
            ServerConfig(url=url, **settings), ModelConfig(path="tiny"), start.eval(), tokenizer
        )


def test_greedy_responses_are_those_of_the_model_here(served, start, tokenizer):
    expected = TransformersSampler(start, tokenizer).sample(PROMPTS, GREEDY)
    assert served().sample(PROMPTS, GREEDY) == expected


def test_samples_repeat_whatever_else_is_asked(served, fake):
    found = served().sample(PROMPTS, SAMPLED)
    assert len({tuple(tokens) for of_prompt in found for tokens in of_prompt}) > 6
    assert served(concurrency=1).sample(PROMPTS[2:], SAMPLED) == found[2:]
    assert served().sample([], SAMPLED) == []


def test_the_models_are_compared_before_anything_is_asked(served, fake, capsys):
    sampler = served()
    assert "canary" not in sampler.facts()
    sampler.sample(PROMPTS, SAMPLED)
    kinds = [
        "score" if "prompt_logprobs" in body else "greedy" if not body["temperature"] else "sample"
        for path, body, _ in fake.requests
        if path == "/v1/completions"
    ]
    assert kinds == ["greedy"] * 4 + ["score"] * 4 + ["sample"] * 4
    facts = sampler.facts()
    assert facts["canary"]["mean_difference"] < 1e-5
    assert facts["canary"]["num_tokens"] > 4
    assert facts["server"] == {
        "model": "tiny",
        "root": "/models/tiny",
        "max_model_len": 40,
        "version": "0.0",
    }
    assert "differ by 0.0000 nats" in capsys.readouterr().err
    sampler.sample(PROMPTS, SAMPLED)
    assert len(fake.completions()) == 12


@pytest.mark.parametrize(
    ("noise", "is_refused"), [(0.0005, False), (0.005, True), (float("nan"), True)]
)
def test_other_weights_behind_the_server_are_refused(served, fake, noise, is_refused):
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in fake.model.parameters():
            weight += noise * torch.randn_like(weight)
    if not is_refused:
        served().sample(PROMPTS, GREEDY)
        return
    sampler = served(tolerance=0.001)
    with pytest.raises(ModelError, match=r"the server has another model than tiny\. .* 0\.001 is"):
        sampler.sample(PROMPTS, SAMPLED)
    assert all(body["temperature"] == 0 for body in fake.completions())


def test_a_server_that_comes_back_with_another_model_is_refused(served, fake):
    sampler = served()
    sampler.sample(PROMPTS, GREEDY)
    failures = [Dropped()]

    def swap(path, body, reply):
        if failures:
            fake.model = build_model().eval()
            torch.nn.init.normal_(fake.model.lm_head.weight)
            raise failures.pop()
        return reply

    fake.spoil = swap
    with pytest.raises(ModelError, match="the server has another model"):
        sampler.sample(PROMPTS, SAMPLED)


def test_a_server_that_was_changed_between_two_calls_is_refused(served, fake, monkeypatch):
    sampler = served()
    sampler.sample(PROMPTS, GREEDY)
    torch.nn.init.normal_(fake.model.lm_head.weight)
    monkeypatch.setattr("pivottrace.models.served.QUIET_S", 0.0)
    with pytest.raises(ModelError, match="the server has another model"):
        sampler.sample(PROMPTS, SAMPLED)


def test_the_tolerance_is_tight_in_float32():
    server = ServerConfig()
    assert canary.tolerance(server, ModelConfig(dtype="float32")) == 0.001
    assert canary.tolerance(server, ModelConfig()) == 0.02
    assert canary.tolerance(ServerConfig(tolerance=0.2), ModelConfig(dtype="float32")) == 0.2


@pytest.mark.parametrize("most", [1, 2])
def test_texts_that_are_compared_leave_the_server_room_for_a_token(served, fake, most):
    fake.max_model_len = 4 + most
    served().sample(PROMPTS, Sampling(num_samples=1, temperature=None, max_new_tokens=most))
    asked = [body["prompt"] for _, body, _ in fake.requests if "prompt_logprobs" in body]
    assert max(map(len, asked)) < fake.max_model_len


def test_prompts_to_compare_go_from_the_shortest_to_the_longest():
    prompts = [[0] * n for n in range(1, 30)]
    assert [len(p) for p in canary.spread(prompts, 8)] == [1, 5, 9, 13, 17, 21, 25, 29]
    assert canary.spread([[5, 5], [5]], 8) == [[5], [5, 5]]


def test_the_room_is_the_smaller_of_both(served, fake):
    assert served().max_positions == 40
    fake.max_model_len = 100
    assert served().max_positions == 64
    fake.max_model_len = None
    assert served().max_positions == 64


def test_the_model_at_the_server_is_found_by_name(served, fake):
    with pytest.raises(ConfigError, match=r"server\.model = 'other': .* serves 'tiny'\."):
        served(model="other")
    fake.names = ["tiny", "more"]
    with pytest.raises(ConfigError, match=r"serves 'more', 'tiny'\. Name the model"):
        served()
    served(model="more").sample(PROMPTS, GREEDY)
    assert {body["model"] for body in fake.completions()} == {"more"}


def test_a_server_without_a_version_is_taken(served, fake):
    def spoil(path, body, reply):
        if path == "/version":
            raise Status(404)
        return reply

    fake.spoil = spoil
    assert served().facts()["server"]["version"] is None


def run_of(tmp_path, url, start, tokenizer, **sections):
    folder = tmp_path / "model"
    start.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    values = {
        "output": str(tmp_path / "run"),
        "model": {"path": str(folder), "device": "cpu"},
        "answers": {"verifier": "exact", "pattern": r"^(\S+)"},
        "pool": {"chat_template_args": {"enable_thinking": True}},
        "rollouts": {
            "backend": "openai",
            "server": {"url": url},
            "num_samples": 2,
            "max_new_tokens": 6,
            "part_size": 2,
        },
    }
    run = RunDir.create(parse_config(values | sections, "test"))
    rows = [
        {
            "id": f"q{i}",
            "prompt": [{"role": "user", "content": text}],
            "answer": "a",
            "source": "test",
            "extra": "{}",
        }
        for i, text in enumerate(["a", "b c", "d d", "e f g", "h"])
    ]
    for name in ("pool", "evaluation"):
        run.write_table(name, pa.Table.from_pylist(rows, schema=QUESTIONS))
    run.mark_done("pool", num_questions=len(rows))
    return run


@pytest.fixture
def make_run(tmp_path, fake, start, tokenizer):
    with serving(fake) as url:
        yield lambda **sections: run_of(tmp_path, url, start, tokenizer, **sections)


def test_a_run_goes_on_where_the_server_was_stopped(make_run, fake):
    """Nothing is lost, nothing comes twice, and parts that were whole are not asked for again."""
    run = make_run(rollouts={**BASE, "server": {"url": "http://127.0.0.1:9", "wait_s": 0}})
    with pytest.raises(ModelError, match="the server does not answer"):
        greedy.run(run)
    run = make_run()
    asked = []

    def stop(path, body, reply):
        if path == "/v1/completions" and "prompt_logprobs" not in body:
            asked.append(tuple(body["prompt"]))
            if len(asked) == 2 + 4:  # two for the comparison, two of each part
                raise Status(400)
        return reply

    fake.spoil = stop
    with pytest.raises(ConfigError, match="says 400"):
        greedy.run(run)
    assert [run.has_part("rollouts_greedy", i) for i in range(3)] == [True, False, False]
    fake.spoil = lambda path, body, reply: reply
    before = len(fake.completions())
    greedy.run(run)
    assert len(fake.completions()) - before == 2 + 3
    rows = run.read_parts("rollouts_greedy", "greedy").to_pylist()
    assert [row["question_id"] for row in rows] == [f"q{i}" for i in range(5)]
    facts = run.stage_facts("greedy")
    assert facts["server"]["root"] == "/models/tiny"
    assert facts["canary"]["mean_difference"] < 1e-5
    assert render._sampled_by(facts).startswith("a server (version 0.0) as tiny; its log-prob")
    trace_signals.run(run)
    evaluate_before.run(run)
    assert run.stage_facts("evaluate_before")["figures"]["num_questions"] == 5


BASE = {
    "backend": "openai",
    "num_samples": 2,
    "max_new_tokens": 6,
    "part_size": 2,
}


def test_prompts_must_fit_the_server(make_run, fake):
    fake.max_model_len = 9
    with pytest.raises(ConfigError, match=r"and the model reads 9\."):
        greedy.run(make_run())
    assert not fake.completions()


def test_another_model_here_is_refused_later(make_run, fake, tmp_path, tokenizer):
    run = make_run()
    greedy.run(run)
    other = build_model()
    torch.nn.init.normal_(other.lm_head.weight)
    other.save_pretrained(tmp_path / "model")
    with pytest.raises(RunDirError, match="another model wrote the rollouts"):
        trace_signals.run(run)


def test_a_trained_model_is_sampled_here(make_run, fake, tmp_path, start, tokenizer, capsys):
    config = make_run().config
    assert isinstance(sampler_for(config.model, config), ServedSampler)
    folder = tmp_path / "trained"
    start.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    trained = config.model.model_copy(update={"path": str(folder)})
    assert isinstance(sampler_for(trained, config), TransformersSampler)
    assert "so the trained model is sampled here" in capsys.readouterr().err


def test_questions_are_rewritten_by_the_model_that_the_server_has(
    make_run, start, tokenizer, monkeypatch
):
    """Several processes must get the same questions, so they sample here."""
    run = make_run()
    assert isinstance(train._rewriter(run, start, tokenizer), ServedSampler)
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert isinstance(train._rewriter(run, start, tokenizer), TransformersSampler)
    monkeypatch.delenv("WORLD_SIZE")
    run.mark_done("train", trained=True)
    assert isinstance(train._rewriter(run.in_round(1), start, tokenizer), TransformersSampler)


def test_validate_asks_the_server_and_waits_for_none():
    model, tokenizer = load_model(ModelConfig(device="cpu"))
    fake = FakeServer(model, tokenizer)
    fake.max_model_len = 500
    values = {
        "pool": {"questions": "world:default?num=24&seed=3"},
        "rollouts": {"backend": "openai", "max_new_tokens": 128},
    }
    with serving(fake) as url:
        values["rollouts"]["server"] = {"url": url}
        lines = list(validate(parse_config(values, "test")))
    assert f"sampling: by openai, {url} (version 0.0) as 'tiny'" in lines
    assert any("the model reads 500" in line for line in lines)
    with pytest.raises(ModelError, match="the server does not answer"):
        list(validate(parse_config(values, "test")))
