"""What each command says: its help, its last line, and the settings that it takes."""

import os
import re
import shutil
from importlib.resources import files

import pytest

from pivottrace.cli import COMMANDS, main
from pivottrace.commands.usage import EXPERIMENTS, MAIN, STAGES
from pivottrace.config import load_config
from pivottrace.run.directory import RunDir

SMALL = [
    "--questions",
    "world:default?num=6&seed=3",
    "--labels.source",
    "oracle",
    "--budget",
    "3",
    "--rollouts.num-samples",
    "2",
    "--rollouts.max-new-tokens",
    "24",
    "--train.max-new-tokens",
    "24",
]


@pytest.mark.parametrize("command", [*MAIN, *STAGES, *EXPERIMENTS])
def test_each_command_has_its_own_help(command, capsys):
    assert main([*command.split(), "--help"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"usage: pivottrace {command} ")
    assert {name.split()[0] for name in (*MAIN, *STAGES, *EXPERIMENTS)} == set(COMMANDS)


def test_the_help_of_run_has_shortcuts_until_and_every_setting(capsys):
    assert main(["run", "--help"]) == 0
    printed = capsys.readouterr().out
    for words in (
        "--until STAGE",
        "--budget N",
        "--map prompt=COLUMN",
        "--train.learning-rate",
        "--pool.chat-template-args TABLE",
        "--train.enabled {true,false}",
    ):
        assert words in printed


def test_init_writes_every_setting_as_given(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    flags = [
        "--pool.chat-template-args",
        "{enable_thinking = false}",
        "--train.enabled",
        "false",
        "--labels.partial",
        "True",
        "--map",
        "prompt=task",
        "--budget",
        "7",
    ]
    assert main(["init", "my.toml", *flags]) == 0
    assert "next: edit it, then pivottrace validate my.toml" in capsys.readouterr().out
    config = load_config(tmp_path / "my.toml")
    assert str(config.output) == "runs/my"
    assert config.pool.chat_template_args == {"enable_thinking": False}
    assert config.pool.map == {"prompt": "task"}
    assert (config.train.enabled, config.labels.partial, config.labels.budget) == (False, True, 7)
    assert main(["init", "my.toml"]) == 2
    assert "exists already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "count"),
    [
        ({}, "1000"),
        ({"OMP_WAIT_POLICY": "active"}, None),  # a count would override it
        ({"GOMP_SPINCOUNT": "10000"}, "10000"),
        ({"OMP_NUM_THREADS": "1"}, "1000"),
    ],
)
def test_threads_spin_shortly_unless_the_user_says_otherwise(monkeypatch, given, count):
    names = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OMP_NUM_THREADS")
    others = {name: value for name, value in os.environ.items() if name not in names}
    monkeypatch.setattr(os, "environ", {**others, **given})
    assert main(["no-such-command"]) == 2
    assert os.environ.get("GOMP_SPINCOUNT") == count
    assert {name: os.environ[name] for name in given} == given


def test_a_table_with_one_inside_survives_a_flag_beside_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = tmp_path / "given.toml"
    given.write_text('[pool]\nchat_template_args = {a = {b = [1, 2], "c d" = "e"}}\n')
    assert main(["init", "one.toml", "--pool.chat-template-args", "a = {b = 1}"]) == 0
    assert load_config(tmp_path / "one.toml").pool.chat_template_args == {"a": {"b": 1}}
    from pivottrace.commands.flags import load

    expected = load_config(given).pool.chat_template_args
    assert load([str(given), "--seed", "3"]).pool.chat_template_args == expected


def test_validate_says_what_it_looked_at_and_repeats_the_settings(capsys):
    assert main(["validate", *SMALL]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "pool: 6 questions, 0 with an answer"
    assert any(re.match(r"model: embedded on \w+, weights of [\d.]+ MB", line) for line in lines)
    assert lines[-1].startswith(
        "all is well; next: pivottrace run --questions 'world:default?num=6"
    )


@pytest.mark.parametrize("command", ["validate", "run"])
def test_limits_that_leave_a_prompt_no_room_are_refused_with_the_cure(tmp_path, capsys, command):
    """The default fits every model that is in use; a longer limit may not."""
    arguments = ["--questions", "world:default?num=6&seed=3", "--labels.source", "oracle"]
    assert main(["validate", *arguments]) == 0
    capsys.readouterr()
    output = ["--output", str(tmp_path / "run")]
    assert main([command, *arguments, *output, "--rollouts.max-new-tokens", "1024"]) == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.startswith("error: 6 of 6 questions do not fit the model together with a resp")
    found = re.search(
        r"has (\d+) tokens, and the model reads 1024\. Set rollouts\.max_new_tokens \(now 1024\) "
        r"to at most (\d+)\.$",
        message,
    )
    assert int(found[1]) + int(found[2]) == 1024
    limits = ["--rollouts.max-new-tokens", found[2]]
    assert main(["validate", *arguments, *limits]) == 0
    assert not list(tmp_path.glob("run/rounds/00/*/*"))


def test_stages_end_with_their_outputs_and_the_next_command(tmp_path, capsys):
    path = tmp_path / "a run"
    round_path = f"'{path}/rounds/00"
    arguments = ["--output", str(path), *SMALL]
    expected = {
        "greedy": (f"{round_path}/rollouts_greedy'", "trace"),
        "trace": (f"{round_path}/signals', '{path}/reference.json'", "score"),
        "score": (f"{round_path}/scores.parquet', '{path}/reference.json'", "sample"),
        "sample": (f"{round_path}/rollouts_sampled', {round_path}/votes.parquet'", "calibrate"),
    }
    for stage, (outputs, following) in expected.items():
        assert main([stage, *arguments]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines.pop(0) == f"{stage}: {outputs}"
        assert lines.pop() == f"next: pivottrace {following} '{path}'"
        taken = ["samples: 12 of 12 possible (2 for 6 questions)"] if stage == "sample" else []
        assert lines == taken
        arguments = [str(path)]
    assert main(["status", str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines if line.startswith("  done")] == [
        ["done", name] for name in ("pool", "greedy", "trace", "score", "sample")
    ]
    assert lines[-1] == f"next: pivottrace run '{path}'"
    assert main(["report", str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == [f"report: '{path}/report.html'", f"next: pivottrace run '{path}'"]


def test_a_model_without_a_chat_template_is_told_when_it_is_used_and_by_status(tmp_path, capsys):
    model, path = tmp_path / "model", tmp_path / "run"
    shutil.copytree(str(files("pivottrace.world") / "reasoner"), model)
    (model / "chat_template.jinja").unlink()
    settings = (model / "tokenizer_config.json").read_text()
    assert "chat_template" not in settings
    assert main(["greedy", "--output", str(path), *SMALL, "--model", str(model)]) == 0
    notice = "note: the model has no chat template, so questions are put to it as plain text"
    assert notice in capsys.readouterr().err
    assert main(["status", str(path)]) == 0
    assert notice in capsys.readouterr().out


def test_a_run_that_stops_early_leaves_out_what_is_not_there(tmp_path, capsys):
    path = tmp_path / "run"
    assert main(["run", "--output", str(path), *SMALL, "--until", "pool"]) == 0
    printed = capsys.readouterr().out
    assert "None" not in printed and "probes" not in printed
    assert printed.splitlines()[-1] == f"next: pivottrace run {path}"
    assert RunDir.open(path).is_done("pool")
