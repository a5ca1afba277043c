"""The rewards of exports: our verdicts, the same keys for every row, and never an exception."""

import asyncio
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import NamedTuple

import pytest
import torch
from export_run import exported, give_labels, triaged
from exported_code import loaded

KEYS = ["acc", "answered", "failed", "score"]


@pytest.fixture(scope="module")
def make_export(tmp_path_factory):
    from pivottrace.config import parse_config
    from pivottrace.run.directory import RunDir

    def make(name, **settings):
        sections = {key: value for key, value in settings.items() if isinstance(value, dict)}
        options = {key: value for key, value in settings.items() if key not in sections}
        place = tmp_path_factory.mktemp(name)
        values = {"output": str(place / "run"), "labels": {"source": "file", "budget": 5}}
        run = triaged(RunDir.create(parse_config(values | sections, "test")))
        give_labels(run)
        return exported(run, name, place / "out", **options)[0]

    return make


@pytest.fixture(scope="module")
def verl(make_export):
    with loaded(make_export("verl"), "reward.py") as module:
        yield module


@pytest.mark.parametrize(
    ("response", "truth", "right"),
    [
        ("It is \\boxed{1800}.", "1,800", 1.0),  # verl's own scorers refuse 1,800
        ("The answer is 1,800.", "1800", 1.0),
        ("#### 0.5", r"$50\%$", 1.0),  # depends on the version of antlr in math-verify alone
        ("The answer is (2,1)", "(1, 2)", 0.0),
        ("The answer is C.", "(C)", 1.0),
        ("\\boxed{\\frac{2}{4}}", "1/2 ||| a half", 1.0),
        ("\\boxed{7}", "8", 0.0),
    ],
)
def test_a_verdict_is_ours_and_the_reward_is_weighted(verl, response, truth, right):
    found = verl.compute_score("pivottrace/weak", response, truth, {"weight": 0.6})
    assert found == {"score": 0.6 * right, "acc": right, "answered": 1.0, "failed": 0.0}


@pytest.mark.parametrize(
    ("response", "truth", "extra"),
    [
        ("", "8", {"weight": 1.0}),
        ("no answer here", "8", {}),
        ("\\boxed{8}", "8", None),
        ("\\boxed{8}", None, {"weight": 0.5}),
        (None, "8", {"weight": 0.5}),
        (b"\\boxed{8}", "8", {"weight": 0.5}),
        ("\\boxed{8}", 8, {"weight": 0.5}),
        ("\\boxed{8}", "8", {"weight": float("nan")}),
        ("\\boxed{8}", "8", {"weight": "much"}),
        ("\\boxed{" * 5000, "8", {"weight": 1.0}),
        ("\x00\ud800\\boxed{8}", "8", {"weight": 1.0}),
        (r"\boxed{9^{9^{9^{9}}}}", "8", {"weight": 1.0}),
    ],
)
def test_scoring_never_raises_and_always_has_the_same_keys(verl, response, truth, extra):
    found = verl.compute_score("x", response, truth, extra, something_new=1)
    assert sorted(found) == KEYS
    assert all(isinstance(value, float) for value in found.values())
    assert found["failed"] == 0.0 or found["score"] == 0.0


def test_what_cannot_be_judged_is_flagged_and_logged_once(verl, caplog):
    for _ in range(3):
        assert verl.compute_score("x", "\\boxed{8}", None, {})["failed"] == 1.0
    assert caplog.text.count("could not be judged") <= 1


def test_it_scores_in_threads_without_a_signal(verl):
    """math-verify by itself sets an alarm, which only the main thread may do."""
    truths = [f"{n}/{n + 1}" for n in range(1, 40)]

    def score(truth):
        return verl.compute_score("x", f"\\boxed{{{truth}}}", truth, {"weight": 1.0})

    with ThreadPoolExecutor(8) as pool:
        assert {s["score"] for s in pool.map(score, truths)} == {1.0}


CODE = """
import importlib.util, json, sys
sys.modules["pivottrace"] = None  # any import of it fails
spec = importlib.util.spec_from_file_location("reward", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
print(json.dumps(module.compute_score("x", "So x+y.", "y+x") | {"n": "pivottrace" in sys.modules}))
print(json.dumps(module.compute_score("x", "\\\\boxed{x+y}", "y+x")))
"""


def test_it_needs_no_pivottrace(make_export):
    reward = make_export("verl") / "reward.py"
    done = subprocess.run(
        [sys.executable, "-c", CODE, reward], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout.splitlines()[1])["acc"] == 1.0
    for path in reward.parent.rglob("*.py"):
        assert "import pivottrace\n" not in path.read_text() and "pivottrace." not in {
            line.split()[1] for line in path.read_text().splitlines() if line.startswith("from piv")
        }


def test_a_missing_math_verify_stops_the_start_and_not_the_scoring(make_export, tmp_path):
    (tmp_path / "math_verify.py").write_text("raise ImportError('none here')\n")
    reward = make_export("verl") / "reward.py"
    done = subprocess.run(
        [sys.executable, "-c", CODE, reward],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(tmp_path)},
    )
    assert done.returncode == 1
    assert "RuntimeError: answers cannot be compared: math-verify cannot be imp" in done.stderr


def test_a_function_of_the_users_own_may_raise(make_export, tmp_path, monkeypatch):
    (tmp_path / "own_check.py").write_text(
        "def same(answer, truth):\n    if answer == '3': raise KeyError(answer)\n"
        "    return answer == truth\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    folder = make_export("trl", answers={"verifier": "own_check:same"})
    with loaded(folder, "pivottrace_reward.py") as module:
        completions = [[{"role": "assistant", "content": f"\\boxed{{{n}}}"}] for n in (1, 3, 2)]
        logged = {}
        rewards = module.weighted_correctness(
            completions, ["1", "3", "2"], [0.5, 1.0, 1.0], logged.__setitem__, id=["a", "b", "c"]
        )
        module.SCORER._verifier.close()
    assert rewards == [0.5, 0.0, 1.0]
    assert logged == {"acc": pytest.approx(2 / 3), "failed": pytest.approx(1 / 3)}


def test_trl_may_give_texts_or_messages_and_answers_without_a_box(make_export):
    with loaded(make_export("trl"), "pivottrace_reward.py") as module:
        assert module.weighted_correctness(["The answer is 5."], ["5"], [0.4]) == [0.4]
        assert module.weighted_correctness(["#### 5", [], None], ["5"] * 3) == [1.0, 0.0, 0.0]


def test_ignored_weights_do_not_act(make_export):
    with loaded(make_export("trl", weights="ignore"), "pivottrace_reward.py") as module:
        assert module.weighted_correctness(["The answer is 5."], ["5"], [0.4]) == [1.0]


def test_the_settings_of_answers_go_along(make_export):
    folder = make_export(
        "trl",
        answers={"pattern": "ANSWER=(.*)", "verifier": "exact"},
        pool={"prompt_suffix": "Say ANSWER=number."},
    )
    with loaded(folder, "pivottrace_reward.py") as module:
        rewards = module.weighted_correctness(
            ["ANSWER=a b", "\\boxed{a b}", "ANSWER=A b"], ["a b"] * 3
        )
    assert rewards == [1.0, 0.0, 0.0]


LONG = "What is the sum of two and three, and why? <|im_start|>assistant\n"


@pytest.fixture(scope="module")
def openrlhf(make_export):
    with loaded(make_export("openrlhf"), "reward.py") as module:
        yield module


def test_openrlhf_gets_one_number_of_each_kind(openrlhf):
    prompt = "<|im_start|>user\nWhat is 1+1? Not \\boxed{3}.<|im_end|>\n<|im_start|>assistant\n"
    label = json.dumps({"answer": "2", "weight": 0.6, "route": "weak", "id": "q"})
    found = openrlhf.reward_func([prompt + "The answer is 2.<|im_end|>\n"], [prompt], [label])
    assert found == {"rewards": 0.6, "scores": 1.0, "extra_logs": {"answered": 1.0, "failed": 0.0}}
    assert torch.tensor([found["rewards"]]).is_floating_point()
    nothing = openrlhf.reward_func([prompt + "<|im_end|>"], [prompt], [label])
    assert nothing["extra_logs"]["answered"] == 0.0  # the prompt's own box is no answer


@pytest.mark.parametrize("label", ["", None, "{", "[1]", '"text"', "{}"])
def test_openrlhf_flags_a_label_that_is_none_of_ours(openrlhf, label):
    found = openrlhf.reward_func(["Q: 2"], ["Q: "], [label])
    assert found["rewards"] == 0.0 and found["extra_logs"]["failed"] == 1.0


@pytest.mark.parametrize(
    ("query", "prompt", "response"),
    [
        ("ask: 5", "ask: ", "5"),
        ("ask: 5</s></s>", "ask: ", "5"),
        ("ask: 5<|eot_id|> <pad><pad>\n", "ask: ", "5"),
        ("ask: 5<｜end▁of▁sentence｜>", "ask: ", "5"),
        ("ask: a < b", "ask: ", "a < b"),
        ("ask: |x| <|x|", "ask: ", "|x| <|x|"),
        (f"cut {LONG}5", f"a long start, cut {LONG}", "5"),  # cut on the left
        ("nothing alike", "ask: ", "nothing alike"),
    ],
)
def test_openrlhf_responses_are_found_in_queries(openrlhf, query, prompt, response):
    assert openrlhf.response_of(query, prompt) == response


def test_slime_may_give_one_sample_or_a_group(make_export):
    def sample(text, metadata):
        return SimpleNamespace(response=text, label="5", metadata=metadata)

    with loaded(make_export("slime"), "slime_reward.py") as module:
        one = asyncio.run(module.reward(None, sample("\\boxed{5}", {"weight": 0.5})))
        group = [sample("\\boxed{5}", None), sample("\\boxed{6}", {"weight": 0.5})]
        several = asyncio.run(module.reward(None, group, evaluation=True))
    assert one == {"score": 0.5, "acc": 1.0, "answered": 1.0, "failed": 0.0}
    assert [each["score"] for each in several] == [1.0, 0.0]
    assert {tuple(sorted(each)) for each in several} == {tuple(KEYS)}


class BaseTextEnv:
    """As in skyrl_gym."""

    def __init__(self):
        self.turns = 0


def test_skyrl_ends_after_one_turn_with_the_reward(make_export):
    step = dict  # skyrl_gym's BaseTextEnvStepOutput is a TypedDict
    contents = {"BaseTextEnv": BaseTextEnv, "BaseTextEnvStepOutput": step}
    stand_ins = [("skyrl_gym.envs.base_text_env", contents)]
    row = {"reward_spec": {"method": "rule", "ground_truth": "5"}, "extra_info": {"weight": 0.5}}
    with loaded(make_export("skyrl"), "skyrl_env.py", stand_ins) as module:
        env = module.PivotTraceEnv(env_config={}, extras=row | {"max_turns": 1})
        out = env.step("\\boxed{5}")
        assert module.PivotTraceEnv().step("\\boxed{5}")["metadata"]["failed"] == 1.0
    assert (out["reward"], out["done"], out["observations"]) == (0.5, True, [])
    assert env.get_metrics() == {"acc": 1.0, "answered": 1.0, "failed": 0.0}


class EnvironmentReturn(NamedTuple):
    """As in nemo_rl."""

    observations: list
    metadata: list
    next_stop_strings: list
    rewards: object
    terminateds: object
    answers: object


@dataclass
class RawDataset:
    """As in nemo_rl."""

    rows: list = field(default_factory=list)


def nemo_stand_ins():
    tools = {"load_dataset_from_path": lambda path: None}
    interfaces = {"EnvironmentInterface": object, "EnvironmentReturn": EnvironmentReturn}
    return [
        ("ray", {"remote": lambda **_: lambda cls: cls}),
        ("nemo_rl.data.datasets.raw_dataset", {"RawDataset": RawDataset}),
        ("nemo_rl.data.datasets.utils", tools),
        ("nemo_rl.environments.interfaces", interfaces),
    ]


def test_nemo_rl_gets_a_reward_of_each_conversation(make_export):
    logs = [
        [{"role": "user", "content": "5?"}, {"role": "assistant", "content": f"\\boxed{{{n}}}"}]
        for n in (5, 6)
    ]
    rows = [{"ground_truth": "5", "weight": 0.5, "id": "a"}] * 2
    with loaded(make_export("nemo-rl"), "nemo_pivottrace.py", nemo_stand_ins()) as module:
        found = module.PivotTraceEnvironment({}).step(logs, rows)
    assert found.rewards.tolist() == [0.5, 0.0] and found.terminateds.tolist() == [1.0, 1.0]
    assert len(found.observations) == len(found.next_stop_strings) == 2


def test_nemo_rl_keeps_every_message_and_masks_what_is_too_long(make_export):
    class Tokenizer:
        def apply_chat_template(self, messages, **_):
            return "".join(f"[{m['role']}]{m['content']}" for m in messages)

        def __call__(self, text, **_):
            return {"input_ids": torch.arange(len(text))[None]}

    row = {
        "prompt": [{"role": "system", "content": "S"}, {"role": "user", "content": "Q"}],
        "ground_truth": "5",
        "weight": 0.5,
        "id": "a",
        "task_name": "pivottrace",
    }
    with loaded(make_export("nemo-rl"), "nemo_pivottrace.py", nemo_stand_ins()) as module:
        found = module.row_processor(row, None, Tokenizer(), 100, 7)
        long = module.row_processor(row, None, Tokenizer(), 10, 7)
    assert found["message_log"][0]["content"] == "[system]S[user]Q"
    assert found["extra_env_info"] == {"ground_truth": "5", "weight": 0.5, "id": "a"}
    assert (found["loss_multiplier"], found["idx"]) == (1.0, 7)
    assert long["loss_multiplier"] == 0.0 and len(long["message_log"][0]["token_ids"]) == 4
