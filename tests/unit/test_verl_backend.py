"""Training by verl, up to verl: what is refused, the command, and the checkpoints that come back.

The real verl is in tests/integration/test_verl_training.py. Here its Python is a script that gives
the answer of a probe, or that prints the arguments of the trainer.
"""

import json
import subprocess
import sys

import pytest
from train_stage_run import ROUTES, give, make_run

from pivottrace.config import parse_config
from pivottrace.errors import ConfigError, RunDirError, TornFileError
from pivottrace.run.directory import RunDir
from pivottrace.training import verl_environment as of_verl
from pivottrace.training.reward import check_training
from pivottrace.training.verl_run import checkpointed_step, metrics_of

FITTING = {
    "backend": "verl",
    "verl_arguments": ["actor_rollout_ref.rollout.gpu_memory_utilization=0.4", "+a.b='c d'"],
}
VERSIONS = {"verl": "0.9.1", "torch": "2.11.0", "vllm": "0.24.0"}
ANSWER = {"versions": VERSIONS, "missing": [], "gpus": 0, "refused": None}


def config(**sections):
    sections = {"weak": {"reward": "frozen_majority"}, "alarms": {"enabled": False}} | sections
    sections["train"] = {"backend": "verl"} | sections.get("train", {})
    return parse_config(sections, "test")


def python_that_says(tmp_path, text, code=0):
    path = tmp_path / "python"
    path.write_text(f"#!/bin/sh\ncat <<'END'\n{text}\nEND\necho 'Oh: no' >&2\nexit {code}\n")
    path.chmod(0o755)
    return str(path)


def python_that_answers(tmp_path, **changed):
    return python_that_says(tmp_path, f"a warning\n{json.dumps(ANSWER | changed)}")


# Settings -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("section", "key", "value", "told"),
    [
        ("weak", "reward", "majority", "weak.reward = majority: verl rewards one response"),
        ("weak", "reward", "token_entropy", "take frozen_majority"),
        ("alarms", "enabled", True, "alarms.enabled = true"),
        ("refine", "rule", "label_refinement", "refine.rule = label_refinement"),
        ("train", "order", "learnable", "train.order = learnable"),
        ("train", "schedule", "linear", "train.schedule = linear"),
        ("train", "precision", "float32", "train.precision = float32"),
        ("rollouts", "stop", ["</answer>"], "rollouts.stop"),
        ("train", "verl_arguments", ["++trainer.save_freq=3"], "set train.save_steps"),
        ("train", "verl_arguments", ["model_engine=megatron"], "merged as one of FSDP"),
    ],
)
def test_a_setting_that_verl_cannot_follow_is_refused_by_name(section, key, value, told):
    check_training(config())
    with pytest.raises(ConfigError, match="cannot follow these settings") as caught:
        check_training(config(**{section: {key: value}}))
    assert told in str(caught.value)


def test_all_such_settings_are_named_at_once():
    with pytest.raises(ConfigError) as caught:
        check_training(parse_config({"train": {"backend": "verl"}}, "test"))
    assert "weak.reward" in str(caught.value) and "alarms.enabled" in str(caught.value)


def test_several_processes_are_verls_own(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="several processes: verl starts its own"):
        check_training(config())


# The environment ----------------------------------------------------------------------------------


def environment(python, **train):
    return of_verl.verl_environment(config(train={"verl_python": python, **train}).train)


def test_the_environment_tells_its_versions_and_devices(tmp_path):
    found = environment(python_that_answers(tmp_path, gpus=8))
    assert found.in_words() == "verl 0.9.1 (torch 2.11.0, vllm 0.24.0) on 8 CUDA devices"
    assert found.engine == "vllm" and found.lacks() is None
    found = environment(python_that_answers(tmp_path))
    assert "sees no CUDA device" in found.lacks()
    found = environment(python_that_answers(tmp_path, versions={"verl": "0.9.0"}, gpus=1))
    assert "neither vllm nor sglang" in found.lacks()


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"versions": {}}, r"has no verl. Install it: .*python -m pip install 'verl\[vllm\]==0"),
        ({"versions": {"verl": "0.8.1"}}, r"has verl 0.8.1, and only 0.9.x is known to fit"),
        ({"versions": {"verl": "0.10.0"}}, "has verl 0.10.0"),
        (
            {"missing": ["transfer_queue", "math_verify"]},
            r"lacks transfer_queue and math_verify, .* 'verl\[verl-core\]==0.9.1' math-verify$",
        ),
        ({"refused": "Could not override 'a.b'."}, "train.verl_arguments: verl 0.9.1 says: Could"),
    ],
)
def test_an_environment_that_does_not_fit_is_refused_with_the_cure(tmp_path, changed, told):
    with pytest.raises(ConfigError, match=told) as caught:
        environment(python_that_answers(tmp_path, **changed))
    assert "\n" not in str(caught.value)


def test_a_missing_tracker_is_named_with_the_others(tmp_path):
    python = python_that_answers(tmp_path, missing=["trackio"])
    with pytest.raises(ConfigError, match=r"lacks trackio, .* math-verify trackio$"):
        environment(python, tracker="trackio")


def test_a_python_that_is_none_is_refused(tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match=r"needs train.verl_python"):
        environment(None)
    with pytest.raises(ConfigError, match=r"'/no/python': there is no such file"):
        environment("/no/python")
    (tmp_path / "text").write_text("no program")
    with pytest.raises(ConfigError, match=r"text cannot be run \(Permission denied\)"):
        environment(str(tmp_path / "text"))
    with pytest.raises(ConfigError, match=r"cannot be imported by .*: Oh: no \(exit code 3\)"):
        environment(python_that_says(tmp_path, "", code=3))
    with pytest.raises(ConfigError, match="does not answer as a Python does"):
        environment(python_that_says(tmp_path, "hello"))
    with pytest.raises(ConfigError, match="is PivotTrace's own, and verl pins other versions"):
        environment(sys.executable)
    monkeypatch.setattr(of_verl, "PROBE_S", 0.2)
    slow = tmp_path / "slow"
    slow.write_text("#!/bin/sh\nexec sleep 60\n")
    slow.chmod(0o755)
    with pytest.raises(ConfigError, match=r"gave no answer within 0 s. Try: .*slow -c"):
        environment(str(slow))


# The stage ----------------------------------------------------------------------------------------


@pytest.fixture
def ready(start, tokenizer, tmp_path):
    """A run that trains by verl, whose environment has no GPU."""

    def make(**train):
        python = python_that_answers(tmp_path, gpus=0)
        run = make_run(
            tmp_path,
            start,
            tokenizer,
            ROUTES,
            weak={"reward": "frozen_majority"},
            alarms={"enabled": False},
            **{"verl_python": python, "evaluate_steps": 0, **FITTING, **train},
        )
        give(run, "q0", "a", "column", "annotation")
        run.mark_done("triage", counts={})
        return run

    return make


def train(run):
    from pivottrace.stages import train as stage

    with run.locked():
        stage.run(run)


def words_of(run, tmp_path, **variables):
    """The arguments of verl's trainer as `command.sh` gives them."""
    program = tmp_path / "program"
    program.write_text('#!/bin/sh\nfor word; do printf "%s\\0" "$word"; done\n')
    program.chmod(0o755)
    command = run.round_path / "train" / "verl" / "command.sh"
    environment = {"PYTHON": str(program), "PATH": "/usr/bin:/bin", **variables}
    done = subprocess.run([command], capture_output=True, text=True, env=environment, check=True)
    return done.stdout.split("\0")[:-1]


def test_without_a_gpu_the_message_has_the_command(ready, tmp_path):
    run = ready(micro_batch_size=2, save_steps=3, gradient_checkpointing=True, beta=0.1)
    with pytest.raises(RunDirError, match="sees no CUDA device") as caught:
        train(run)
    folder = run.round_path / "train" / "verl"
    assert "\n" not in str(caught.value) and str(folder / "command.sh") in str(caught.value)
    assert "step 0 of 2" in str(caught.value) and f"pivottrace run {run.path}" in str(caught.value)
    words = words_of(run, tmp_path)
    assert words[:2] == ["-m", "verl.trainer.main_ppo"]
    assert {
        f"data.train_files='{folder}/export/train.parquet'",
        f"actor_rollout_ref.model.path='{tmp_path}/start'",
        f"trainer.default_local_dir='{folder}/checkpoints'",
        "algorithm.adv_estimator=pivottrace_grpo",
        "algorithm.norm_adv_by_std_in_grpo=True",
        "actor_rollout_ref.rollout.n=4",
        "actor_rollout_ref.rollout.seed=0",
        "data.seed=0",
        "actor_rollout_ref.actor.optim.lr=0.01",
        "actor_rollout_ref.actor.use_kl_loss=True",
        "actor_rollout_ref.actor.kl_loss_coef=0.1",
        "actor_rollout_ref.actor.use_dynamic_bsz=False",
        "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=2",
        "actor_rollout_ref.model.enable_gradient_checkpointing=True",
        "data.max_response_length=5",
        "trainer.total_training_steps=2",
        "trainer.save_freq=3",
        "trainer.test_freq=-1",
        "trainer.val_before_train=False",
        "trainer.max_actor_ckpt_to_keep=2",
        'trainer.logger=["console", "file"]',
        'trainer.experiment_name="run"',
        "trainer.n_gpus_per_node=1",
        "actor_rollout_ref.rollout.name=vllm",
    } <= set(words)
    assert words[-2:] == FITTING["verl_arguments"], "the user's own arguments come last"


def test_another_machine_gives_its_own_values(ready, tmp_path):
    run = ready(lora_rank=4, lora_target="q_proj, v_proj", tracker="wandb")
    with pytest.raises(RunDirError, match="sees no CUDA device"):
        train(run)
    words = words_of(run, tmp_path, MODEL="my models/a", GPUS="8", ENGINE="sglang", NODES="2")
    assert {
        "actor_rollout_ref.model.path='my models/a'",
        "trainer.n_gpus_per_node=8",
        "trainer.nnodes=2",
        "actor_rollout_ref.rollout.name=sglang",
        'actor_rollout_ref.model.target_modules=["q_proj", "v_proj"]',
        'trainer.logger=["console", "file", "wandb"]',
    } <= set(words)


def test_the_learning_curve_is_of_verls_own_tests(ready, tmp_path):
    run = ready(evaluate_steps=5, evaluate_limit=3)
    with pytest.raises(RunDirError, match="sees no CUDA device"):
        train(run)
    assert {
        "trainer.test_freq=5",
        "trainer.val_before_train=True",
        "data.val_max_samples=3",
    } <= set(words_of(run, tmp_path))


def test_until_verl_has_a_checkpoint_settings_may_change(ready):
    run = ready()
    with pytest.raises(RunDirError, match="sees no CUDA device"):
        train(run)
    values = run.config.model_dump(mode="json")
    values["train"]["learning_rate"] = 0.5
    changed = RunDir.create(parse_config(values, "test"))
    with pytest.raises(RunDirError, match="sees no CUDA device"):
        train(changed)
    folder = run.round_path / "train" / "verl"
    assert "optim.lr=0.5" in (folder / "export" / "train.sh").read_text()
    checkpoint(folder, 1)
    with pytest.raises(ConfigError, match=r"train.learning_rate: was 0.5, now 0.01"):
        RunDir.create(run.config)
    with pytest.raises(RunDirError, match="step 1 of 2 is done"):
        train(changed)


def test_checkpoints_of_another_training_are_refused(ready):
    """They were made elsewhere by the first settings, and come back to a run with others."""
    run = ready()
    with pytest.raises(RunDirError, match="sees no CUDA device"):
        train(run)
    folder = run.round_path / "train" / "verl"
    brought = (folder / "checkpoints" / "settings.json").read_bytes()
    values = run.config.model_dump(mode="json")
    values["train"]["learning_rate"] = 0.5
    changed = RunDir.create(parse_config(values, "test"))
    with pytest.raises(RunDirError, match="sees no CUDA device"):
        train(changed)
    (folder / "checkpoints" / "settings.json").write_bytes(brought)
    checkpoint(folder, 2)
    with pytest.raises(ConfigError, match=r"learning_rate: was 0.01, now 0.5"):
        train(changed)


def test_a_model_without_a_chat_template_is_refused(start, tmp_path):
    from training_run import build_tokenizer

    run = make_run(
        tmp_path,
        start,
        build_tokenizer(template=None),
        ROUTES,
        weak={"reward": "frozen_majority"},
        alarms={"enabled": False},
        verl_python=python_that_answers(tmp_path),
        **FITTING,
    )
    give(run, "q0", "a", "column", "annotation")
    with pytest.raises(ConfigError, match="has no chat template"):
        train(run)


def test_a_run_says_at_its_start_that_it_cannot_train_here(tmp_path, capsys):
    from pivottrace.cli import main

    arguments = ["--pool.questions", "world:default?num=24&seed=3", "--labels.source", "oracle"]
    arguments += ["--weak.reward", "frozen_majority", "--alarms.enabled", "False"]
    arguments += ["--train.backend", "verl", "--labels.budget", "12"]
    arguments += ["--output", str(tmp_path / "run"), "--rollouts.max-new-tokens", "128"]
    assert main(["run", *arguments, "--until", "greedy"]) == 2
    assert "needs train.verl_python" in capsys.readouterr().err
    assert not (tmp_path / "run" / "pool.parquet").exists(), "nothing is spent before"
    arguments += ["--train.verl-python", python_that_answers(tmp_path)]
    from pivottrace.commands.flags import load
    from pivottrace.stages import pool

    pool.run(RunDir.create(load(arguments)))
    assert "stops there with the command for a machine that can train" in capsys.readouterr().err
    assert main(["validate", *arguments]) == 0
    told = capsys.readouterr().out
    assert "training: by verl 0.9.1" in told and "sees no CUDA device" in told


# Checkpoints and metrics --------------------------------------------------------------------------


def checkpoint(folder, step, shards=2):
    actor = folder / "checkpoints" / f"global_step_{step}" / "actor"
    (actor / "huggingface").mkdir(parents=True)
    (actor / "huggingface" / "config.json").write_text("{}")
    (actor / "fsdp_config.json").write_text(json.dumps({"world_size": shards}))
    for rank in range(shards):
        (actor / f"model_world_size_{shards}_rank_{rank}.pt").write_text("")
    (actor.parent / "data.pt").write_text("")
    (folder / "checkpoints" / "latest_checkpointed_iteration.txt").write_text(str(step))
    return actor


def test_the_last_checkpoint_is_the_one_that_verl_noted(tmp_path):
    assert checkpointed_step(tmp_path) == 0
    checkpoint(tmp_path, 50)
    torn = checkpoint(tmp_path, 100)
    assert checkpointed_step(tmp_path) == 100
    note = tmp_path / "checkpoints" / "latest_checkpointed_iteration.txt"
    note.write_text("50")  # it was killed while it wrote the second
    (torn / "model_world_size_2_rank_1.pt").unlink()
    assert checkpointed_step(tmp_path) == 50


def test_a_checkpoint_that_is_not_whole_is_refused_and_never_removed(tmp_path):
    actor = checkpoint(tmp_path, 50)
    note = tmp_path / "checkpoints" / "latest_checkpointed_iteration.txt"
    note.unlink()
    with pytest.raises(TornFileError, match=r"is missing beside global_step_50. Copy the whole"):
        checkpointed_step(tmp_path)
    note.write_text("fifty")
    with pytest.raises(TornFileError, match="holds no number of a step"):
        checkpointed_step(tmp_path)
    note.write_text("50")
    (actor / "model_world_size_2_rank_1.pt").unlink()
    with pytest.raises(TornFileError, match=r"model_world_size_2_rank_1.pt is missing"):
        checkpointed_step(tmp_path)
    note.unlink()
    assert checkpointed_step(tmp_path) == 0, "a kill came before the first checkpoint was whole"
    assert actor.is_dir()


def test_metrics_of_a_resumed_training_have_each_step_once(tmp_path):
    folder = tmp_path / "metrics"
    folder.mkdir()

    def line(step, reward, tokens=10):
        data = {"critic/score/mean": reward, "perf/total_num_tokens": tokens, "other": None}
        return json.dumps({"step": step, "data": data}) + "\n"

    (folder / "100.jsonl").write_text(line(1, 0.1) + line(2, 0.2) + line(3, 0.3))
    (folder / "200.jsonl").write_text(line(3, 0.4) + line(4, 0.5) + '{"step": 5, "da')
    rows = metrics_of(tmp_path)
    assert [(row["step"], row["reward"], row["num_tokens"]) for row in rows] == [
        (1, 0.1, 10),
        (2, 0.2, 20),
        (3, 0.4, 30),
        (4, 0.5, 40),
    ]
    assert rows[0]["critic/score/mean"] == 0.1 and metrics_of(folder) == []
